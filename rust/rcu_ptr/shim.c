// SPDX-License-Identifier: GPL-2.0
/*
 * C shims of rcu_ptr.ko: macros, inlines, tracepoints, parameters and exports
 * that Rust can't reach.  No logic lives here.
 */
#include <linux/bottom_half.h>
#include <linux/cpumask.h>
#include <linux/debugobjects.h>
#include <linux/gfp.h>
#include <linux/irq_work.h>
#include <linux/irqflags.h>
#include <linux/jump_label.h>
#include <linux/kasan-enabled.h>
#include <linux/kernfs.h>
#include <linux/kfence.h>
#include <linux/kmemleak.h>
#include <linux/lockdep.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/srcu.h>
#include <linux/spinlock.h>
#include <linux/vmalloc.h>
#include <linux/wait_bit.h>
#include <linux/topology.h>
#include <linux/workqueue.h>
#include <linux/rcu_ptr.h>
#include <linux/rcu_ptr_test.h>

#define CREATE_TRACE_POINTS
#include <trace/events/rcu_ptr.h>

#include "shim.h"

/* For tests, which count events. */
EXPORT_TRACEPOINT_SYMBOL_GPL(rcu_ptr_queue);
EXPORT_TRACEPOINT_SYMBOL_GPL(rcu_ptr_invoke);
EXPORT_TRACEPOINT_SYMBOL_GPL(rcu_ptr_batch_start);
EXPORT_TRACEPOINT_SYMBOL_GPL(rcu_ptr_batch_end);
EXPORT_TRACEPOINT_SYMBOL_GPL(rcu_ptr_free);
EXPORT_TRACEPOINT_SYMBOL_GPL(rcu_ptr_refill);
EXPORT_TRACEPOINT_SYMBOL_GPL(rcu_ptr_shrink);
EXPORT_TRACEPOINT_SYMBOL_GPL(rcu_ptr_defer);

/* The interface: the caller is known here only. */

/*
 * Defined in rust/rcu_ptr/exports.rs: the common path of engine lockless. They
 * end in a jump to one of the functions below where there is more to do.
 */
EXPORT_SYMBOL_GPL(__rcu_ptr_kvfree);
EXPORT_SYMBOL_GPL(__rcu_ptr_kfree_nolock);
EXPORT_SYMBOL_GPL(__rcu_ptr_try_kfree_nolock);
EXPORT_SYMBOL_GPL(rcu_ptr_call);
EXPORT_SYMBOL_GPL(rcu_ptr_call_sleepable);

void rcu_ptr_shim_kvfree(void *field, void *ptr)
{
	rcu_ptr_rs_kvfree(field, ptr, _RET_IP_);
}

void rcu_ptr_shim_kvfree_no_slot(void *field, void *ptr)
{
	rcu_ptr_rs_kvfree_no_slot(field, ptr, _RET_IP_);
}

void rcu_ptr_shim_kfree_nolock(void *field, void *ptr)
{
	rcu_ptr_rs_kfree_nolock(field, ptr, _RET_IP_);
}

bool rcu_ptr_shim_try_kfree_nolock(void *ptr)
{
	return rcu_ptr_rs_try_kfree_nolock(ptr, _RET_IP_);
}

void rcu_ptr_shim_call(struct rcu_head *head, rcu_callback_t func, bool sleeps)
{
	rcu_ptr_rs_call(head, func, sleeps, _RET_IP_);
}

void rcu_ptr_shim_call_no_slot(unsigned long word)
{
	rcu_ptr_rs_call_no_slot(word, _RET_IP_);
}

struct rcu_ptr_engine_key rcu_ptr_lockless_key = { STATIC_KEY_FALSE_INIT };

void rcu_ptr_shim_enable_lockless(void)
{
	static_branch_enable(&rcu_ptr_lockless_key.key);
}

DEFINE_PER_CPU(unsigned long, rcu_ptr_current_block);

unsigned long *rcu_ptr_shim_current_block(int cpu)
{
	return per_cpu_ptr(&rcu_ptr_current_block, cpu);
}

