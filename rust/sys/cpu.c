// SPDX-License-Identifier: GPL-2.0
/* The context of tests; beside context.c. */
#include <linux/bottom_half.h>
#include <linux/irqflags.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#include <linux/spinlock.h>

int rcu_ptr_shim_ctx(void)
{
	return rcu_ptr_ctx();
}

bool rcu_ptr_shim_irqs_disabled(void)
{
	return irqs_disabled();
}

void rcu_ptr_shim_preempt_disable_notrace(void)
{
	preempt_disable_notrace();
}

void rcu_ptr_shim_preempt_enable_notrace(void)
{
	preempt_enable_notrace();
}

bool rcu_ptr_shim_bh_is_off(void)
{
	return in_softirq() && !in_hardirq() && !in_nmi() && !irqs_disabled();
}

bool rcu_ptr_shim_may_sleep(void)
{
	return !preempt_count() && !irqs_disabled() && !rcu_preempt_depth();
}

static DEFINE_RAW_SPINLOCK(rcu_ptr_raw_lock);

unsigned long rcu_ptr_shim_raw_lock_irqsave(void)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&rcu_ptr_raw_lock, flags);
	return flags;
}

void rcu_ptr_shim_raw_unlock_irqrestore(unsigned long flags)
{
	raw_spin_unlock_irqrestore(&rcu_ptr_raw_lock, flags);
}

void rcu_ptr_shim_bh_disable(void)
{
	local_bh_disable();
}

void rcu_ptr_shim_bh_enable(void)
{
	local_bh_enable();
}
