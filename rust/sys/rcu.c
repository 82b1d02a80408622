// SPDX-License-Identifier: GPL-2.0
/* RCU and SRCU. */
#include <linux/rcupdate.h>
#include <linux/srcu.h>

void rcu_ptr_shim_call_rcu(struct rcu_head *head, rcu_callback_t func)
{
	call_rcu_hurry(head, func);
}

void rcu_ptr_shim_callback_enter(void)
{
	rcu_lock_acquire(&rcu_callback_map);
}

void rcu_ptr_shim_callback_exit(void)
{
	rcu_lock_release(&rcu_callback_map);
}

void rcu_ptr_shim_cond_resched_rcu_qs(void)
{
	cond_resched_tasks_rcu_qs();
}

bool rcu_ptr_shim_srcu_waits_for_rcu(struct srcu_struct *srcu)
{
	return srcu->srcu_reader_flavor & SRCU_READ_FLAVOR_SLOWGP;
}

void rcu_ptr_shim_srcu_wait(struct srcu_struct *srcu)
{
	srcu_lock_sync(&srcu->dep_map);
}