void __rcu_ptr_kvfree_mightsleep(void *ptr)
{
	rcu_ptr_rs_kvfree_mightsleep(ptr, _RET_IP_);
}
EXPORT_SYMBOL_GPL(__rcu_ptr_kvfree_mightsleep);

/* For rcu_ptr_takeover.ko. */
EXPORT_SYMBOL_GPL(__rcu_ptr_kvfree_for);
EXPORT_SYMBOL_GPL(__rcu_ptr_kfree_nolock_for);

void __rcu_ptr_kvfree_mightsleep_for(void *ptr, unsigned long caller)
{
	rcu_ptr_rs_kvfree_mightsleep(ptr, caller);
}
EXPORT_SYMBOL_GPL(__rcu_ptr_kvfree_mightsleep_for);

void __rcu_ptr_barrier_objects(void)
{
	rcu_ptr_rs_barrier_objects();
}
EXPORT_SYMBOL_GPL(__rcu_ptr_barrier_objects);

notrace bool __rcu_ptr_within(unsigned long ip)
{
	return within_module(ip, THIS_MODULE);
}
EXPORT_SYMBOL_GPL(__rcu_ptr_within);

void rcu_ptr_barrier(void)
{
	rcu_ptr_rs_barrier();
}
EXPORT_SYMBOL_GPL(rcu_ptr_barrier);

unsigned long rcu_ptr_word(int cpu, unsigned int index)
{
	return rcu_ptr_rs_word(cpu, index);
}
EXPORT_SYMBOL_NS_GPL(rcu_ptr_word, "RCU_PTR_TEST");

/* Caches with sheaves: the hot functions are Rust's own. */

struct rcu_ptr_cache *
rcu_ptr_cache_create(const char *name, unsigned int size,
		     const struct rcu_ptr_cache_args *args, slab_flags_t flags)
{
	struct rcu_ptr_cache *cache = NULL;
	int err;

	err = rcu_ptr_rs_cache_create(name, size, args,
				      (__force unsigned int)flags, &cache);
	return err ? ERR_PTR(err) : cache;
}
EXPORT_SYMBOL_GPL(rcu_ptr_cache_create);

void rcu_ptr_cache_destroy(struct rcu_ptr_cache *cache)
{
	rcu_ptr_rs_cache_destroy(cache, _RET_IP_);
}
EXPORT_SYMBOL_GPL(rcu_ptr_cache_destroy);

void rcu_ptr_cache_barrier(struct rcu_ptr_cache *cache)
{
	rcu_ptr_rs_cache_barrier(cache);
}
EXPORT_SYMBOL_GPL(rcu_ptr_cache_barrier);

void rcu_ptr_shim_cache_no_slot(struct rcu_ptr_cache *cache, void *object)
{
	rcu_ptr_rs_cache_no_slot(cache, object, _RET_IP_);
}

void rcu_ptr_shim_cache_twice(struct rcu_ptr_cache *cache, void *object)
{
	rcu_ptr_rs_cache_twice(cache, object, _RET_IP_);
}

EXPORT_SYMBOL_GPL(__rcu_ptr_cache_alloc);
EXPORT_SYMBOL_GPL(rcu_ptr_cache_alloc_nolock);
EXPORT_SYMBOL_GPL(rcu_ptr_cache_free);
EXPORT_SYMBOL_GPL(rcu_ptr_cache_free_rcu);
EXPORT_SYMBOL_GPL(rcu_ptr_cache_prefill);
EXPORT_SYMBOL_GPL(rcu_ptr_cache_size);
EXPORT_SYMBOL_GPL(__rcu_ptr_cache_zero);
EXPORT_SYMBOL_GPL(rcu_ptr_cache_set_limits);
EXPORT_SYMBOL_GPL(rcu_ptr_cache_get_limits);
EXPORT_SYMBOL_GPL(rcu_ptr_cache_get_stats);
EXPORT_SYMBOL_NS_GPL(rcu_ptr_fail_alloc, "RCU_PTR_TEST");
EXPORT_SYMBOL_NS_GPL(rcu_ptr_fail_blocks, "RCU_PTR_TEST");

/* Interrupts, preemption and raw spinlocks. */

