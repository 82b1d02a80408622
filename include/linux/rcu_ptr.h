/* SPDX-License-Identifier: GPL-2.0 */
/*
 * rcu_ptr: free memory after an RCU grace period, with 8 bytes in the object
 * or none.
 *
 * A module that includes this header links against rcu_ptr.ko: give its build
 * KBUILD_EXTRA_SYMBOLS=<the Module.symvers of rcu_ptr>, and load rcu_ptr.ko
 * first.
 */
#ifndef _LINUX_RCU_PTR_H
#define _LINUX_RCU_PTR_H

#include <linux/build_bug.h>
#include <linux/gfp_types.h>
#include <linux/slab.h>
#include <linux/stddef.h>
#include <linux/string.h>
#include <linux/types.h>

/**
 * struct rcu_ptr - the field of an object that rcu_ptr_kvfree() frees
 *
 * 8 bytes, half of a struct rcu_head.  It needs no initialisation, and its
 * content is free for any other use (a union, say) until the object is queued.
 *
 * Not to be confused with the first argument of rcu_replace_pointer(), which is
 * also called rcu_ptr.
 */
struct rcu_ptr {
	/* private: the next object, and where this one starts */
	unsigned long link;
};

/* A field has to start in the first 4096 bytes of its object. */
#define RCU_PTR_MAX_OFFSET	4096

/* Private: use the macros below, which check the types. */
void __rcu_ptr_kvfree(void *field, void *ptr);
void __rcu_ptr_kfree_nolock(void *field, void *ptr);
bool __rcu_ptr_try_kfree_nolock(void *ptr);
void __rcu_ptr_kvfree_mightsleep(void *ptr);

/* Private: for rcu_ptr_takeover.ko, on behalf of @caller, which events and warnings name. */
void __rcu_ptr_kvfree_for(void *field, void *ptr, unsigned long caller);
void __rcu_ptr_kfree_nolock_for(void *field, void *ptr,
				unsigned long caller);
void __rcu_ptr_kvfree_mightsleep_for(void *ptr, unsigned long caller);
/* Waits for objects in the engine only, not for callbacks, caches or destructors. */
void __rcu_ptr_barrier_objects(void);
/* Whether @ip is in rcu_ptr.ko. Context: any; not traced. */
bool __rcu_ptr_within(unsigned long ip);

/* Private: does not compile unless the field has one of the three types. */
#define __rcu_ptr_field(f)						\
	_Generic((f),							\
		 struct rcu_ptr *: (f),					\
		 struct kvfree_rcu_head *: (f),				\
		 struct rcu_head *: (f))

/**
 * rcu_ptr_kvfree() - free an object after a grace period
 * @p: pointer to the start of the object, or NULL, which is ignored
 * @field: name of its field of type struct rcu_ptr, struct kvfree_rcu_head or
 *	struct rcu_head, less than 4096 bytes from the start
 *
 * The object may come from kmalloc(), kmalloc_nolock(), kmem_cache_alloc(),
 * vmalloc() or kvmalloc(), of any size.  The caller must not access it
 * afterwards.  Readers that already hold it may read everything but @field until
 * they leave their RCU read-side critical section.
 *
 * Context: any but NMI.  Interrupts may be off and raw spinlocks held, on
 * PREEMPT_RT as well.  Not in handlers of tracepoints and kprobes that may
 * interrupt the allocator or this function itself, where locks of debug features
 * and of engine rfc may be held: use rcu_ptr_kfree_nolock() there.  Never
 * sleeps, never fails.
 */
#define rcu_ptr_kvfree(p, field)					\
	__rcu_ptr_queue(__rcu_ptr_kvfree, p, field)

/**
 * rcu_ptr_kfree_nolock() - free an object after a grace period, in any context
 * @p: pointer to the start of the object, or NULL, which is ignored
 * @field: as for rcu_ptr_kvfree()
 *
 * Otherwise as rcu_ptr_kvfree().
 *
 * Context: any, NMI included.  Never spins on a lock, never fails.
 */
#define rcu_ptr_kfree_nolock(p, field)					\
	__rcu_ptr_queue(__rcu_ptr_kfree_nolock, p, field)

