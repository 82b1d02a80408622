/* SPDX-License-Identifier: GPL-2.0 */
/* C shims of rcu_ptr_sleepers.ko: tracepoints and the fields of a task. */
#ifndef _RCU_PTR_SLEEPERS_SHIM_H
#define _RCU_PTR_SLEEPERS_SHIM_H

#include <linux/kallsyms.h>
#include <linux/types.h>

/* Bytes of a symbol's text. */
enum rcu_ptr_sleepers {
	RCU_PTR_SLEEPERS_SYMBOL = KSYM_SYMBOL_LEN,
};

struct task_struct;
struct tracepoint;

/* Calls rcu_ptr_sleepers_rs_tracepoint() for every tracepoint of the kernel. */
void rcu_ptr_sleepers_walk(void *walk);
void rcu_ptr_sleepers_rs_tracepoint(const char *name, void *tp, void *walk);

/* Have rcu_ptr_sleepers_rs_switch() called at sched_switch, or no more. */
int rcu_ptr_sleepers_register(void *tp, void *context);
int rcu_ptr_sleepers_unregister(void *tp, void *context);
void rcu_ptr_sleepers_synchronize(void);
void rcu_ptr_sleepers_rs_switch(void *context, struct task_struct *prev,
				struct task_struct *next, bool sleeps,
				unsigned long ip);

int rcu_ptr_sleepers_pid(const struct task_struct *task);
const char *rcu_ptr_sleepers_comm(const struct task_struct *task);

#endif /* _RCU_PTR_SLEEPERS_SHIM_H */