unsigned long rcu_ptr_shim_irq_save(void)
{
	unsigned long flags;

	local_irq_save(flags);
	return flags;
}

void rcu_ptr_shim_irq_restore(unsigned long flags)
{
	local_irq_restore(flags);
}

void rcu_ptr_shim_preempt_disable(void)
{
	preempt_disable();
}

void rcu_ptr_shim_preempt_enable(void)
{
	preempt_enable();
}

void rcu_ptr_shim_preempt_check(void)
{
	preempt_disable();
	preempt_enable();
}

void rcu_ptr_shim_raw_lock_init(raw_spinlock_t *lock, const char *name,
				struct lock_class_key *key)
{
#ifdef CONFIG_DEBUG_SPINLOCK
	__raw_spin_lock_init(lock, name, key, LD_WAIT_SPIN);
#else
	raw_spin_lock_init(lock);
#endif
}

void rcu_ptr_shim_raw_lock(raw_spinlock_t *lock)
{
	raw_spin_lock(lock);
}

bool rcu_ptr_shim_raw_trylock(raw_spinlock_t *lock)
{
	return raw_spin_trylock(lock);
}

void rcu_ptr_shim_raw_unlock(raw_spinlock_t *lock)
{
	raw_spin_unlock(lock);
}

void rcu_ptr_shim_raw_assert_held(raw_spinlock_t *lock)
{
	lockdep_assert_held(lock);
}

/* Per-CPU data and CPU masks. */

void *rcu_ptr_shim_per_cpu(void __percpu *base, int cpu)
{
	return per_cpu_ptr(base, cpu);
}

int rcu_ptr_shim_next_possible_cpu(int cpu)
{
	return cpumask_next(cpu, cpu_possible_mask);
}

int rcu_ptr_shim_nr_cpu_ids(void)
{
	return nr_cpu_ids;
}

bool rcu_ptr_shim_cpu_online(int cpu)
{
	return cpu_online(cpu);
}

bool rcu_ptr_shim_cpu_dying(int cpu)
{
	return cpu_dying(cpu);
}

/* Whether this CPU runs irq_works to their end. */

static DEFINE_PER_CPU(bool, rcu_ptr_irq_works_run);

bool rcu_ptr_shim_irq_works_run(void)
{
	return __this_cpu_read(rcu_ptr_irq_works_run);
}

void rcu_ptr_shim_set_irq_works_run(bool run)
{
	this_cpu_write(rcu_ptr_irq_works_run, run);
}

/* Work items. */

void rcu_ptr_shim_init_rcu_work(struct rcu_work *work, work_func_t func)
{
	INIT_RCU_WORK(work, func);
}

void rcu_ptr_shim_init_delayed_work(struct delayed_work *work,
				    work_func_t func, enum rcu_ptr_work class)
{
	/* A lockdep class is a place in the text. */
	switch (class) {
	case RCU_PTR_WORK_FREES:
		INIT_DELAYED_WORK(work, func);
		break;
	case RCU_PTR_WORK_DESTRUCTS:
		INIT_DELAYED_WORK(work, func);
		break;
	case RCU_PTR_WORK_ALLOCATES:
		INIT_DELAYED_WORK(work, func);
		break;
	case RCU_PTR_WORK_CALLS:
		INIT_DELAYED_WORK(work, func);
		break;
	case RCU_PTR_WORK_SLEEPS:
		INIT_DELAYED_WORK(work, func);
		break;
	}
}

void rcu_ptr_shim_init_irq_work(struct irq_work *work,
				void (*func)(struct irq_work *work), int flags)
{
	*work = __IRQ_WORK_INIT(func, flags);
}

/* RCU. */

void rcu_ptr_shim_call_rcu(struct rcu_head *head, rcu_callback_t func)
{
	call_rcu_hurry(head, func);
}

bool rcu_ptr_shim_srcu_waits_for_rcu(struct srcu_struct *srcu)
{
	return srcu->srcu_reader_flavor & SRCU_READ_FLAVOR_SLOWGP;
}

void rcu_ptr_shim_srcu_wait(struct srcu_struct *srcu)
{
	srcu_lock_sync(&srcu->dep_map);
}

