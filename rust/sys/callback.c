// SPDX-License-Identifier: GPL-2.0
/* The functions of others, as lockdep and kCFI are to know them. */
#include <linux/bottom_half.h>
#include <linux/lockdep.h>
#include <linux/rcupdate.h>

/* Callbacks of others, which must not be waited for with this held. */
#ifdef CONFIG_LOCKDEP
static struct lock_class_key rcu_ptr_call_key;
static struct lockdep_map rcu_ptr_call_map =
	STATIC_LOCKDEP_MAP_INIT("rcu_ptr_call", &rcu_ptr_call_key);
#endif

/* From C, so that the type of the function is checked (CONFIG_CFI). */
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

/* The same of one that may sleep. */
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
#ifdef CONFIG_LOCKDEP
	lock_map_sync(&rcu_ptr_dtor_map);
#endif
}
