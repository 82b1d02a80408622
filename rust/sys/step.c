// SPDX-License-Identifier: GPL-2.0
/* Single steps (x86), and a counter of perf that is set off again at each overflow. */
#include <linux/err.h>
#include <linux/irqflags.h>
#include <linux/kdebug.h>
#include <linux/notifier.h>
#include <linux/perf_event.h>
#include <linux/printk.h>
#include <linux/ptrace.h>
#ifdef CONFIG_X86
#include <asm/debugreg.h>
#include <asm/processor-flags.h>
#endif

#include "rs.h"

#ifdef CONFIG_X86
static int rcu_ptr_step(struct notifier_block *block, unsigned long what,
			void *data)
{
	struct die_args *args = data;
	/* Where DR6 is, as hw_breakpoint_handler() knows it. */
	unsigned long *dr6 = ERR_PTR(args->err);

	if (what != DIE_DEBUG || !(*dr6 & DR_STEP) || user_mode(args->regs))
		return NOTIFY_DONE;
	if (!rcu_ptr_rs_step(args->regs->ip, args->regs->sp))
		args->regs->flags &= ~X86_EFLAGS_TF;
	*dr6 &= ~DR_STEP;
	return *dr6 ? NOTIFY_DONE : NOTIFY_STOP;
}

static struct notifier_block rcu_ptr_steps = { .notifier_call = rcu_ptr_step };

int rcu_ptr_shim_step_register(void)
{
	return register_die_notifier(&rcu_ptr_steps);
}

void rcu_ptr_shim_step_unregister(void)
{
	unregister_die_notifier(&rcu_ptr_steps);
}
#else
int rcu_ptr_shim_step_register(void)
{
	return 0;
}

void rcu_ptr_shim_step_unregister(void)
{
}
#endif

void rcu_ptr_shim_print_step(const char *free, unsigned int number,
			     unsigned long ip, const u8 *bytes)
{
	pr_info(KBUILD_MODNAME ": step free=%s number=%u ip=%lx at=%pS bytes=%15phN\n",
		free, number, ip, (void *)ip, bytes);
}

/* The PMU is restarted here, so the period includes the rest of the return path. */
static void rcu_ptr_counted(struct perf_event *event,
			    struct perf_sample_data *data,
			    struct pt_regs *regs)
{
	u64 period = rcu_ptr_rs_counted(event->overflow_handler_context,
					instruction_pointer(regs),
					kernel_stack_pointer(regs),
					regs_irqs_disabled(regs));

	/* No throttling. */
	event->hw.interrupts = 0;
	event->pmu->stop(event, PERF_EF_UPDATE);
	event->hw.sample_period = period;
	event->hw.last_period = period;
	local64_set(&event->hw.period_left, period);
	event->pmu->start(event, PERF_EF_RELOAD);
}

struct perf_event *rcu_ptr_shim_counted(int cpu, u64 period, void *hook)
{
	return rcu_ptr_counter(cpu, period, true, rcu_ptr_counted, hook);
}