void rcu_ptr_shim_callback_enter(void)
{
	rcu_lock_acquire(&rcu_callback_map);
}

void rcu_ptr_shim_callback_exit(void)
{
	rcu_lock_release(&rcu_callback_map);
}

/* Callbacks of others, which must not be waited for with this held. */
#ifdef CONFIG_LOCKDEP
static struct lock_class_key rcu_ptr_call_key;
static struct lockdep_map rcu_ptr_call_map =
	STATIC_LOCKDEP_MAP_INIT("rcu_ptr_call", &rcu_ptr_call_key);
#endif

void rcu_ptr_shim_call_enter(void)
{
	lock_map_acquire(&rcu_ptr_call_map);
}

void rcu_ptr_shim_call_exit(void)
{
	lock_map_release(&rcu_ptr_call_map);
}

void rcu_ptr_shim_call_wait(void)
{
	lock_map_acquire(&rcu_ptr_call_map);
	lock_map_release(&rcu_ptr_call_map);
}

/* Destructors of caches, as above. */
#ifdef CONFIG_LOCKDEP
static struct lock_class_key rcu_ptr_dtor_key;
static struct lockdep_map rcu_ptr_dtor_map =
	STATIC_LOCKDEP_MAP_INIT("rcu_ptr_dtor", &rcu_ptr_dtor_key);
#endif

void rcu_ptr_shim_destruct(void (*dtor)(void *object), void *object)
{
	lock_map_acquire(&rcu_ptr_dtor_map);
	dtor(object);
	lock_map_release(&rcu_ptr_dtor_map);
}

void rcu_ptr_shim_dtor_wait(void)
{
	lock_map_acquire(&rcu_ptr_dtor_map);
	lock_map_release(&rcu_ptr_dtor_map);
}

/* From C, so that the type of the function is checked (CONFIG_CFI). */
void rcu_ptr_shim_invoke(struct rcu_head *head, rcu_callback_t func)
{
	func(head);
}

void rcu_ptr_shim_bh_disable(void)
{
	local_bh_disable();
}

void rcu_ptr_shim_bh_enable(void)
{
	local_bh_enable();
}

void rcu_ptr_shim_cond_resched(void)
{
	cond_resched_tasks_rcu_qs();
}

void rcu_ptr_shim_might_sleep(void)
{
	might_sleep();
}

/* Waiting. */

bool rcu_ptr_shim_wait_var(void *var, bool (*done)(void *arg), void *arg)
{
	return wait_var_event_timeout(var, done(arg), 1);
}

void rcu_ptr_shim_wake_var(void *var)
{
	wake_up_var(var);
}

/* The module. */

bool rcu_ptr_shim_get_module(void)
{
	return try_module_get(THIS_MODULE);
}

void rcu_ptr_shim_put_module(void)
{
	module_put(THIS_MODULE);
}

static int module_changes(struct notifier_block *nb, unsigned long state,
			  void *module)
{
	if (state == MODULE_STATE_GOING)
		rcu_ptr_rs_module_going(module);
	return NOTIFY_OK;
}

/* First: what is called may use what others take from the module. */
static struct notifier_block module_watch = {
	.notifier_call = module_changes,
	.priority = INT_MAX,
};

int rcu_ptr_shim_watch_modules(void)
{
	return register_module_notifier(&module_watch);
}

void rcu_ptr_shim_unwatch_modules(void)
{
	unregister_module_notifier(&module_watch);
}

bool rcu_ptr_shim_work_pending(struct delayed_work *work)
{
	return delayed_work_pending(work);
}

bool rcu_ptr_shim_module_uses_this(const struct module *module)
{
#if defined(CONFIG_MODULE_UNLOAD) && defined(CONFIG_SYSFS)
	struct kernfs_node *dir = THIS_MODULE->holders_dir->sd;
	struct kernfs_node *holder = kernfs_find_and_get(dir, module->name);

	kernfs_put(holder);
	return holder;
#else
	return true;
#endif
}

unsigned long rcu_ptr_shim_module_text(const struct module *module)
{
	return (unsigned long)module->mem[MOD_TEXT].base;
}

