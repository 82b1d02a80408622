// SPDX-License-Identifier: GPL-2.0
/* Debug features of the kernel, and warnings. */
#include <linux/bug.h>
#include <linux/debugobjects.h>
#include <linux/kmemleak.h>
#include <linux/rcupdate.h>

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

#define RCU_PTR_WARNS_ONCE(name, parameters, format, ...)		\
void name parameters							\
{									\
	WARN_ONCE(1, "rcu_ptr: " format "\n", ##__VA_ARGS__);		\
}

/* One warning for each kind of misuse. */
#define RCU_PTR_MISUSE(name, format, ...)				\
RCU_PTR_WARNS_ONCE(name, (void *ptr, void *field, unsigned long caller),	\
		   format "; queued by %pS", __VA_ARGS__, (void *)caller)

/* %px: neither is a kernel address, so they reveal none. */
RCU_PTR_MISUSE(rcu_ptr_shim_warn_user,
	       "%px (field %px) is no kernel address, leaked", ptr, field)
RCU_PTR_MISUSE(rcu_ptr_shim_warn_align,
	       "%p (field %p) is not aligned, leaked", ptr, field)
RCU_PTR_MISUSE(rcu_ptr_shim_warn_offset,
	       "field %p does not start in the first 4096 bytes of object %p, leaked",
	       field, ptr)
RCU_PTR_MISUSE(rcu_ptr_shim_warn_double,
	       "%p (field %p) is queued twice, second call ignored", ptr, field)
RCU_PTR_MISUSE(rcu_ptr_shim_warn_no_func,
	       "no function to call for %p, ignored", ptr)

RCU_PTR_WARNS_ONCE(rcu_ptr_shim_warn_barrier, (void),
		   "barrier in a callback; not waiting for callbacks")
RCU_PTR_WARNS_ONCE(rcu_ptr_shim_warn_endless, (unsigned long objects),
		   "a list of %lu objects is broken, leaked; one was queued again while it was linked",
		   objects)
RCU_PTR_WARNS_ONCE(rcu_ptr_shim_warn_early, (void *ptr),
		   "grace period of batch %p is not over, leaked", ptr)
RCU_PTR_WARNS_ONCE(rcu_ptr_shim_warn_nested, (const char *name),
		   "too many contexts are nested in calls of cache %s", name)
RCU_PTR_WARNS_ONCE(rcu_ptr_shim_warn_zero, (void),
		   "__GFP_ZERO for a cache with a constructor, ignored")

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

void rcu_ptr_shim_warn_held(const char *name, long objects,
			    unsigned long caller)
{
	WARN(1, "rcu_ptr: cache %s is destroyed with %ld objects still held, leaked with it; called from %pS\n",
	     name, objects, (void *)caller);
}