/**
 * rcu_ptr_try_kfree_nolock() - free an object without a field, in any context
 * @p: pointer to the start of the object, or NULL, which is ignored
 *
 * As rcu_ptr_kfree_nolock(), but nothing in the object is used: a free slot in
 * this CPU's block is needed, or a page for another block.  Engine rfc also needs
 * its lock, which another context may hold, and a block that is open or cached;
 * so it returns false far more often.
 *
 * Context: any, NMI included.  Never spins on a lock.
 *
 * Return: true if the object was accepted (or is NULL, or was misused and is
 * leaked with a warning); false if there is no slot: the caller keeps the object.
 */
#define rcu_ptr_try_kfree_nolock(p)					\
({									\
	typeof(p) __rp_obj = (p);					\
									\
	!__rp_obj || __rcu_ptr_try_kfree_nolock((void *)__rp_obj);	\
})

/* Private: checks the field and hands object and field to @call. */
#define __rcu_ptr_queue(call, p, field)					\
do {									\
	typeof(p) __rp_obj = (p);					\
									\
	static_assert(offsetof(typeof(*__rp_obj), field) <		\
		      RCU_PTR_MAX_OFFSET,				\
		      "rcu_ptr: field starts beyond the first 4096 bytes");	\
	static_assert(offsetof(typeof(*__rp_obj), field) %		\
		      sizeof(void *) == 0,				\
		      "rcu_ptr: field is not aligned to a pointer");	\
	if (__rp_obj)							\
		call(__rcu_ptr_field(&__rp_obj->field),			\
		     (void *)__rp_obj);					\
} while (0)

/**
 * rcu_ptr_kvfree_mightsleep() - free an object without a field
 * @p: pointer to the start of the object, or NULL, which is ignored
 *
 * As rcu_ptr_kvfree(), but if there is no memory for a block, it waits for a
 * grace period and frees the object before it returns.
 *
 * Context: process context, may sleep.  Not in handlers of tracepoints and
 * kprobes.
 */
#define rcu_ptr_kvfree_mightsleep(p)					\
do {									\
	typeof(p) __rp_obj = (p);					\
									\
	if (__rp_obj)							\
		__rcu_ptr_kvfree_mightsleep((void *)__rp_obj);		\
} while (0)

/**
 * rcu_ptr_call() - call a function after a grace period, in any context
 * @head: a struct rcu_head anywhere in kernel memory: in an object, static, on
 *	a stack
 * @func: the function, which gets @head
 *
 * call_rcu() for any context.  @func is called as by call_rcu(), with BH disabled
 * and interrupts on, but by a worker; it may free the object that contains @head,
 * or queue @head again.  A long callback delays other callbacks that were queued
 * on the same CPU, but no object that is freed by the other functions.
 *
 * Unloading a module waits for its callbacks: rcu_ptr.ko waits for them after
 * the module's exit, and for those that they queue.  This holds for modules that
 * are linked against rcu_ptr.ko; one that uses symbol_get() has to call
 * rcu_ptr_barrier() itself.
 *
 * Context: any, NMI included.  Never spins on a lock, never fails.
 */
void rcu_ptr_call(struct rcu_head *head, rcu_callback_t func);

/**
 * rcu_ptr_call_sleepable() - call a function that may sleep after a grace period
 * @head: as for rcu_ptr_call()
 * @func: the function, which gets @head
 *
 * As rcu_ptr_call(), but @func is called in process context, as by
 * queue_rcu_work(), and may sleep.  It delays no callback of rcu_ptr_call(), and
 * others of its kind only while four that were queued on the same CPU sleep.  It
 * must not wait for a module to be loaded or unloaded: unloading holds the module
 * notifier chain while it waits for callbacks.
 *
 * Context: any, NMI included.  Never spins on a lock, never fails.
 */
void rcu_ptr_call_sleepable(struct rcu_head *head, rcu_callback_t func);