unsigned int rcu_ptr_shim_module_text_size(const struct module *module)
{
	return module->mem[MOD_TEXT].size;
}

/* Memory. */

void *rcu_ptr_shim_alloc_page(gfp_t gfp)
{
	return (void *)__get_free_page(gfp);
}

void *rcu_ptr_shim_alloc_page_nolock(void)
{
	struct page *page = alloc_pages_nolock(0, NUMA_NO_NODE, 0);

	return page ? page_address(page) : NULL;
}

unsigned long rcu_ptr_shim_vmalloc_start(void)
{
	return VMALLOC_START;
}

unsigned long rcu_ptr_shim_vmalloc_end(void)
{
	return VMALLOC_END;
}

void *rcu_ptr_shim_kmalloc(size_t size, gfp_t gfp)
{
	return kmalloc(size, gfp);
}

void *rcu_ptr_shim_kmalloc_nolock(size_t size)
{
	return kmalloc_nolock(size, 0, NUMA_NO_NODE);
}

void rcu_ptr_shim_warn_zero(void)
{
	WARN_ONCE(1, "rcu_ptr: __GFP_ZERO for a cache with a constructor, ignored\n");
}

void rcu_ptr_shim_might_alloc(gfp_t gfp)
{
	might_alloc(gfp);
}

bool rcu_ptr_shim_is_kfence(const void *object)
{
	return is_kfence_address(object);
}

unsigned int rcu_ptr_shim_checks(void)
{
	bool objects = kasan_enabled() || IS_ENABLED(CONFIG_KMSAN) ||
		       IS_ENABLED(CONFIG_KCSAN) ||
		       IS_ENABLED(CONFIG_DEBUG_OBJECTS_FREE) ||
		       IS_ENABLED(CONFIG_SLUB_DEBUG_ON);

	return (objects ? RCU_PTR_CHECKS_OBJECTS : 0) |
	       (want_init_on_alloc(0) ? RCU_PTR_CHECKS_INIT_ON_ALLOC : 0) |
	       (want_init_on_free() ? RCU_PTR_CHECKS_INIT_ON_FREE : 0);
}

int rcu_ptr_shim_nr_node_ids(void)
{
	return nr_node_ids;
}

int rcu_ptr_shim_node_of(const void *object)
{
	return page_to_nid(virt_to_page(object));
}

int rcu_ptr_shim_node_of_cpu(int cpu)
{
	return cpu_to_mem(cpu);
}

/* Context. */

/* The caller's own preempt_disable() is not counted. */
unsigned int rcu_ptr_shim_context(void)
{
	bool irqs_on = !irqs_disabled() && !in_nmi();

	return (irqs_on ? RCU_PTR_CONTEXT_MAY_LOCK : 0) |
	       (IS_ENABLED(CONFIG_PREEMPT_COUNT) && irqs_on &&
		preempt_count() == PREEMPT_DISABLE_OFFSET ?
		RCU_PTR_CONTEXT_PREEMPTIBLE : 0);
}

/* Debug features. */

#ifdef CONFIG_DEBUG_OBJECTS_RCU_HEAD
/* Exported, but declared in kernel/rcu/rcu.h only. */
extern const struct debug_obj_descr rcuhead_debug_descr;

/* call_rcu()'s two states of an rcu_head; kernel/rcu/rcu.h keeps them private. */
#define RCU_PTR_HEAD_READY	0
#define RCU_PTR_HEAD_QUEUED	1

bool rcu_ptr_shim_debug_queue(void *ptr)
{
	if (debug_object_activate(ptr, &rcuhead_debug_descr))
		return false;
	debug_object_active_state(ptr, &rcuhead_debug_descr,
				  RCU_PTR_HEAD_READY, RCU_PTR_HEAD_QUEUED);
	return true;
}

void rcu_ptr_shim_debug_unqueue(void *ptr)
{
	debug_object_active_state(ptr, &rcuhead_debug_descr,
				  RCU_PTR_HEAD_QUEUED, RCU_PTR_HEAD_READY);
	debug_object_deactivate(ptr, &rcuhead_debug_descr);
}
#else
bool rcu_ptr_shim_debug_queue(void *ptr)
{
	return true;
}

