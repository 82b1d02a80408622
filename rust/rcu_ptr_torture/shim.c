// SPDX-License-Identifier: GPL-2.0
/*
 * C shims of rcu_ptr_torture.ko: macros, inlines and the tracepoint probe that
 * Rust can't reach.  No logic lives here.
 */
#include <linux/atomic.h>
#include <linux/bottom_half.h>
#include <linux/cpumask.h>
#include <linux/err.h>
#include <linux/gfp.h>
#include <linux/module.h>
#include <linux/perf_event.h>
#include <linux/preempt.h>
#include <linux/printk.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <linux/srcu.h>
#include <linux/timekeeping.h>
#include <linux/tracepoint.h>
#include <linux/vmalloc.h>
#include <trace/events/rcu_ptr.h>

#ifdef CONFIG_X86_LOCAL_APIC
#include <asm/apic.h>
#include <asm/nmi.h>
#endif

#include "shim.h"

MODULE_IMPORT_NS("RCU_PTR_TEST");

/* No OOM kills: an allocation that fails is skipped. */
#define QUIET (__GFP_NORETRY | __GFP_NOWARN)

void *rcu_ptr_torture_kmalloc(size_t size, bool atomic)
{
	return kmalloc(size, (atomic ? GFP_NOWAIT : GFP_KERNEL) | QUIET);
}

void *rcu_ptr_torture_kmalloc_nolock(size_t size)
{
	return kmalloc_nolock(size, 0, NUMA_NO_NODE);
}

void *rcu_ptr_torture_vmalloc(size_t size)
{
	return __vmalloc(size, GFP_KERNEL | QUIET);
}

void *rcu_ptr_torture_kvmalloc(size_t size)
{
	return kvmalloc(size, GFP_KERNEL | QUIET);
}

void rcu_ptr_torture_kfree_nolock(void *object)
{
	kfree_nolock(object);
}

void *rcu_ptr_torture_slab_alloc(void *cache, bool atomic)
{
	return kmem_cache_alloc(cache, (atomic ? GFP_NOWAIT : GFP_KERNEL) | QUIET);
}

void *rcu_ptr_torture_pages(unsigned int order)
{
	return (void *)__get_free_pages(GFP_KERNEL | QUIET, order);
}

int rcu_ptr_torture_next_online_cpu(int cpu)
{
	return cpumask_next(cpu, cpu_online_mask);
}

int rcu_ptr_torture_this_cpu(void)
{
	return raw_smp_processor_id();
}

bool rcu_ptr_torture_in_nmi(void)
{
	return in_nmi();
}

bool rcu_ptr_torture_in_hardirq(void)
{
	return in_hardirq();
}

bool rcu_ptr_torture_in_softirq(void)
{
	return in_serving_softirq();
}

bool rcu_ptr_torture_bh_disabled(void)
{
	return softirq_count();
}

bool rcu_ptr_torture_may_sleep(void)
{
	return !preempt_count() && !irqs_disabled();
}

bool rcu_ptr_torture_move(int cpu)
{
	return !set_cpus_allowed_ptr(current, cpu < 0 ? cpu_possible_mask :
					      cpumask_of(cpu));
}

DEFINE_STATIC_SRCU(domain);

struct srcu_struct *rcu_ptr_torture_domain(void)
{
	return &domain;
}

int rcu_ptr_torture_domain_lock(void)
{
	return srcu_read_lock(&domain);
}

void rcu_ptr_torture_domain_unlock(int token)
{
	srcu_read_unlock(&domain, token);
}

static DEFINE_RAW_SPINLOCK(raw_lock);

unsigned long rcu_ptr_torture_raw_lock(void)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&raw_lock, flags);
	return flags;
}

void rcu_ptr_torture_raw_unlock(unsigned long flags)
{
	raw_spin_unlock_irqrestore(&raw_lock, flags);
}

void rcu_ptr_torture_bh_disable(void)
{
	local_bh_disable();
}

void rcu_ptr_torture_bh_enable(void)
{
	local_bh_enable();
}

void rcu_ptr_torture_cond_resched(void)
{
	cond_resched();
}

bool rcu_ptr_torture_interrupted(void)
{
	return signal_pending(current);
}

u64 rcu_ptr_torture_now(void)
{
	return ktime_get_mono_fast_ns();
}

#ifdef CONFIG_X86_LOCAL_APIC
static int nmi(unsigned int cmd, struct pt_regs *regs)
{
	rcu_ptr_torture_rs_nmi();
	return NMI_HANDLED;
}

int rcu_ptr_torture_nmi_register(void)
{
	return register_nmi_handler(NMI_LOCAL, nmi, 0, "rcu_ptr_torture");
}

void rcu_ptr_torture_nmi_unregister(void)
{
	unregister_nmi_handler(NMI_LOCAL, "rcu_ptr_torture");
}

void rcu_ptr_torture_nmi_send(int cpu)
{
	__apic_send_IPI_mask(cpumask_of(cpu), NMI_VECTOR);
}
#else
int rcu_ptr_torture_nmi_register(void)
{
	return -EOPNOTSUPP;
}

void rcu_ptr_torture_nmi_unregister(void)
{
}

void rcu_ptr_torture_nmi_send(int cpu)
{
}
#endif

static void overflow(struct perf_event *event, struct perf_sample_data *data,
		     struct pt_regs *regs)
{
	rcu_ptr_torture_rs_nmi();
}

void *rcu_ptr_torture_cycles_create(int cpu, u64 period)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE,
		.config = PERF_COUNT_HW_CPU_CYCLES,
		.size = sizeof(attr),
		.pinned = 1,
		.sample_period = period,
	};

	return perf_event_create_kernel_counter(&attr, cpu, NULL, overflow,
						NULL);
}

static void probe_free(void *data, void **objects, unsigned long count)
{
	rcu_ptr_torture_rs_free(objects, count);
}

int rcu_ptr_torture_probe_register(void)
{
	return register_trace_rcu_ptr_free(probe_free, NULL);
}

void rcu_ptr_torture_probe_unregister(void)
{
	unregister_trace_rcu_ptr_free(probe_free, NULL);
	tracepoint_synchronize_unregister();
}

/* Away from the code that runs all the time: see docs/simulation.md. */
__cold noinline void rcu_ptr_torture_failed(const char *what,
					    unsigned long object,
					    const char *source,
					    const char *call,
					    const char *context, u64 age)
{
	static atomic_t said = ATOMIC_INIT(0);
	int n = atomic_inc_return(&said);

	if (n > 8)
		return;
	pr_err("rcu_ptr_torture: FAILURE! %s: object %lx of %s, last call %s in %s, %llu ns ago\n",
	       what, object, source, call, context, age);
	if (n == 1)
		dump_stack();
}
