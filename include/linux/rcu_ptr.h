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
#include <linux/stddef.h>
#include <linux/types.h>

/**
 * struct rcu_ptr - what an object needs to be freed by rcu_ptr_kvfree()
 * @link: private: the next object, and where this one starts
 *
 * 8 bytes, half of a struct rcu_head.  It needs no initialisation, and its
 * content is free for any other use (a union, say) until the object is queued.
 */
struct rcu_ptr {
	unsigned long link;
};

/* A field has to start in the first page of its object. */
#define RCU_PTR_MAX_OFFSET	4096

/* Private: use the macros below, which check the types. */
void rcu_ptr_kvfree_call(void *field, void *ptr);
void rcu_ptr_kfree_nolock_call(void *field, void *ptr);
bool rcu_ptr_try_kfree_nolock_call(void *ptr);
void rcu_ptr_kvfree_call_mightsleep(void *ptr);

/* Private: refuses a field that is none of the three accepted types. */
#define __rcu_ptr_field(f)						\
	_Generic((f),							\
		 struct rcu_ptr *: (f),					\
		 struct kvfree_rcu_head *: (f),				\
		 struct rcu_head *: (f))

/**
 * rcu_ptr_kvfree() - free an object after a grace period
 * @p: pointer to the start of the object, or NULL (then nothing happens)
 * @field: name of its field of type struct rcu_ptr, struct kvfree_rcu_head or
 *	struct rcu_head, less than 4096 bytes from the start
 *
 * The object may come from kmalloc(), kmalloc_nolock(), kmem_cache_alloc(),
 * vmalloc() or kvmalloc(), of any size.  It belongs to rcu_ptr from here on:
 * readers inside rcu_read_lock() that already hold it may go on reading
 * everything but @field.
 *
 * Context: any but NMI; interrupts may be off, raw spinlocks held, PREEMPT_RT
 * as well.  Never sleeps, never fails.
 */
#define rcu_ptr_kvfree(p, field)					\
	__rcu_ptr_queue(rcu_ptr_kvfree_call, p, field)

/**
 * rcu_ptr_kfree_nolock() - free an object after a grace period, from anywhere
 * @p: pointer to the start of the object, or NULL (then nothing happens)
 * @field: as for rcu_ptr_kvfree()
 *
 * As rcu_ptr_kvfree(), for objects of all the same kinds.
 *
 * Context: any, NMI included.  Never spins on a lock, never fails.
 */
#define rcu_ptr_kfree_nolock(p, field)					\
	__rcu_ptr_queue(rcu_ptr_kfree_nolock_call, p, field)

/**
 * rcu_ptr_try_kfree_nolock() - free an object that has no field, from anywhere
 * @p: pointer to the start of the object, or NULL (then nothing happens)
 *
 * As rcu_ptr_kfree_nolock(), for objects of all the same kinds, but nothing in
 * the object is used.  So there has to be room elsewhere: a slot in this CPU's
 * block, or a page for another block.  Engine rfc has room only where its lock
 * is free and a block is cached or open, so it says no far more often.
 *
 * Context: any, NMI included.  Never spins on a lock.
 *
 * Return: true when the object was taken (or is NULL, or was refused with a
 * warning and leaked); false when there is no room: it is the caller's still.
 */
#define rcu_ptr_try_kfree_nolock(p)					\
({									\
	typeof(p) __rp_obj = (p);					\
									\
	!__rp_obj || rcu_ptr_try_kfree_nolock_call((void *)__rp_obj);	\
})

/* Private: checks the field and hands object and field to @call. */
#define __rcu_ptr_queue(call, p, field)					\
do {									\
	typeof(p) __rp_obj = (p);					\
									\
	static_assert(offsetof(typeof(*__rp_obj), field) <		\
		      RCU_PTR_MAX_OFFSET,				\
		      "rcu_ptr: field starts beyond the first page");	\
	static_assert(offsetof(typeof(*__rp_obj), field) %		\
		      sizeof(void *) == 0,				\
		      "rcu_ptr: field is not aligned to a pointer");	\
	if (__rp_obj)							\
		call(__rcu_ptr_field(&__rp_obj->field),			\
		     (void *)__rp_obj);					\
} while (0)

/**
 * rcu_ptr_kvfree_mightsleep() - free an object that has no field for it
 * @p: pointer to the start of the object, or NULL (then nothing happens)
 *
 * As rcu_ptr_kvfree(), but where no memory is to be had for the bookkeeping it
 * waits for a grace period itself and frees the object before it returns.
 *
 * Context: process context, where sleeping is allowed.
 */
#define rcu_ptr_kvfree_mightsleep(p)					\
do {									\
	typeof(p) __rp_obj = (p);					\
									\
	if (__rp_obj)							\
		rcu_ptr_kvfree_call_mightsleep((void *)__rp_obj);	\
} while (0)

/**
 * rcu_ptr_barrier() - wait until everything queued so far is freed
 *
 * Returns after every object queued before the call, on any CPU and by any of
 * the calls above, has been given back to its allocator.  Call it before
 * kmem_cache_destroy() and at the end of a module's exit.
 *
 * Context: process context, where sleeping is allowed.
 */
void rcu_ptr_barrier(void);

/**
 * rcu_ptr_word() - where to watch the engine at work
 * @cpu: a possible CPU
 * @index: 0, 1, ...
 *
 * For debuggers and tests: the address of a word of @cpu's state that is
 * written when objects come, 0 past the last.  With engine rfc: the lock (4
 * bytes), the head of the list, the head of the deferred list.  With engine
 * lockless: the word that slots are reserved with, the head of the closed
 * blocks, the head of the list.
 *
 * Context: any but NMI.
 */
unsigned long rcu_ptr_word(int cpu, unsigned int index);

#endif /* _LINUX_RCU_PTR_H */
