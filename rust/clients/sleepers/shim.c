// SPDX-License-Identifier: GPL-2.0
/*
 * C shims of rcu_ptr_sleepers.ko: tracepoints and the fields of a task.  No
 * logic lives here.
 */
#include <linux/instruction_pointer.h>
#include <linux/sched.h>
#include <linux/tracepoint.h>

#include "shim.h"

static void visit(struct tracepoint *tp, void *walk)
{
	rcu_ptr_sleepers_rs_tracepoint(tp->name, tp, walk);
}

void rcu_ptr_sleepers_walk(void *walk)
{
	for_each_kernel_tracepoint(visit, walk);
}

/* The prototype of sched_switch. */
static void switched(void *context, bool preempt, struct task_struct *prev,
		     struct task_struct *next, unsigned int prev_state)
{
	rcu_ptr_sleepers_rs_switch(context, prev, next,
				   !preempt && prev_state != TASK_RUNNING &&
				   !(prev_state & TASK_DEAD), _RET_IP_);
}

int rcu_ptr_sleepers_register(void *tp, void *context)
{
	return tracepoint_probe_register(tp, switched, context);
}

int rcu_ptr_sleepers_unregister(void *tp, void *context)
{
	return tracepoint_probe_unregister(tp, switched, context);
}

void rcu_ptr_sleepers_synchronize(void)
{
	tracepoint_synchronize_unregister();
}

int rcu_ptr_sleepers_pid(const struct task_struct *task)
{
	return task->pid;
}

const char *rcu_ptr_sleepers_comm(const struct task_struct *task)
{
	return task->comm;
}
