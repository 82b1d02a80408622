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

/* Private: the same for rcu_ptr_takeover.ko, which calls on behalf of @caller. */
void __rcu_ptr_kvfree_for(void *field, void *ptr, unsigned long caller);
void __rcu_ptr_kfree_nolock_for(void *field, void *ptr,
				unsigned long caller);
void __rcu_ptr_kvfree_mightsleep_for(void *ptr, unsigned long caller);
/*
 * As rcu_ptr_barrier(), but waits for the objects that the engine has only, not
 * for callbacks, caches or their destructors.
 */
void __rcu_ptr_barrier_objects(void);
/* Whether @ip is in rcu_ptr.ko. Context: any; not traced. */
bool __rcu_ptr_within(unsigned long ip);

/* Private: refuses a field that is none of the three accepted types. */
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
 * vmalloc() or kvmalloc(), of any size.  It belongs to rcu_ptr from here on:
 * readers inside rcu_read_lock() that already hold it may go on reading
 * everything but @field.
 *
 * Context: any but NMI; interrupts may be off, raw spinlocks held, PREEMPT_RT
 * as well.  Not a handler of a tracepoint or kprobe that may run in the middle
 * of the allocator or of this call itself, where locks of debug features and of
 * engine rfc may be held: rcu_ptr_kfree_nolock() is for those.  Never sleeps,
 * never fails.
 */
#define rcu_ptr_kvfree(p, field)					\
	__rcu_ptr_queue(__rcu_ptr_kvfree, p, field)

/**
 * rcu_ptr_kfree_nolock() - free an object after a grace period, from anywhere
 * @p: pointer to the start of the object, or NULL, which is ignored
 * @field: as for rcu_ptr_kvfree()
 *
 * As rcu_ptr_kvfree(), for objects of all the same kinds.
 *
 * Context: any, NMI included.  Never spins on a lock, never fails.
 */
#define rcu_ptr_kfree_nolock(p, field)					\
	__rcu_ptr_queue(__rcu_ptr_kfree_nolock, p, field)

/**
 * rcu_ptr_try_kfree_nolock() - free an object that has no field, from anywhere
 * @p: pointer to the start of the object, or NULL, which is ignored
 *
 * As rcu_ptr_kfree_nolock(), for objects of all the same kinds, but nothing in
 * the object is used.  So there has to be room elsewhere: a slot in this CPU's
 * block, or a page for another block.  Engine rfc has room only where its lock
 * is free and a block is cached or open, so it returns false far more often.
 *
 * Context: any, NMI included.  Never spins on a lock.
 *
 * Return: true when the object was taken (or is NULL, or was misused and is
 * leaked with a warning); false when there is no room: it is the caller's still.
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
 * rcu_ptr_kvfree_mightsleep() - free an object that has no field for it
 * @p: pointer to the start of the object, or NULL, which is ignored
 *
 * As rcu_ptr_kvfree(), but if there is no memory for the bookkeeping, it waits
 * for a grace period itself and frees the object before it returns.
 *
 * Context: process context, where sleeping is allowed; no handler of a
 * tracepoint or kprobe.
 */
#define rcu_ptr_kvfree_mightsleep(p)					\
do {									\
	typeof(p) __rp_obj = (p);					\
									\
	if (__rp_obj)							\
		__rcu_ptr_kvfree_mightsleep((void *)__rp_obj);		\
} while (0)

/**
 * rcu_ptr_call() - call a function after a grace period, from anywhere
 * @head: a struct rcu_head anywhere in kernel memory: in an object, static, on
 *	a stack
 * @func: the function, which gets @head
 *
 * call_rcu() for any context.  @func runs as a callback of call_rcu() does,
 * with BH disabled and interrupts on, in a worker; it may free what @head
 * is in, or queue @head again.  A callback that takes long holds up other
 * callbacks that were queued on the same CPU, but no object that is freed by
 * the other functions.
 *
 * A module that is unloaded goes when its callbacks have returned: rcu_ptr.ko
 * waits for them after the module's exit, and for those that they queue.  This
 * is for modules that use symbols of rcu_ptr.ko as they are linked; one that
 * has them by symbol_get() calls rcu_ptr_barrier() itself.
 *
 * Context: any, NMI included.  Never spins on a lock, never fails.
 */
