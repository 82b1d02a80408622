// SPDX-License-Identifier: GPL-2.0
/*
 * C shims of rcu_ptr_bench.ko: macros, inlines, parameters and counters that
 * Rust can't reach.  No logic lives here.
 */
#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/hardirq.h>
#include <linux/hw_breakpoint.h>
#include <linux/irqflags.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/perf_event.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/timex.h>
#include <linux/vmalloc.h>
#include <linux/vmstat.h>
#ifdef CONFIG_X86_64
#include <asm/apic.h>
#include <asm/nmi.h>
#endif

#include "shim.h"

/* Parameters that are text; numbers are declared in rcu_ptr_bench_main.rs. */

static char *test = "all";
module_param(test, charp, 0444);
MODULE_PARM_DESC(test, "what to measure: see docs/bench.md (default all)");
static char *frees = "all";
module_param(frees, charp, 0444);
MODULE_PARM_DESC(frees, "functions to measure: all, kernel, rcu_ptr, or names (default all)");
static char *object = "kmalloc-64";
module_param(object, charp, 0444);
MODULE_PARM_DESC(object, "objects: kmalloc-N, cache-N or vmalloc-N, by commas (default kmalloc-64)");
static char *engine = "";
module_param(engine, charp, 0444);
MODULE_PARM_DESC(engine, "name of the loaded core's engine, for the results");

const char *rcu_ptr_bench_param_test(void)
{
	return test;
}

const char *rcu_ptr_bench_param_frees(void)
{
	return frees;
}

const char *rcu_ptr_bench_param_object(void)
{
	return object;
}

const char *rcu_ptr_bench_param_engine(void)
{
	return engine;
}

/* Time and contexts. */

u64 rcu_ptr_bench_cycles(void)
{
	return get_cycles();
}

u64 rcu_ptr_bench_nanoseconds(void)
{
	return ktime_get_ns();
}

unsigned long rcu_ptr_bench_irq_save(void)
{
	unsigned long flags;

	local_irq_save(flags);
	return flags;
}

void rcu_ptr_bench_irq_restore(unsigned long flags)
{
	local_irq_restore(flags);
}

bool rcu_ptr_bench_in_nmi(void)
{
	return in_nmi();
}

bool rcu_ptr_bench_in_hardirq(void)
{
	return in_hardirq();
}

int rcu_ptr_bench_cpu(void)
{
	return raw_smp_processor_id();
}

int rcu_ptr_bench_next_online_cpu(int cpu)
{
	return cpumask_next(cpu, cpu_online_mask);
}

void rcu_ptr_bench_cond_resched(void)
{
	cond_resched();
}

void rcu_ptr_bench_sleep(unsigned int msecs)
{
	msleep(msecs);
}

/* Objects. */

void *rcu_ptr_bench_kmalloc(size_t size)
{
	return kmalloc(size, GFP_KERNEL);
}

void *rcu_ptr_bench_kmalloc_nolock(size_t size)
{
	return kmalloc_nolock(size, 0, NUMA_NO_NODE);
}

void *rcu_ptr_bench_vmalloc(size_t size)
{
	return vmalloc(size);
}

struct kmem_cache *rcu_ptr_bench_cache_create(const char *name,
					      size_t size)
{
	return kmem_cache_create(name, size, 8, SLAB_NO_MERGE, NULL);
}

/* NMIs and counters. */

unsigned long rcu_ptr_bench_slab_bytes(void)
{
	return global_node_page_state_pages(NR_SLAB_UNRECLAIMABLE_B) <<
	       PAGE_SHIFT;
}

#ifdef CONFIG_X86_64
static int rcu_ptr_bench_nmi(unsigned int type, struct pt_regs *regs)
{
	return rcu_ptr_bench_rs_nmi();
}

bool rcu_ptr_bench_has_nmi(void)
{
	return true;
}

int rcu_ptr_bench_nmi_register(void)
{
	return register_nmi_handler(NMI_LOCAL, rcu_ptr_bench_nmi, 0,
				    "rcu_ptr_bench");
}

void rcu_ptr_bench_nmi_unregister(void)
{
	unregister_nmi_handler(NMI_LOCAL, "rcu_ptr_bench");
}

void rcu_ptr_bench_nmi_send(int cpu)
{
	__apic_send_IPI_mask(cpumask_of(cpu), NMI_VECTOR);
}

unsigned int rcu_ptr_bench_irq_work_ipis(int cpu)
{
	return per_cpu(irq_stat, cpu).counts[IRQ_COUNT_IRQ_WORK];
}
#else
bool rcu_ptr_bench_has_nmi(void)
{
	return false;
}

int rcu_ptr_bench_nmi_register(void)
{
	return -EOPNOTSUPP;
}

void rcu_ptr_bench_nmi_unregister(void)
{
}

void rcu_ptr_bench_nmi_send(int cpu)
{
}

unsigned int rcu_ptr_bench_irq_work_ipis(int cpu)
{
	return 0;
}
#endif

#ifdef CONFIG_HAVE_HW_BREAKPOINT
static void rcu_ptr_bench_hit(struct perf_event *event,
			      struct perf_sample_data *data,
			      struct pt_regs *regs)
{
	rcu_ptr_bench_rs_breakpoint();
}

struct perf_event **rcu_ptr_bench_breakpoint(unsigned long address)
{
	struct perf_event_attr attr;

	hw_breakpoint_init(&attr);
	attr.bp_addr = address;
	attr.bp_len = sizeof(long);
	attr.bp_type = HW_BREAKPOINT_X;
	return (struct perf_event ** __force)
		register_wide_hw_breakpoint(&attr, rcu_ptr_bench_hit, NULL);
}

void rcu_ptr_bench_breakpoint_remove(struct perf_event **events)
{
	unregister_wide_hw_breakpoint((struct perf_event * __percpu * __force)events);
}
#else
struct perf_event **rcu_ptr_bench_breakpoint(unsigned long address)
{
	return ERR_PTR(-EOPNOTSUPP);
}

void rcu_ptr_bench_breakpoint_remove(struct perf_event **events)
{
}
#endif

void rcu_ptr_bench_print_step(const char *free, unsigned int number,
			      unsigned long ip, const u8 *bytes)
{
	pr_info("rcu_ptr_bench: step free=%s number=%u ip=%lx at=%pS bytes=%15phN\n",
		free, number, ip, (void *)ip, bytes);
}
