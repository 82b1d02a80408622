/* SPDX-License-Identifier: GPL-2.0 */
/*
 * C shims of rcu_ptr.ko: macros, inlines, tracepoints, parameters and exports
 * that Rust can't reach.  No logic lives here.
 */
#ifndef _RCU_PTR_SHIM_H
#define _RCU_PTR_SHIM_H

#include <linux/jump_label.h>
#include <linux/lockdep_types.h>
#include <linux/spinlock_types.h>
#include <linux/types.h>
#include <linux/workqueue_types.h>
#ifdef CONFIG_ARM64
#include <asm/cpucaps.h>
#endif

struct module;
struct rcu_ptr_cache;
struct rcu_ptr_cache_args;
struct rcu_work;
struct srcu_struct;
struct delayed_work;
struct irq_work;

unsigned long rcu_ptr_shim_irq_save(void);
void rcu_ptr_shim_irq_restore(unsigned long flags);

void rcu_ptr_shim_preempt_disable(void);
void rcu_ptr_shim_preempt_enable(void);
void rcu_ptr_shim_preempt_check(void);

#ifdef CONFIG_ARM64
/* Capabilities that code is patched for, rust/sys/core/this_cpu/arm64.rs. */
enum rcu_ptr_cpucap {
	RCU_PTR_CPUCAP_VHE = ARM64_HAS_VIRT_HOST_EXTN,
	RCU_PTR_CPUCAP_LSE = ARM64_HAS_LSE_ATOMICS,
};
#endif

void rcu_ptr_shim_raw_lock_init(raw_spinlock_t *lock, const char *name,
				struct lock_class_key *key);
void rcu_ptr_shim_raw_lock(raw_spinlock_t *lock);
bool rcu_ptr_shim_raw_trylock(raw_spinlock_t *lock);
void rcu_ptr_shim_raw_unlock(raw_spinlock_t *lock);
void rcu_ptr_shim_raw_assert_held(raw_spinlock_t *lock);

void *rcu_ptr_shim_per_cpu(void __percpu *base, int cpu);
int rcu_ptr_shim_next_possible_cpu(int cpu);
int rcu_ptr_shim_nr_cpu_ids(void);
bool rcu_ptr_shim_cpu_online(int cpu);
bool rcu_ptr_shim_cpu_dying(int cpu);

bool rcu_ptr_shim_irq_works_run(void);
void rcu_ptr_shim_set_irq_works_run(bool run);

void rcu_ptr_shim_init_rcu_work(struct rcu_work *work, work_func_t func);
/* Each has a lockdep class of its own. */
enum rcu_ptr_work {
	RCU_PTR_WORK_FREES,
	RCU_PTR_WORK_DESTRUCTS,
	RCU_PTR_WORK_ALLOCATES,
	RCU_PTR_WORK_CALLS,
	RCU_PTR_WORK_SLEEPS,
};

void rcu_ptr_shim_init_delayed_work(struct delayed_work *work,
				    work_func_t func, enum rcu_ptr_work class);

void rcu_ptr_shim_init_irq_work(struct irq_work *work,
				void (*func)(struct irq_work *work), int flags);

void rcu_ptr_shim_call_rcu(struct rcu_head *head, rcu_callback_t func);
bool rcu_ptr_shim_srcu_waits_for_rcu(struct srcu_struct *srcu);
void rcu_ptr_shim_srcu_wait(struct srcu_struct *srcu);
void rcu_ptr_shim_callback_enter(void);
void rcu_ptr_shim_callback_exit(void);
void rcu_ptr_shim_call_enter(void);
void rcu_ptr_shim_call_exit(void);
void rcu_ptr_shim_call_wait(void);
void rcu_ptr_shim_destruct(void (*dtor)(void *object), void *object);
void rcu_ptr_shim_dtor_wait(void);
void rcu_ptr_shim_invoke(struct rcu_head *head, rcu_callback_t func);
void rcu_ptr_shim_bh_disable(void);
void rcu_ptr_shim_bh_enable(void);
void rcu_ptr_shim_cond_resched(void);
void rcu_ptr_shim_might_sleep(void);

