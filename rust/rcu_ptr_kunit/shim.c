// SPDX-License-Identifier: GPL-2.0
/*
 * C shims of rcu_ptr_kunit.ko: macros, inlines and tracepoint probes that Rust
 * can't reach.  No logic lives here.
 */
#include <kunit/test-bug.h>
#include <kunit/test.h>
#include <linux/cpumask.h>
#include <linux/gfp.h>
#include <linux/irqflags.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/vmalloc.h>
#include <trace/events/rcu_ptr.h>

#include "shim.h"

void *rcu_ptr_kunit_kmalloc(size_t size)
{
	return kmalloc(size, GFP_KERNEL);
}

void *rcu_ptr_kunit_kmalloc_nolock(size_t size)
{
	return kmalloc_nolock(size, 0, NUMA_NO_NODE);
}

void *rcu_ptr_kunit_vmalloc(size_t size)
{
	return vmalloc(size);
}

void *rcu_ptr_kunit_kvmalloc(size_t size)
{
	return kvmalloc(size, GFP_KERNEL);
}

void *rcu_ptr_kunit_page(void)
{
	return (void *)__get_free_page(GFP_KERNEL | __GFP_NORETRY |
				       __GFP_NOWARN);
}

int rcu_ptr_kunit_next_online_cpu(int cpu)
{
	return cpumask_next(cpu, cpu_online_mask);
}

int rcu_ptr_kunit_this_cpu(void)
{
	return raw_smp_processor_id();
}

bool rcu_ptr_kunit_in_nmi(void)
{
	return in_nmi();
}

bool rcu_ptr_kunit_in_hardirq(void)
{
	return in_hardirq();
}

bool rcu_ptr_kunit_in_softirq(void)
{
	return in_serving_softirq();
}

void rcu_ptr_kunit_local_irq_disable(void)
{
	local_irq_disable();
}

void rcu_ptr_kunit_local_irq_enable(void)
{
	local_irq_enable();
}

void rcu_ptr_kunit_cond_resched(void)
{
	cond_resched();
}

void rcu_ptr_kunit_skip(const char *reason)
{
	kunit_mark_skipped(kunit_get_current_test(), "%s", reason);
}

/* Tracepoints: the Rust side counts. */

static void probe_queue(void *data, int engine, int channel, int ctx, void *ptr,
			unsigned long caller)
{
	rcu_ptr_kunit_rs_queue(engine, channel, ctx);
}

static void probe_defer(void *data, int cpu, int what, unsigned long pending)
{
	rcu_ptr_kunit_rs_defer(cpu, what);
}

static void probe_refill(void *data, int cpu, unsigned long blocks,
			 unsigned long wanted)
{
	rcu_ptr_kunit_rs_refill(cpu, blocks);
}

static void probe_shrink(void *data, int cpu, unsigned long blocks,
			 unsigned long objects)
{
	rcu_ptr_kunit_rs_shrink(cpu, blocks, objects);
}

static void probe_batch(void *data, int cpu, int batch, unsigned long slab,
			unsigned long vmalloc, unsigned long list,
			unsigned long gp)
{
	rcu_ptr_kunit_rs_batch(cpu, gp);
}

int rcu_ptr_kunit_probes_register(void)
{
	return register_trace_rcu_ptr_queue(probe_queue, NULL) ?:
	       register_trace_rcu_ptr_defer(probe_defer, NULL) ?:
	       register_trace_rcu_ptr_refill(probe_refill, NULL) ?:
	       register_trace_rcu_ptr_shrink(probe_shrink, NULL) ?:
	       register_trace_rcu_ptr_batch_end(probe_batch, NULL);
}

void rcu_ptr_kunit_probes_unregister(void)
{
	unregister_trace_rcu_ptr_queue(probe_queue, NULL);
	unregister_trace_rcu_ptr_defer(probe_defer, NULL);
	unregister_trace_rcu_ptr_refill(probe_refill, NULL);
	unregister_trace_rcu_ptr_shrink(probe_shrink, NULL);
	unregister_trace_rcu_ptr_batch_end(probe_batch, NULL);
	tracepoint_synchronize_unregister();
}