void rcu_ptr_call(struct rcu_head *head, rcu_callback_t func);

/**
 * rcu_ptr_call_sleepable() - call a function that may sleep after a grace period
 * @head: as for rcu_ptr_call()
 * @func: the function, which gets @head
 *
 * As rcu_ptr_call(), but @func runs in process context as one of
 * queue_rcu_work() does.  One that sleeps holds up no callback of
 * rcu_ptr_call(), and others of its kind only where four that were queued on
 * the same CPU sleep.  It may not wait for a module to be loaded or unloaded:
 * a module that goes may wait for callbacks, with the chain of module notifiers
 * locked.
 *
 * Context: any, NMI included.  Never spins on a lock, never fails.
 */
void rcu_ptr_call_sleepable(struct rcu_head *head, rcu_callback_t func);

/**
 * rcu_ptr_barrier() - wait until everything queued so far is freed
 *
 * Returns after every object queued before the call, on any CPU and by any
 * function of this header, has been given back to its allocator, and every
 * callback has returned; objects freed by rcu_ptr_cache_free_rcu() are back in
 * the slab, or available to allocations.  Call it before kmem_cache_destroy()
 * and at the end of a module's exit.  What a callback queues is not covered:
 * where callbacks free objects of a cache, or queue others that do, call it once
 * more for each such step.
 *
 * It is complete under CPU hotplug: what was queued on a CPU that is down, or
 * on its way, is covered.  It does not depend on tasks of other CPUs being
 * scheduled.  A CPU that holds no objects is left alone, others are interrupted.
 *
 * Context: process context, where sleeping is allowed.  It would wait for
 * itself in a callback, in a destructor of a cache, inside a reader of any
 * cache's SRCU domain, with a lock held that callbacks or destructors take, and
 * in a CPU hotplug callback where caches are used: if a CPU that is not online
 * holds sheaves of one, it waits for the operation in progress.  Without
 * callbacks of rcu_ptr_call_sleepable() nothing that it waits for allocates, so
 * locks that memory reclaim takes may be held, and the CPU hotplug lock, unless a
 * CPU was left half way down (hotplug/target in sysfs).  Otherwise it also waits
 * for whatever these callbacks wait for, which run on a workqueue that may need
 * memory for its workers.
 */
void rcu_ptr_barrier(void);

/**
 * DOC: caches
 *
 * A cache whose objects are recycled without touching the slab: freed ones wait
 * for a grace period in sheaves of up to 56 pointers, and are allocated again
 * from the same sheaves.  Allocation and both ways to free take one object
 * slot of this CPU, in any context, NMI included, with no lock, no locked
 * instruction and no barrier.
 *
 * Objects keep whatever they held from one use to the next, unless @dtor of
 * struct rcu_ptr_cache_args changes it.
 */
struct rcu_ptr_cache;
struct srcu_struct;