void rcu_ptr_shim_debug_unqueue(void *ptr)
{
}
#endif

void rcu_ptr_shim_kmemleak_ignore(const void *ptr)
{
	kmemleak_ignore(ptr);
}

void rcu_ptr_shim_kmemleak_scan(const void *ptr, size_t size)
{
	kmemleak_alloc(ptr, size, 0, GFP_NOWAIT);
}

void rcu_ptr_shim_kmemleak_free(const void *ptr)
{
	kmemleak_free(ptr);
}

/* Not a kernel address, so there is nothing to hide: %px. */
void rcu_ptr_shim_warn_user(void *ptr, void *field, unsigned long caller)
{
	WARN_ONCE(1, "rcu_ptr: %px (field %px) is no kernel address, leaked; queued by %pS\n",
		  ptr, field, (void *)caller);
}

void rcu_ptr_shim_warn_align(void *ptr, void *field, unsigned long caller)
{
	WARN_ONCE(1, "rcu_ptr: %p (field %p) is not aligned, leaked; queued by %pS\n",
		  ptr, field, (void *)caller);
}

void rcu_ptr_shim_warn_offset(void *ptr, void *field, unsigned long caller)
{
	WARN_ONCE(1, "rcu_ptr: field %p does not start in the first 4096 bytes of object %p, leaked; queued by %pS\n",
		  field, ptr, (void *)caller);
}

void rcu_ptr_shim_warn_double(void *ptr, void *field, unsigned long caller)
{
	WARN_ONCE(1, "rcu_ptr: %p (field %p) is queued twice, leaked; queued by %pS\n",
		  ptr, field, (void *)caller);
}

void rcu_ptr_shim_warn_no_func(void *ptr, void *field, unsigned long caller)
{
	WARN_ONCE(1, "rcu_ptr: no function to call for %p, ignored; queued by %pS\n",
		  ptr, (void *)caller);
}

void rcu_ptr_shim_warn_barrier(void)
{
	WARN_ONCE(1, "rcu_ptr: a callback waits for callbacks; it does not, or it would wait for itself\n");
}

void rcu_ptr_shim_warn_endless(unsigned long objects)
{
	WARN_ONCE(1, "rcu_ptr: a list of %lu objects is broken, leaked; one was queued again while it was linked\n",
		  objects);
}

void rcu_ptr_shim_warn_early(void *ptr)
{
	WARN_ONCE(1, "rcu_ptr: grace period of batch %p is not over, leaked\n",
		  ptr);
}

void rcu_ptr_shim_warn_freed_twice(const char *name, unsigned long ptr,
				   unsigned long caller)
{
	if (caller)
		WARN_ONCE(1, "rcu_ptr: %p of cache %s was freed twice, now by %pS\n",
			  (void *)ptr, name, (void *)caller);
	else
		WARN_ONCE(1, "rcu_ptr: %p of cache %s was freed twice within a grace period\n",
			  (void *)ptr, name);
}

void rcu_ptr_shim_warn_nested(const char *name)
{
	WARN_ONCE(1, "rcu_ptr: too many contexts are nested in calls of cache %s\n",
		  name);
}

void rcu_ptr_shim_warn_held(const char *name, long objects,
			    unsigned long caller)
{
	WARN(1, "rcu_ptr: cache %s is destroyed with %ld objects still held, leaked with it; called from %pS\n",
	     name, objects, (void *)caller);
}

/* Tracepoints: the Rust side calls these only when the event is on. */

static int rcu_ptr_ctx(void)
{
	return in_nmi() ? RCU_PTR_CTX_NMI :
	       in_hardirq() ? RCU_PTR_CTX_HARDIRQ :
	       in_serving_softirq() ? RCU_PTR_CTX_SOFTIRQ : RCU_PTR_CTX_TASK;
}

void rcu_ptr_shim_trace_queue(int engine, int channel, int kind, void *ptr,
			      unsigned long caller)
{
	trace_rcu_ptr_queue(engine, channel, kind, rcu_ptr_ctx(), ptr, caller);
}

