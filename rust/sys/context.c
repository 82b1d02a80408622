// SPDX-License-Identifier: GPL-2.0
/* The context of the caller; disabling of interrupts and preemption. */
#include <linux/irqflags.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#include <trace/events/rcu_ptr.h>

unsigned long rcu_ptr_shim_irq_save(void)
{
	unsigned long flags;

	local_irq_save(flags);
	return flags;
}

void rcu_ptr_shim_irq_restore(unsigned long flags)
{
	local_irq_restore(flags);
}

void rcu_ptr_shim_preempt_disable(void)
{
	preempt_disable();
}

void rcu_ptr_shim_preempt_enable(void)
{
	preempt_enable();
}

void *rcu_ptr_shim_resched(void *value)
{
	preempt_disable();
	preempt_enable();
	return value;
}

static inline int rcu_ptr_ctx(void)
{
	return in_nmi() ? RCU_PTR_CTX_NMI :
	       in_hardirq() ? RCU_PTR_CTX_HARDIRQ :
	       in_serving_softirq() ? RCU_PTR_CTX_SOFTIRQ : RCU_PTR_CTX_TASK;
}

/* The context of a caller, with preemption disabled by us. */
enum rcu_ptr_context {
	RCU_PTR_CONTEXT_MAY_LOCK = 1,
	RCU_PTR_CONTEXT_PREEMPTIBLE = 2,
};

/* Our own preempt_disable() is the PREEMPT_DISABLE_OFFSET. */
unsigned int rcu_ptr_shim_context(void)
{
	bool irqs_on = !irqs_disabled() && !in_nmi();

	return (irqs_on ? RCU_PTR_CONTEXT_MAY_LOCK : 0) |
	       (IS_ENABLED(CONFIG_PREEMPT_COUNT) && irqs_on &&
		preempt_count() == PREEMPT_DISABLE_OFFSET ?
		RCU_PTR_CONTEXT_PREEMPTIBLE : 0);
}