/**
 * struct rcu_ptr_cache_args - less common arguments of rcu_ptr_cache_create()
 * @align: alignment of the objects in bytes, a power of two; 0: 8
 * @link_offset: offset of a field of type struct rcu_ptr in the object, a
 *	multiple of 8
 * @use_link_offset: whether there is one
 * @sheaf_capacity: objects in a sheaf, 1 to 56; 0: by the size of the object
 * @barn_limit: full sheaves to keep per node, up to 65536, and as many empty
 *	ones; 0: 4 MiB worth of objects, at least 10 and at most 1024, and up to
 *	four times that while allocations need more objects than are back yet
 *
 * @ctor: called once for an object when its memory is set up, as that of
 *	kmem_cache_create(); what it wrote is there at every allocation, if users
 *	leave it so when they free.  With SLAB_TYPESAFE_BY_RCU readers may lock or
 *	count an object that they found, and look again whether it is theirs.
 *	Context: that of the allocation which the slab got memory for, a worker's
 *	included: the cache is destroyed before the module of @ctor goes.
 * @dtor: called once for each use of an object: after the grace period of
 *	rcu_ptr_cache_free_rcu() or rcu_ptr_cache_free(), and before the object is
 *	allocated again or returned to the slab.  Context: process context,
 *	preemptible, in a worker that memory reclaim may wait for, or in a caller
 *	of rcu_ptr_barrier(), rcu_ptr_cache_barrier() or rcu_ptr_cache_destroy();
 *	for different objects at the same time.  It may use every call of this
 *	header that does not wait, for objects of this cache too, and sleep for a
 *	short time, but not wait for memory reclaim.  While it runs others of this
 *	cache wait.
 * @srcu: readers of this SRCU domain may look at freed objects, as those of RCU
 *	may: an object waits for a grace period of RCU and for one of the
 *	domain.  NULL: of RCU alone.  Any flavor of
 *	reader; rcu_tasks_trace_srcu_struct for readers inside
 *	rcu_read_lock_tasks_trace().  It has to be there until
 *	rcu_ptr_cache_destroy() has returned, and may be cleaned up then.
 * @wait_limit: maximum bytes of objects, as aligned, that wait for a grace period
 *	or for a destructor after it; 0: unlimited.  At the limit allocations may
 *	wait for a grace period, or fail, but for __GFP_NOFAIL; frees never fail.
 *	See "Wait limit" in docs/sheaves.md.
 *
 * The link is only used for objects that are freed while no empty sheaf can be
 * had, in any context.  Without a field for it 8 bytes are added behind each object.
 * With one the field may be overwritten: neither @dtor nor the next user may rely
 * on what @ctor wrote there.
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
 * rcu_ptr_cache_create() - make a cache
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
 * Without a field for the link @size may be up to 4088 bytes, with one any
 * that kmem_cache_create() takes.
 *
 * As long as there is a cache rcu_ptr.ko can't be unloaded.  One that is never
 * destroyed does no other harm if its SRCU domain stays.
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
 * Waits for objects whose grace period is not over: a grace period, and what
 * kmem_cache_destroy() takes.  With a destructor one more, and one for each
 * generation of objects of this cache that destructors free: when it returns
 * all of them have returned.  Where its user still holds objects a warning
 * says how many; they are leaked, with the kmem_cache that they are from, and
 * not destructed.
 *
 * With an SRCU domain it waits for a grace period of it, and for all callbacks
 * that the domain has (srcu_barrier()).
 *
 * Context: process context, may sleep; as for kmem_cache_destroy() no CPU
 * hotplug callback, and no lock held that memory reclaim takes; not inside a
 * reader of the cache's SRCU domain.
 */
void rcu_ptr_cache_destroy(struct rcu_ptr_cache *cache);

/**
 * rcu_ptr_cache_barrier() - wait until all that was freed so far is available
 * @cache: the cache
 *
 * As rcu_ptr_barrier(), for the objects of one cache: about a grace period,
 * whatever waits in others; of the SRCU domain too, where the cache has one.
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
 * They hold from now on; a barn that is above its limit is trimmed, and sheaves
 * in use keep their capacity until they are empty.  A line that is written to
 * rcu_ptr/caches in debugfs does the same, as it is read there:
 * cache=NAME capacity=N barn_limit=N wait_limit=BYTES, for all caches of that
 * name; what is left out stays as it is.
 *
 * Context: task or softirq.
 * Return: 0 or -EINVAL, and nothing has changed
 */
int rcu_ptr_cache_set_limits(struct rcu_ptr_cache *cache,
			     const struct rcu_ptr_cache_limits *limits);

/**
 * rcu_ptr_cache_get_limits() - read the limits of a cache
 * @cache: the cache
 * @limits: filled in, with what stands for a default
 *
 * Context: any.
 */
void rcu_ptr_cache_get_limits(struct rcu_ptr_cache *cache,
			      struct rcu_ptr_cache_limits *limits);

/* Private: rcu_ptr_cache_alloc() without __GFP_ZERO. */
void *__rcu_ptr_cache_alloc(struct rcu_ptr_cache *cache, gfp_t gfp);
/* Private: zeroes a fresh object. */
void __rcu_ptr_cache_zero(struct rcu_ptr_cache *cache, void *object);

