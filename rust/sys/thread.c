// SPDX-License-Identifier: GPL-2.0
/* The current task. */
#include <linux/cpumask.h>
#include <linux/nmi.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>

/* -1: any CPU. */
bool rcu_ptr_shim_move(struct task_struct *task, int cpu)
{
	return !set_cpus_allowed_ptr(task, cpu < 0 ? cpu_possible_mask :
					   cpumask_of(cpu));
}

void rcu_ptr_shim_not_hung(void)
{
	reset_hung_task_detector();
}

/* As memory reclaim, for lockdep. */
void rcu_ptr_shim_reclaim_begin(void)
{
	fs_reclaim_acquire(GFP_KERNEL);
}

void rcu_ptr_shim_reclaim_end(void)
{
	fs_reclaim_release(GFP_KERNEL);
}

void rcu_ptr_shim_make_it_fail(bool on)
{
#ifdef CONFIG_FAULT_INJECTION
	current->make_it_fail = on;
#endif
}