/**
 * rcu_ptr_barrier() - wait until everything queued so far is freed
 *
 * When it returns, for everything that was queued before the call, on any CPU and
 * by any function of this header,
 *
 * - objects have been returned to their allocator;
 * - objects of caches are available to allocations, or back in the slab;
 * - callbacks have returned.
 *
 * What a callback queues is not covered: where callbacks free objects of a cache,
 * or queue others that do, call it once more for each such step.
 *
 * Call it before kmem_cache_destroy().  At the end of a module's exit it is needed
 * only if the module has callbacks and is not linked against rcu_ptr.ko, see
 * rcu_ptr_call().
 *
 * Must not be called, as it would wait for itself:
 *
 * - in a callback, or in a destructor of a cache;
 * - in a reader of the SRCU domain of any cache;
 * - with a lock held that callbacks or destructors take.
 *
 * CPU hotplug: it may be called with cpus_read_lock() held.  With caches it waits
 * for a hotplug operation in progress if a CPU that is not online holds sheaves.
 * So hotplug callbacks must not call it or wait for it then; nor may the lock be
 * held if a CPU was left in an intermediate state (hotplug/target in sysfs).
 *
 * Objects of a CPU that is offline, or going offline, are covered.  Tasks on
 * other CPUs need not be scheduled.  CPUs that hold no objects are not disturbed,
 * others are interrupted.
 *
 * Without callbacks of rcu_ptr_call_sleepable() nothing that it waits for
 * allocates memory.  So locks that memory reclaim takes may be held.  With such
 * callbacks it also waits for whatever they wait for, and their workqueue may need
 * memory for its workers.
 *
 * Context: process context, may sleep; see the conditions above.
 */
void rcu_ptr_barrier(void);

/**
 * DOC: caches
 *
 * A cache recycles objects without touching the slab: freed ones wait for a
 * grace period in sheaves of up to 56 pointers, and are allocated again from the
 * same sheaves.  Unless a sheaf is used up, each call is one operation on a word
 * of this CPU: a slot of a sheaf, or of the few for objects that may be reused at
 * once; in any context, NMI included, with no lock, no locked instruction and no
 * barrier.
 *
 * An object that is recycled has the contents with which it was freed, except for
 * a field at @link_offset of struct rcu_ptr_cache_args and what @dtor changes; but
 * an object may as well be a new one, or zeroed.  Rely only on what @ctor has set
 * up and users restore.
 */
struct rcu_ptr_cache;
struct srcu_struct;

/**
 * struct rcu_ptr_cache_args - less common arguments of rcu_ptr_cache_create()
 * @align: alignment of the objects in bytes, a power of two; 0: 8
 * @link_offset: offset of a field of type struct rcu_ptr in the object, a
 *	multiple of 8 below 4096
 * @use_link_offset: whether there is one
 * @sheaf_capacity: objects in a sheaf, 1 to 56; 0: by the size of the object
 * @barn_limit: full sheaves to keep per node, up to 65536, and as many empty
 *	ones; 0: 4 MiB worth of objects, from 10 to 1024 sheaves, and up to four
 *	times that while objects are allocated from the slab
 *
 * @ctor: called once for an object when its memory is set up, as that of
 *	kmem_cache_create(); its effects persist as long as users restore them
 *	before they free the object.  With SLAB_TYPESAFE_BY_RCU readers may lock or
 *	count an object that they found, and then recheck its identity.  Context:
 *	that of any allocation from the slab, a worker's included: the cache has to
 *	be destroyed before the module of @ctor is unloaded.
 * @dtor: called once for each use of an object: after the grace period of
 *	rcu_ptr_cache_free_rcu() or rcu_ptr_cache_free(), and before the object is
 *	allocated again or returned to the slab.  Context: process context,
 *	preemptible; in a worker that memory reclaim may wait for, or in a caller
 *	of rcu_ptr_barrier(), rcu_ptr_cache_barrier() or rcu_ptr_cache_destroy();
 *	concurrently for different objects.  It may call every function of this
 *	header that does not wait, for objects of this cache too.  It may sleep for
 *	a short time, which delays other destructors of the cache, but must not
 *	wait for memory reclaim.
 * @srcu: SRCU domain whose readers may access freed objects, as those of RCU may:
 *	an object waits for a grace period of RCU and for one of the domain.
 *	NULL: of RCU alone.  Readers of any flavor; rcu_tasks_trace_srcu_struct
 *	stands for rcu_read_lock_tasks_trace().  It must not be cleaned up before
 *	rcu_ptr_cache_destroy() has returned.
 * @wait_limit: maximum bytes of objects, as aligned, that wait for a grace period
 *	or for a destructor after it; 0: unlimited.  At the limit allocations may
 *	wait for some grace periods, and then fail unless __GFP_NOFAIL is set;
 *	frees never fail.  See "Wait limit" in docs/sheaves.md.
 *
 * The link is only used for objects that are freed while no empty sheaf is
 * available, in any context.  Without a field for it 8 bytes are added after each
 * object.  A field may be overwritten at each free: neither @dtor nor the next user
 * may rely on what @ctor wrote there.
 */