/**
 * rcu_ptr_cache_size() - bytes of an object
 * @cache: the cache
 *
 * Context: any.
 * Return: what rcu_ptr_cache_create() was given
 */
unsigned int rcu_ptr_cache_size(const struct rcu_ptr_cache *cache);

/**
 * rcu_ptr_cache_alloc() - allocate an object
 * @cache: the cache
 * @gfp: as for kmem_cache_alloc(), but for what the next owners of the object
 *	would inherit: __GFP_ACCOUNT, __GFP_THISNODE and flags for a kind of
 *	memory are ignored
 *
 * Objects for sheaves are allocated with @gfp, but without recourse to memory
 * reserves, __GFP_NOFAIL or __GFP_RETRY_MAYFAIL; if that fails, one object is
 * allocated with all of it.
 *
 * With a constructor __GFP_ZERO gives a warning, and has no effect.
 *
 * Context: that of kmem_cache_alloc() with @gfp; never NMI, nor a handler of a
 * tracepoint or kprobe that may run in the middle of the allocator or of this
 * call: rcu_ptr_cache_alloc_nolock() is for those.
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
 * rcu_ptr_cache_alloc_nolock() - allocate an object, from anywhere
 * @cache: the cache
 *
 * From sheaves; then from the reserve of rcu_ptr_cache_prefill(); then by
 * kmalloc_nolock(), if the alignment and the flags of the cache allow for it
 * and there is no constructor.
 * When sheaves are empty a worker refills them, by the number of failed
 * allocations and some more.
 *
 * Context: any, NMI included.
 * Return: the object, or NULL
 */
void *rcu_ptr_cache_alloc_nolock(struct rcu_ptr_cache *cache);

/**
 * rcu_ptr_cache_free() - free an object at once
 * @cache: the cache
 * @object: an object of it that no reader can have, or NULL
 *
 * Where frees are checked, see rcu_ptr_cache_create(), or objects zeroed
 * (init_on_free=1), where there is a destructor, which can't run in any
 * context, and with SLAB_TYPESAFE_BY_RCU and an SRCU domain, which the slab does
 * not wait for, this is rcu_ptr_cache_free_rcu().
 *
 * Context: any, NMI included.
 */
void rcu_ptr_cache_free(struct rcu_ptr_cache *cache, void *object);

/**
 * rcu_ptr_cache_free_rcu() - free an object after a grace period
 * @cache: the cache
 * @object: an object of it, or NULL
 *
 * Readers inside rcu_read_lock(), and those of the cache's SRCU domain, that
 * already hold the object may go on reading all of it but a field that
 * @link_offset named.
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
 * CPU's node, in any context and whichever CPU they come to; those that can
 * sleep leave the reserve alone, and so do memory reclaim and other nodes.  A
 * worker makes up for what was taken.
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
 * @missed: allocations that found no sheaf
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
 * @now_rcu: objects in their rcu sheaves
 * @now_spare_full: full sheaves that CPUs keep
 * @now_spare_empty: empty ones
 * @now_spent: emptied sheaves that are to wait for a grace period
 * @now_closed: sheaves of objects that are to wait from the next tick on
 * @now_reuse: objects that are to be used again at once
 * @callback_max: the most sheaves that one RCU callback took in
 * @freed_twice: objects of which a second copy was found and dropped
 * @reserve: objects that are kept for allocations that can't wait
 * @destructed: calls of the destructor that have returned
 * @wait_limit_met: allocations that found as many bytes waiting as may
 * @now_waiting_bytes: bytes that wait, as @wait_limit has them
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
 * @stats: filled in; the same numbers are in debugfs, rcu_ptr/caches, some under
 *	the slab's names: filled is free_rcu_sheaf there, emptied alloc_sheaf,
 *	missed alloc_miss, engine_fallback free_rcu_sheaf_fail
 *
 * CPUs are not stopped, so the numbers are not of one moment.
 *
 * Context: any but NMI.
 */
void rcu_ptr_cache_get_stats(struct rcu_ptr_cache *cache,
			     struct rcu_ptr_cache_stats *stats);

#endif /* _LINUX_RCU_PTR_H */
