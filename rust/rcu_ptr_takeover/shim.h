/* SPDX-License-Identifier: GPL-2.0 */
/*
 * C shims of rcu_ptr_takeover.ko: what ftrace calls, per-CPU counters, and the
 * kernel's functions by another way than their names.  No logic lives here.
 */
#ifndef _RCU_PTR_TAKEOVER_SHIM_H
#define _RCU_PTR_TAKEOVER_SHIM_H

#include <linux/types.h>

struct kmem_cache;
struct kvfree_rcu_head;

/* What became of a call, and what is counted: rust/rcu_ptr_takeover/redirect.rs. */
enum rcu_ptr_takeover_count {
	RCU_PTR_TAKEOVER_KVFREE,
	RCU_PTR_TAKEOVER_KVFREE_NMI,
	RCU_PTR_TAKEOVER_NOLOCK,
	RCU_PTR_TAKEOVER_NOLOCK_NMI,
	RCU_PTR_TAKEOVER_HEADLESS,
	RCU_PTR_TAKEOVER_HEADLESS_SLEPT,
	RCU_PTR_TAKEOVER_DESTROYED,
	RCU_PTR_TAKEOVER_MODULES_GONE,
	/* From here on: more is to be done. */
	RCU_PTR_TAKEOVER_WHILE_DESTROYING,
	RCU_PTR_TAKEOVER_NOT_WATCHING,
	RCU_PTR_TAKEOVER_NO_ROOM,
	RCU_PTR_TAKEOVER_COUNTS,
};

u64 rcu_ptr_takeover_shim_sum(unsigned int count);
void rcu_ptr_takeover_shim_count(unsigned int count);

/* Whether calls can be redirected, and by a jump. */
bool rcu_ptr_takeover_shim_can(void);
bool rcu_ptr_takeover_shim_can_jump(void);
bool rcu_ptr_takeover_shim_wants_jump(void);

/* Functions of the kernel that are redirected. */
enum rcu_ptr_takeover_function {
	RCU_PTR_TAKEOVER_FN_DESTROY,
	RCU_PTR_TAKEOVER_FN_KVFREE,
	RCU_PTR_TAKEOVER_FN_NOLOCK,
	RCU_PTR_TAKEOVER_FUNCTIONS,
};

int rcu_ptr_takeover_shim_register(unsigned int function, bool jump);
int rcu_ptr_takeover_shim_unregister(unsigned int function);

void rcu_ptr_takeover_shim_destroy(struct kmem_cache *cache);
int rcu_ptr_takeover_shim_drain_deferred(void);

/* The kernel's functions behind the nop at their entry. */
void rcu_ptr_takeover_kvfree_behind(struct kvfree_rcu_head *head, void *ptr);
void rcu_ptr_takeover_nolock_behind(struct kvfree_rcu_head *head, void *ptr);
void rcu_ptr_takeover_shim_kvfree(struct kvfree_rcu_head *head, void *ptr);
void rcu_ptr_takeover_shim_nolock(struct kvfree_rcu_head *head, void *ptr);
void rcu_ptr_takeover_shim_synchronize(void);
void rcu_ptr_takeover_shim_sleep(void);
int rcu_ptr_takeover_shim_notify(void);
void rcu_ptr_takeover_shim_no_notify(void);

/* Defined in Rust, rust/sys/takeover/mod.rs. */
int rcu_ptr_takeover_rs_kvfree(struct kvfree_rcu_head *head, void *ptr,
			       unsigned long caller, bool nmi);
int rcu_ptr_takeover_rs_nolock(struct kvfree_rcu_head *head, void *ptr,
			       unsigned long caller, bool nmi);
int rcu_ptr_takeover_rs_headless(void *ptr);
void rcu_ptr_takeover_rs_kvfree_rest(struct kvfree_rcu_head *head, void *ptr,
				     unsigned long caller);
void rcu_ptr_takeover_rs_nolock_rest(struct kvfree_rcu_head *head, void *ptr);
void rcu_ptr_takeover_rs_destroy(struct kmem_cache *cache);
void rcu_ptr_takeover_rs_module_gone(void);

#endif /* _RCU_PTR_TAKEOVER_SHIM_H */