struct rcu_ptr_cache_args {
	unsigned int align;
	unsigned int link_offset;
	bool use_link_offset;
	unsigned int sheaf_capacity;
	unsigned int barn_limit;
	void (*ctor)(void *object);
	void (*dtor)(void *object);
	struct srcu_struct *srcu;
	unsigned long wait_limit;
};

/**
 * struct rcu_ptr_cache_limits - what may be changed while a cache is in use
 * @sheaf_capacity: as in struct rcu_ptr_cache_args
 * @barn_limit: as there
 * @wait_limit: as there
 */
struct rcu_ptr_cache_limits {
	unsigned int sheaf_capacity;
	unsigned int barn_limit;
	unsigned long wait_limit;
};

/**
 * rcu_ptr_cache_create() - create a cache
 * @name: as for kmem_cache_create(); copied
 * @size: bytes of an object
 * @args: more arguments, or NULL
 * @flags: SLAB_* flags, except SLAB_ACCOUNT (a recycled object is not charged
 *	again) and SLAB_PANIC, which fail with -EINVAL
 *
 * With SLAB_RED_ZONE, SLAB_POISON, SLAB_STORE_USER, SLAB_TRACE or
 * SLAB_CONSISTENCY_CHECKS, and in kernels with KASAN, KMSAN, KCSAN,
 * DEBUG_OBJECTS_FREE or SLUB_DEBUG_ON, objects go back to the slab after their
 * grace period, so that these see each free.
 *
 * Without a field for the link @size may be up to 4088 bytes, with one (in the
 * first 4096 bytes) any that kmem_cache_create() accepts.
 *
 * As long as a cache exists rcu_ptr.ko can't be unloaded.  A cache that is never
 * destroyed does no other harm, but its SRCU domain must not be cleaned up.
 *
 * Context: process context, may sleep.
 * Return: the cache, or ERR_PTR() of -EINVAL, -ENOMEM, or -ENODEV while
 * rcu_ptr.ko is being unloaded
 */
struct rcu_ptr_cache *
rcu_ptr_cache_create(const char *name, unsigned int size,
		     const struct rcu_ptr_cache_args *args, slab_flags_t flags);

/**
 * rcu_ptr_cache_destroy() - destroy a cache
 * @cache: a cache that is no longer in use, or NULL
 *
 * Waits for objects whose grace period is not over, and until every destructor has
 * returned.  That takes a grace period and the time of kmem_cache_destroy(); with
 * a destructor one grace period more, and one for each generation of objects of
 * this cache that destructors free.
 *
 * If its user still holds objects, a warning states their number; they are leaked
 * together with their kmem_cache, and not destructed.
 *
 * With an SRCU domain it waits for a grace period of the domain, and for all
 * callbacks of the domain (srcu_barrier()).
 *
 * Context: process context, may sleep.  As for kmem_cache_destroy(), not in a CPU
 * hotplug callback, and not with a lock held that memory reclaim takes; not in a
 * reader of the cache's SRCU domain.
 */
void rcu_ptr_cache_destroy(struct rcu_ptr_cache *cache);

/**
 * rcu_ptr_cache_barrier() - wait until objects freed so far are available again
 * @cache: the cache
 *
 * As rcu_ptr_barrier(), for the objects of one cache.  It takes about a grace
 * period, of the cache's SRCU domain too, whatever waits in other caches.
 * Destructors of these objects have returned; what they freed may still wait.
 *
 * Context: as for rcu_ptr_barrier(), but it depends neither on callbacks nor on
 * destructors or SRCU domains of other caches.
 */
void rcu_ptr_cache_barrier(struct rcu_ptr_cache *cache);

