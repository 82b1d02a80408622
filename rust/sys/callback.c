// SPDX-License-Identifier: GPL-2.0
/* Calls of callbacks and destructors, with the annotations of lockdep. */
#include <linux/bottom_half.h>
#include <linux/lockdep.h>
#include <linux/rcupdate.h>

/* Held around callbacks, and acquired by those that wait for them. */
#ifdef CONFIG_LOCKDEP
static struct lock_class_key rcu_ptr_call_key;
static struct lockdep_map rcu_ptr_call_map =
	STATIC_LOCKDEP_MAP_INIT("rcu_ptr_call", &rcu_ptr_call_key);
#endif

/* In C, because kCFI checks the type of @func. */
void rcu_ptr_shim_invoke(struct rcu_head *head, rcu_callback_t func)
{
	lock_map_acquire(&rcu_ptr_call_map);
	local_bh_disable();
	rcu_lock_acquire(&rcu_callback_map);
	func(head);
	rcu_lock_release(&rcu_callback_map);
	local_bh_enable();
	lock_map_release(&rcu_ptr_call_map);
}

void rcu_ptr_shim_invoke_sleepable(struct rcu_head *head, rcu_callback_t func)
{
	lock_map_acquire(&rcu_ptr_call_map);
	func(head);
	lock_map_release(&rcu_ptr_call_map);
}

void rcu_ptr_shim_call_wait(void)
{
#ifdef CONFIG_LOCKDEP
	lock_map_sync(&rcu_ptr_call_map);
#endif
}

/* Held around destructors of caches, and acquired by those that wait for them. */
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
#ifdef CONFIG_LOCKDEP
	lock_map_sync(&rcu_ptr_dtor_map);
#endif
}
