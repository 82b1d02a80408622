// SPDX-License-Identifier: GPL-2.0
/* A counter of perf that Rust sets off again at each overflow. */
#include <linux/irqflags.h>
#include <linux/perf_event.h>
#include <linux/ptrace.h>

#include "rs.h"

/* The PMU is stopped, and starts on the way out: the rest of that is in the period. */
static void rcu_ptr_counted(struct perf_event *event,
			    struct perf_sample_data *data,
			    struct pt_regs *regs)
{
	u64 period = rcu_ptr_rs_counted(event->overflow_handler_context,
					instruction_pointer(regs),
					kernel_stack_pointer(regs),
					regs_irqs_disabled(regs));

	/* No overflow is one too many. */
	event->hw.interrupts = 0;
	event->pmu->stop(event, PERF_EF_UPDATE);
	event->hw.sample_period = period;
	event->hw.last_period = period;
	local64_set(&event->hw.period_left, period);
	event->pmu->start(event, PERF_EF_RELOAD);
}

struct perf_event *rcu_ptr_shim_counted(int cpu, u64 period, void *hook)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE,
		.config = PERF_COUNT_HW_CPU_CYCLES,
		.size = sizeof(attr),
		.pinned = 1,
		.exclude_user = 1,
		.sample_period = period,
	};

	return perf_event_create_kernel_counter(&attr, cpu, NULL,
						rcu_ptr_counted, hook);
}