/**
 * rcu_ptr_cache_set_limits() - change the limits of a cache
 * @cache: the cache
 * @limits: the new ones
 *
 * They apply at once: a barn above its limit is trimmed; sheaves in use keep
 * their capacity until they are empty.
 *
 * Equivalently, write a line in the format of rcu_ptr/caches in debugfs to that
 * file: cache=NAME capacity=N barn_limit=N wait_limit=BYTES.  It applies to all
 * caches of that name; a limit that is left out is not changed.
 *
 * Context: task or softirq.
 * Return: 0, or -EINVAL, in which case nothing is changed
 */
int rcu_ptr_cache_set_limits(struct rcu_ptr_cache *cache,
			     const struct rcu_ptr_cache_limits *limits);

/**
 * rcu_ptr_cache_get_limits() - read the limits of a cache
 * @cache: the cache
 * @limits: filled in with the limits in force, defaults resolved
 *
 * Context: any.
 */
void rcu_ptr_cache_get_limits(struct rcu_ptr_cache *cache,
			      struct rcu_ptr_cache_limits *limits);

/* Private: rcu_ptr_cache_alloc() without __GFP_ZERO. */
void *__rcu_ptr_cache_alloc(struct rcu_ptr_cache *cache, gfp_t gfp);
/* Private: zeroes an object that was just allocated. */
void __rcu_ptr_cache_zero(struct rcu_ptr_cache *cache, void *object);

/**
 * rcu_ptr_cache_size() - bytes of an object
 * @cache: the cache
 *
 * Context: any.
 * Return: @size of rcu_ptr_cache_create()
 */
unsigned int rcu_ptr_cache_size(const struct rcu_ptr_cache *cache);

/**
 * rcu_ptr_cache_alloc() - allocate an object
 * @cache: the cache
 * @gfp: as for kmem_cache_alloc(); __GFP_ACCOUNT, __GFP_THISNODE and zone
 *	modifiers are ignored, as the next owners of the object would inherit them
 *
 * Sheaves are filled with @gfp, but without memory reserves, __GFP_NOFAIL and
 * __GFP_RETRY_MAYFAIL; if that fails, one object is allocated with all of @gfp.
 *
 * With a constructor __GFP_ZERO gives a warning, and has no effect.
 *
 * Context: that of kmem_cache_alloc() with @gfp.  Not NMI, and not handlers of
 * tracepoints and kprobes that may interrupt the allocator or this function: use
 * rcu_ptr_cache_alloc_nolock() there.
 * Return: the object, or NULL
 */
static inline void *rcu_ptr_cache_alloc(struct rcu_ptr_cache *cache, gfp_t gfp)
{
	void *p = __rcu_ptr_cache_alloc(cache, gfp & ~__GFP_ZERO);

	if (p && (gfp & __GFP_ZERO))
		__rcu_ptr_cache_zero(cache, p);
	return p;
}

/**
 * rcu_ptr_cache_alloc_nolock() - allocate an object, in any context
 * @cache: the cache
 *
 * Objects come from sheaves; if these are empty, from the reserve of
 * rcu_ptr_cache_prefill(); then from kmalloc_nolock(), if the alignment and the
 * flags of the cache allow it and there is no constructor; on PREEMPT_RT only
 * with interrupts enabled.  A worker then provides several objects for each
 * allocation that failed.
 *
 * Context: any, NMI included.
 * Return: the object, or NULL
 */
void *rcu_ptr_cache_alloc_nolock(struct rcu_ptr_cache *cache);

/**
 * rcu_ptr_cache_free() - free an object at once
 * @cache: the cache
 * @object: an object of it that no reader can reach, or NULL
 *
 * This is rcu_ptr_cache_free_rcu() if four such objects wait on this CPU, and
 *
 * - where debug features check frees, see rcu_ptr_cache_create();
 * - where freed objects are zeroed (init_on_free=1);
 * - with a destructor, which does not run in any context;
 * - with SLAB_TYPESAFE_BY_RCU and an SRCU domain, for which the slab does not
 *   wait.
 *
 * Context: any, NMI included.
 */
void rcu_ptr_cache_free(struct rcu_ptr_cache *cache, void *object);