void rcu_ptr_shim_trace_invoke(int kind, void *head, unsigned long func)
{
	trace_rcu_ptr_invoke(kind, head, func);
}

void rcu_ptr_shim_trace_batch_start(int cpu, int batch, unsigned long slab,
				    unsigned long vmalloc, unsigned long list,
				    unsigned long mixed, unsigned long calls,
				    unsigned long gp)
{
	trace_rcu_ptr_batch_start(cpu, batch, slab, vmalloc, list, mixed, calls,
				  gp);
}

void rcu_ptr_shim_trace_batch_end(int cpu, int batch, unsigned long slab,
				  unsigned long vmalloc, unsigned long list,
				  unsigned long mixed, unsigned long calls,
				  unsigned long gp)
{
	trace_rcu_ptr_batch_end(cpu, batch, slab, vmalloc, list, mixed, calls,
				gp);
}

void rcu_ptr_shim_trace_free(void **objects, unsigned long count)
{
	trace_rcu_ptr_free(objects, count);
}

void rcu_ptr_shim_trace_refill(int cpu, unsigned long blocks,
			       unsigned long wanted)
{
	trace_rcu_ptr_refill(cpu, blocks, wanted);
}

void rcu_ptr_shim_trace_shrink(int cpu, unsigned long blocks,
			       unsigned long objects)
{
	trace_rcu_ptr_shrink(cpu, blocks, objects);
}

void rcu_ptr_shim_trace_defer(int cpu, int what, unsigned long pending)
{
	trace_rcu_ptr_defer(cpu, what, pending);
}

void rcu_ptr_shim_trace_sheaf_wait(const char *cache, int cpu,
				   unsigned long sheaves, unsigned long full)
{
	trace_rcu_ptr_sheaf_wait(cache, cpu, sheaves, full);
}

void rcu_ptr_shim_trace_sheaf_refill(const char *cache, int cpu,
				     unsigned long objects)
{
	trace_rcu_ptr_sheaf_refill(cache, cpu, objects);
}

void rcu_ptr_shim_trace_sheaf_drain(const char *cache, int cpu,
				    unsigned long waiting, unsigned long stock)
{
	trace_rcu_ptr_sheaf_drain(cache, cpu, waiting, stock);
}

void rcu_ptr_shim_trace_sheaf_shrink(const char *cache, int node, int why,
				     unsigned long full, unsigned long empty)
{
	trace_rcu_ptr_sheaf_shrink(cache, node, why, full, empty);
}

/* Parameters: values are checked and kept in rust/rcu_ptr/params.rs. */

static int rcu_ptr_param_set(const char *val, const struct kernel_param *kp)
{
	return rcu_ptr_rs_param_set((long)kp->arg, val);
}

static int rcu_ptr_param_get(char *buf, const struct kernel_param *kp)
{
	return rcu_ptr_rs_param_get((long)kp->arg, buf, PAGE_SIZE);
}

static const struct kernel_param_ops rcu_ptr_param_ops = {
	.set = rcu_ptr_param_set,
	.get = rcu_ptr_param_get,
};

#define RCU_PTR_PARAM(name, number, mode, text)				\
	module_param_cb(name, &rcu_ptr_param_ops, (void *)(number), mode); \
	MODULE_PARM_DESC(name, text)

RCU_PTR_PARAM(engine, RCU_PTR_PARAM_ENGINE, 0444,
	      "how objects are batched: lockless (default) or rfc");
RCU_PTR_PARAM(rcu_min_cached_objs, RCU_PTR_PARAM_MIN_CACHED_OBJS, 0644,
	      "blocks to keep per CPU, 0..64, 0: use the list (default 5)");
RCU_PTR_PARAM(rcu_delay_page_cache_fill_msec, RCU_PTR_PARAM_FILL_DELAY, 0644,
	      "delay of a refill after memory pressure, 0..100000 ms (default 5000)");
RCU_PTR_PARAM(drain_interval_msec, RCU_PTR_PARAM_DRAIN_INTERVAL, 0644,
	      "drain after this time, 1..600000 ms (default 5000)");
