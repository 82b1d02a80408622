// SPDX-License-Identifier: GPL-2.0
/* Raw spinlocks. */
#include <linux/lockdep.h>
#include <linux/spinlock.h>

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

int rcu_ptr_shim_raw_trylock(raw_spinlock_t *lock)
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
