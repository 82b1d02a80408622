// SPDX-License-Identifier: GPL-2.0
/*
 * C shims of rcu_ptr_nmi_hash.ko: perf's structures and macros.  No logic lives
 * here.
 */
#include <linux/cpumask.h>
#include <linux/err.h>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <linux/preempt.h>
#include <linux/ptrace.h>

#include "shim.h"

static void overflow(struct perf_event *event, struct perf_sample_data *data,
		     struct pt_regs *regs)
{
	rcu_ptr_nmi_hash_rs_sample(event->overflow_handler_context,
				   instruction_pointer(regs), in_nmi());
}

void *rcu_ptr_nmi_hash_cycles(int cpu, u64 period, void *context)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE,
		.config = PERF_COUNT_HW_CPU_CYCLES,
		.size = sizeof(attr),
		.pinned = 1,
		.sample_period = period,
	};

	return perf_event_create_kernel_counter(&attr, cpu, NULL, overflow,
						context);
}

#ifdef CONFIG_X86
void *rcu_ptr_nmi_hash_watch(int cpu, unsigned long word, void *context)
{
	struct perf_event_attr attr;

	hw_breakpoint_init(&attr);
	attr.bp_addr = word;
	attr.bp_len = HW_BREAKPOINT_LEN_8;
	attr.bp_type = HW_BREAKPOINT_W;
	return perf_event_create_kernel_counter(&attr, cpu, NULL, overflow,
						context);
}
#else
/* arm64's handler does not step over a watchpoint with an own overflow handler. */
void *rcu_ptr_nmi_hash_watch(int cpu, unsigned long word, void *context)
{
	return ERR_PTR(-EOPNOTSUPP);
}
#endif

int rcu_ptr_nmi_hash_next_online_cpu(int cpu)
{
	return cpumask_next(cpu, cpu_online_mask);
}
