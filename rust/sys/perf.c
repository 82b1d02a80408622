// SPDX-License-Identifier: GPL-2.0
/* perf counters and breakpoints with overflow handlers in Rust. */
#include <linux/err.h>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <linux/preempt.h>
#include <linux/ptrace.h>
#ifdef CONFIG_X86
#include <asm/processor-flags.h>
#endif

#include "rs.h"

static void rcu_ptr_overflow(struct perf_event *event,
			     struct perf_sample_data *data,
			     struct pt_regs *regs)
{
	bool on __maybe_unused =
		rcu_ptr_rs_overflow(event->overflow_handler_context,
				    instruction_pointer(regs),
				    kernel_stack_pointer(regs));

#ifdef CONFIG_X86
	/* Not nested in another NMI: its return path cannot be stepped. */
	if (on && !user_mode(regs) && in_nmi() == NMI_OFFSET)
		regs->flags |= X86_EFLAGS_TF;
#endif
}

static struct perf_event *rcu_ptr_counter(int cpu, u64 period, bool exclude_user,
					  perf_overflow_handler_t handler,
					  void *hook)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE,
		.config = PERF_COUNT_HW_CPU_CYCLES,
		.size = sizeof(attr),
		.pinned = 1,
		.exclude_user = exclude_user,
		.sample_period = period,
	};

	return perf_event_create_kernel_counter(&attr, cpu, NULL, handler, hook);
}

struct perf_event *rcu_ptr_shim_cycles(int cpu, u64 period, void *hook)
{
	return rcu_ptr_counter(cpu, period, false, rcu_ptr_overflow, hook);
}

#ifdef CONFIG_X86
void *rcu_ptr_shim_breakpoint(unsigned long address, bool execute, int length,
			      void *hook)
{
	struct perf_event_attr attr;

	hw_breakpoint_init(&attr);
	attr.bp_addr = address;
	attr.bp_len = execute ? sizeof(long) : length;
	attr.bp_type = execute ? HW_BREAKPOINT_X : HW_BREAKPOINT_W;
	return (void *)(__force unsigned long)
		register_wide_hw_breakpoint(&attr, rcu_ptr_overflow, hook);
}

void rcu_ptr_shim_no_breakpoint(void *events)
{
	unregister_wide_hw_breakpoint((struct perf_event * __percpu * __force)
				      (unsigned long)events);
}
#else
/* arm64 does not step over breakpoints that have an overflow handler. */
void *rcu_ptr_shim_breakpoint(unsigned long address, bool execute, int length,
			      void *hook)
{
	return ERR_PTR(-EOPNOTSUPP);
}

void rcu_ptr_shim_no_breakpoint(void *events)
{
}
#endif