bool rcu_ptr_shim_wait_var(void *var, bool (*done)(void *arg), void *arg);
void rcu_ptr_shim_wake_var(void *var);

bool rcu_ptr_shim_get_module(void);
void rcu_ptr_shim_put_module(void);
int rcu_ptr_shim_watch_modules(void);
void rcu_ptr_shim_unwatch_modules(void);
void rcu_ptr_rs_module_going(struct module *module);
bool rcu_ptr_shim_work_pending(struct delayed_work *work);
bool rcu_ptr_shim_module_uses_this(const struct module *module);
unsigned long rcu_ptr_shim_module_text(const struct module *module);
unsigned int rcu_ptr_shim_module_text_size(const struct module *module);

void *rcu_ptr_shim_alloc_page(gfp_t gfp);
void *rcu_ptr_shim_alloc_page_nolock(void);
unsigned long rcu_ptr_shim_vmalloc_start(void);
unsigned long rcu_ptr_shim_vmalloc_end(void);

void *rcu_ptr_shim_kmalloc(size_t size, gfp_t gfp);
void *rcu_ptr_shim_kmalloc_nolock(size_t size);

void rcu_ptr_shim_warn_zero(void);
void rcu_ptr_shim_might_alloc(gfp_t gfp);
bool rcu_ptr_shim_is_kfence(const void *object);

/* What this kernel does when objects are allocated and freed. */
enum rcu_ptr_checks {
	RCU_PTR_CHECKS_OBJECTS = 1,
	RCU_PTR_CHECKS_INIT_ON_ALLOC = 2,
	RCU_PTR_CHECKS_INIT_ON_FREE = 4,
};

unsigned int rcu_ptr_shim_checks(void);

int rcu_ptr_shim_nr_node_ids(void);
int rcu_ptr_shim_node_of(const void *object);
int rcu_ptr_shim_node_of_cpu(int cpu);

/* What the caller of an any-context function was doing. */
enum rcu_ptr_context {
	RCU_PTR_CONTEXT_MAY_LOCK = 1,
	RCU_PTR_CONTEXT_PREEMPTIBLE = 2,
};

unsigned int rcu_ptr_shim_context(void);

bool rcu_ptr_shim_debug_queue(void *ptr);
void rcu_ptr_shim_debug_unqueue(void *ptr);
void rcu_ptr_shim_kmemleak_ignore(const void *ptr);
void rcu_ptr_shim_kmemleak_scan(const void *ptr, size_t size);
void rcu_ptr_shim_kmemleak_free(const void *ptr);
void rcu_ptr_shim_warn_user(void *ptr, void *field, unsigned long caller);
void rcu_ptr_shim_warn_align(void *ptr, void *field, unsigned long caller);
void rcu_ptr_shim_warn_offset(void *ptr, void *field, unsigned long caller);
void rcu_ptr_shim_warn_double(void *ptr, void *field, unsigned long caller);
void rcu_ptr_shim_warn_no_func(void *ptr, void *field, unsigned long caller);
void rcu_ptr_shim_warn_barrier(void);
void rcu_ptr_shim_warn_endless(unsigned long objects);
void rcu_ptr_shim_warn_early(void *ptr);
void rcu_ptr_shim_warn_held(const char *name, long objects,
			    unsigned long caller);
void rcu_ptr_shim_warn_freed_twice(const char *name, unsigned long ptr,
				   unsigned long caller);
void rcu_ptr_shim_warn_nested(const char *name);

void rcu_ptr_shim_trace_queue(int engine, int channel, int kind, void *ptr,
			      unsigned long caller);
void rcu_ptr_shim_trace_invoke(int kind, void *head, unsigned long func);
void rcu_ptr_shim_trace_batch_start(int cpu, int batch, unsigned long slab,
				    unsigned long vmalloc, unsigned long list,
				    unsigned long mixed, unsigned long calls,
				    unsigned long gp);
void rcu_ptr_shim_trace_batch_end(int cpu, int batch, unsigned long slab,
				  unsigned long vmalloc, unsigned long list,
				  unsigned long mixed, unsigned long calls,
				  unsigned long gp);
void rcu_ptr_shim_trace_free(void **objects, unsigned long count);
void rcu_ptr_shim_trace_refill(int cpu, unsigned long blocks,
			       unsigned long wanted);
