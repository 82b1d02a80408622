// SPDX-License-Identifier: GPL-2.0
/* Work items and irq_works. */
#include <linux/irq_work.h>
#include <linux/lockdep.h>
#include <linux/sched.h>
#include <linux/percpu.h>
#include <linux/tick.h>
#include <linux/workqueue.h>

void rcu_ptr_shim_init_rcu_work(struct rcu_work *work, work_func_t func)
{
	INIT_RCU_WORK(work, func);
}

/* Each has a lockdep class of its own. */
enum rcu_ptr_work {
	RCU_PTR_WORK_FREES,
	RCU_PTR_WORK_DESTRUCTS,
	RCU_PTR_WORK_ALLOCATES,
	RCU_PTR_WORK_CALLS,
	RCU_PTR_WORK_SLEEPS,
	RCU_PTR_WORK_CLASSES,
};

void rcu_ptr_shim_init_delayed_work(struct delayed_work *work,
				    work_func_t func, enum rcu_ptr_work class)
{
	static struct lock_class_key keys[RCU_PTR_WORK_CLASSES];

	INIT_DELAYED_WORK(work, func);
	/* A lockdep class for each kind, not for this use of the macro. */
	lockdep_init_map(&work->work.lockdep_map, "rcu_ptr_work", &keys[class], 0);
}

bool rcu_ptr_shim_work_pending(struct delayed_work *work)
{
	return delayed_work_pending(work);
}

bool rcu_ptr_shim_work_waits(struct delayed_work *work)
{
	return timer_pending(&work->timer);
}

void rcu_ptr_shim_init_irq_work(struct irq_work *work,
				void (*func)(struct irq_work *work), int flags)
{
	*work = __IRQ_WORK_INIT(func, flags);
}

/* Whether the code that this interrupts, or is called by, may be stopping the tick. */
bool rcu_ptr_shim_may_stop_tick(void)
{
	return (in_nmi() || (irqs_disabled() && !in_hardirq())) &&
	       (is_idle_task(current) ||
		tick_nohz_full_cpu(raw_smp_processor_id()));
}

/* Whether irq_works may be queued on this CPU. */
static DEFINE_PER_CPU(bool, rcu_ptr_irq_works_run);

bool rcu_ptr_shim_irq_works_run(void)
{
	return __this_cpu_read(rcu_ptr_irq_works_run);
}

void rcu_ptr_shim_set_irq_works_run(bool run)
{
	this_cpu_write(rcu_ptr_irq_works_run, run);
}
