/* SPDX-License-Identifier: GPL-2.0 */
/* What C calls and Rust defines. */
#ifndef _RCU_PTR_RS_H
#define _RCU_PTR_RS_H

#include <linux/types.h>

struct kmem_cache;
struct kvfree_rcu_head;
struct module;
struct rcu_head;
struct rcu_ptr_cache;
struct rcu_ptr_cache_args;
struct task_struct;

/* exports.rs of rust/rcu_ptr. */
void rcu_ptr_rs_kvfree(void *field, void *ptr, unsigned long caller);
void rcu_ptr_rs_kvfree_no_slot(void *field, void *ptr, unsigned long caller);
void rcu_ptr_rs_kfree_nolock(void *field, void *ptr, unsigned long caller);
bool rcu_ptr_rs_try_kfree_nolock(void *ptr, unsigned long caller);
void rcu_ptr_rs_call(struct rcu_head *head, rcu_callback_t func, bool sleeps,
		     unsigned long caller);
void rcu_ptr_rs_call_no_slot(unsigned long word, unsigned long caller);
int rcu_ptr_rs_cache_create(const char *name, unsigned int size,
			    const struct rcu_ptr_cache_args *args,
			    unsigned int flags, struct rcu_ptr_cache **out);
void rcu_ptr_rs_cache_destroy(struct rcu_ptr_cache *cache,
			      unsigned long caller);
void rcu_ptr_rs_cache_no_slot(struct rcu_ptr_cache *cache, void *object,
			      unsigned long caller);
void rcu_ptr_rs_cache_twice(struct rcu_ptr_cache *cache, void *object,
			    unsigned long caller);
int rcu_ptr_rs_param_set(int param, const char *val);
int rcu_ptr_rs_param_get(int param, char *buf, size_t size);
void rcu_ptr_rs_module_going(struct module *module);

/* perf.rs, step.rs and nmi.rs. */
bool rcu_ptr_rs_overflow(void *hook, unsigned long pc, unsigned long sp);
u64 rcu_ptr_rs_counted(void *hook, unsigned long pc, unsigned long sp,
		       bool irqs_off);
bool rcu_ptr_rs_step(unsigned long pc, unsigned long sp);
void rcu_ptr_rs_nmi(void);

/* switches.rs. */
void rcu_ptr_rs_switch(void *context, struct task_struct *prev,
		       struct task_struct *next, bool sleeps,
		       unsigned long ip);

/* exports.rs of rust/rcu_ptr_takeover, and what C calls of its own assembly. */
int rcu_ptr_takeover_rs_call(struct kvfree_rcu_head *head, void *ptr,
			     unsigned long caller, bool nolock, bool nmi);
void rcu_ptr_takeover_rs_rest(struct kvfree_rcu_head *head, void *ptr,
			      unsigned long caller, bool nolock);
void rcu_ptr_takeover_rs_destroy(struct kmem_cache *cache);
void rcu_ptr_takeover_rs_module_gone(void);
void rcu_ptr_takeover_kvfree_behind(struct kvfree_rcu_head *head, void *ptr);
void rcu_ptr_takeover_nolock_behind(struct kvfree_rcu_head *head, void *ptr);

/* runner.rs of rust/rcu_ptr_kunit. */
void rcu_ptr_rs_case(void *test_case);
void rcu_ptr_rs_live(void);

#endif /* _RCU_PTR_RS_H */