void rcu_ptr_shim_trace_shrink(int cpu, unsigned long blocks,
			       unsigned long objects);
void rcu_ptr_shim_trace_defer(int cpu, int what, unsigned long pending);
void rcu_ptr_shim_trace_sheaf_wait(const char *cache, int cpu,
				   unsigned long sheaves, unsigned long full);
void rcu_ptr_shim_trace_sheaf_refill(const char *cache, int cpu,
				     unsigned long objects);
void rcu_ptr_shim_trace_sheaf_drain(const char *cache, int cpu,
				    unsigned long waiting, unsigned long stock);
void rcu_ptr_shim_trace_sheaf_shrink(const char *cache, int node, int why,
				     unsigned long full, unsigned long empty);

/* Parameters: the numbers behind /sys/module/rcu_ptr/parameters. */
enum rcu_ptr_param {
	RCU_PTR_PARAM_ENGINE,
	RCU_PTR_PARAM_MIN_CACHED_OBJS,
	RCU_PTR_PARAM_FILL_DELAY,
	RCU_PTR_PARAM_DRAIN_INTERVAL,
};

/* The ways in that know their caller: jumped to from the exported functions. */
void rcu_ptr_shim_kvfree(void *field, void *ptr);
void rcu_ptr_shim_kvfree_no_slot(void *field, void *ptr);
void rcu_ptr_shim_kfree_nolock(void *field, void *ptr);
bool rcu_ptr_shim_try_kfree_nolock(void *ptr);
void rcu_ptr_shim_call(struct rcu_head *head, rcu_callback_t func, bool sleeps);
void rcu_ptr_shim_call_no_slot(unsigned long word);
void rcu_ptr_shim_cache_no_slot(struct rcu_ptr_cache *cache, void *object);
void rcu_ptr_shim_cache_twice(struct rcu_ptr_cache *cache, void *object);

/* Engine lockless, rust/sys/core/current_block.rs. */
struct rcu_ptr_engine_key {
	struct static_key_false key;
};

extern struct rcu_ptr_engine_key rcu_ptr_lockless_key;
DECLARE_PER_CPU(unsigned long, rcu_ptr_current_block);
void rcu_ptr_shim_enable_lockless(void);
unsigned long *rcu_ptr_shim_current_block(int cpu);

/* Defined in Rust, rust/rcu_ptr/exports.rs. */
void rcu_ptr_rs_kvfree(void *field, void *ptr, unsigned long caller);
void rcu_ptr_rs_kvfree_no_slot(void *field, void *ptr, unsigned long caller);
void rcu_ptr_rs_kfree_nolock(void *field, void *ptr, unsigned long caller);
bool rcu_ptr_rs_try_kfree_nolock(void *ptr, unsigned long caller);
void rcu_ptr_rs_kvfree_mightsleep(void *ptr, unsigned long caller);
void rcu_ptr_rs_call(struct rcu_head *head, rcu_callback_t func, bool sleeps,
		     unsigned long caller);
void rcu_ptr_rs_call_no_slot(unsigned long word, unsigned long caller);
void rcu_ptr_rs_barrier(void);
void rcu_ptr_rs_barrier_objects(void);
unsigned long rcu_ptr_rs_word(int cpu, unsigned int index);
int rcu_ptr_rs_cache_create(const char *name, unsigned int size,
			    const struct rcu_ptr_cache_args *args,
			    unsigned int flags, struct rcu_ptr_cache **out);
void rcu_ptr_rs_cache_destroy(struct rcu_ptr_cache *cache,
			      unsigned long caller);
void rcu_ptr_rs_cache_barrier(struct rcu_ptr_cache *cache);
void rcu_ptr_rs_cache_no_slot(struct rcu_ptr_cache *cache, void *object,
			      unsigned long caller);
void rcu_ptr_rs_cache_twice(struct rcu_ptr_cache *cache, void *object,
			    unsigned long caller);
int rcu_ptr_rs_param_set(int param, const char *val);
int rcu_ptr_rs_param_get(int param, char *buf, size_t size);

#endif /* _RCU_PTR_SHIM_H */
