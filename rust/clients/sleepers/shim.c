// SPDX-License-Identifier: GPL-2.0
/*
 * The C of rcu_ptr_sleepers.ko: a probe on sched_switch, and shims for the
 * kernel.
 */
#include <linux/instruction_pointer.h>
#include <linux/kallsyms.h>
#include <linux/sched.h>
#include <linux/stacktrace.h>
#include <linux/rcu_ptr.h>

#include "../../sys/tracepoint.c"

#include "../../sys/rs.h"

/* Bytes of a symbol's text. */
enum rcu_ptr_sleepers {
	RCU_PTR_SLEEPERS_SYMBOL = KSYM_SYMBOL_LEN,
};

/* The prototype of sched_switch. */
void rcu_ptr_shim_switched(void *context, bool preempt,
			   struct task_struct *prev, struct task_struct *next,
			   unsigned int prev_state)
{
	rcu_ptr_rs_switch(context, prev, next,
			  !preempt && prev_state != TASK_RUNNING &&
			  !(prev_state & TASK_DEAD), _RET_IP_);
}