/**
 * rcu_ptr_cache_free_rcu() - free an object after a grace period
 * @cache: the cache
 * @object: an object of it, or NULL
 *
 * Readers of RCU and of the cache's SRCU domain that already hold the object may
 * read all of it, except a field at @link_offset, until they leave their
 * critical section.
 *
 * Context: any, NMI included.  Never fails.
 */
void rcu_ptr_cache_free_rcu(struct rcu_ptr_cache *cache, void *object);

/**
 * rcu_ptr_cache_prefill() - reserve objects
 * @cache: the cache
 * @objects: number of objects to add to the reserve
 * @gfp: as for kmem_cache_alloc(), allowing to sleep
 *
 * From now on as many allocations that can't sleep succeed on the CPUs of this
 * CPU's node, in any context and however they are spread over these CPUs.
 * Allocations that may sleep, memory reclaim and other nodes do not use the
 * reserve.  A worker refills it.
 *
 * Context: process context, may sleep: waits for a grace period.
 * Return: 0, -EINVAL or -ENOMEM (then nothing more is reserved)
 */
int rcu_ptr_cache_prefill(struct rcu_ptr_cache *cache, unsigned int objects,
			  gfp_t gfp);

/**
 * struct rcu_ptr_cache_stats - counters and gauges of a cache
 * @filled: rcu sheaves that were installed to be filled
 * @emptied: allocation sheaves that were installed to be emptied
 * @missed: allocations that found no sheaf (nolock calls: no reserve either)
 * @nolock_allocs: of these, served by kmalloc_nolock()
 * @engine_fallback: freed objects that found no sheaf and went to the engine;
 *	where there is a destructor or an SRCU domain, to a list of the cache
 * @slab_allocs: objects allocated from the slab
 * @slab_frees: objects freed to the slab
 * @now_full: full sheaves in the barns
 * @now_empty: empty sheaves in the barns
 * @now_sheaves: sheaves in memory, wherever they are
 * @now_waiting: sheaves that wait for a grace period, or for a worker after it
 * @now_alloc: objects in the allocation sheaves of CPUs
 * @now_rcu: objects in the rcu sheaves of CPUs
 * @now_spare_full: full spare sheaves of CPUs
 * @now_spare_empty: empty spare sheaves of CPUs
 * @now_spent: emptied sheaves of CPUs, before their grace period
 * @now_closed: sheaves with objects, closed with interrupts off, whose grace
 *	period is requested at the next tick
 * @now_reuse: objects in the reuse slots of CPUs, for the next allocations
 * @callback_max: the most sheaves that one RCU callback looked at
 * @freed_twice: objects of which a second copy was found and dropped
 * @reserve: objects that are reserved for allocations that can't sleep
 * @destructed: calls of the destructor that have returned
 * @wait_limit_met: allocations that hit @wait_limit
 * @now_waiting_bytes: bytes that count towards @wait_limit
 */
struct rcu_ptr_cache_stats {
	u64 filled;
	u64 emptied;
	u64 missed;
	u64 nolock_allocs;
	u64 engine_fallback;
	u64 slab_allocs;
	u64 slab_frees;
	u64 now_full;
	u64 now_empty;
	u64 now_sheaves;
	u64 now_waiting;
	u64 now_alloc;
	u64 now_rcu;
	u64 now_spare_full;
	u64 now_spare_empty;
	u64 now_spent;
	u64 now_closed;
	u64 now_reuse;
	u64 callback_max;
	u64 freed_twice;
	u64 reserve;
	u64 destructed;
	u64 wait_limit_met;
	u64 now_waiting_bytes;
};

/**
 * rcu_ptr_cache_get_stats() - read the counters and gauges of a cache
 * @cache: the cache
 * @stats: filled in
 *
 * rcu_ptr/caches in debugfs has the same numbers.  Four of them have other names
 * there: @filled is free_rcu_sheaf, @emptied alloc_sheaf, @missed alloc_miss,
 * @engine_fallback free_rcu_sheaf_fail.
 *
 * CPUs are not stopped, so this is no atomic snapshot.
 *
 * Context: any but NMI.
 */
void rcu_ptr_cache_get_stats(struct rcu_ptr_cache *cache,
			     struct rcu_ptr_cache_stats *stats);

#endif /* _LINUX_RCU_PTR_H */
