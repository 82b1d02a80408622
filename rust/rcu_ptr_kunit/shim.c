// SPDX-License-Identifier: GPL-2.0
/*
 * C shims of rcu_ptr_kunit.ko: macros, inlines and tracepoint probes that Rust
 * can't reach.  No logic lives here.
 */
#include <kunit/test-bug.h>
#include <kunit/test.h>
#include <linux/cpumask.h>
#include <linux/gfp.h>
#include <linux/err.h>
#include <linux/hw_breakpoint.h>
#include <linux/irqflags.h>
#include <linux/kasan.h>
#include <linux/kdebug.h>
#include <linux/kfence.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/nmi.h>
#include <linux/perf_event.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#include <linux/rcupdate_trace.h>
#include <linux/sched/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <linux/srcu.h>
#include <linux/topology.h>
#include <linux/tracepoint.h>
#include <linux/vmalloc.h>
#include <linux/vmstat.h>
#include <linux/workqueue.h>
#include <trace/events/rcu_ptr.h>

#ifdef CONFIG_X86
#include <asm/apic.h>
#include <asm/debugreg.h>
#include <asm/nmi.h>
#endif

#include "shim.h"

MODULE_IMPORT_NS("RCU_PTR_TEST");

/* Whether KASAN has poisoned what is there: freed, and maybe in its quarantine. */
__no_sanitize_address bool rcu_ptr_kunit_is_poisoned(const void *addr)
{
#ifdef CONFIG_KASAN_GENERIC
	return *(s8 *)kasan_mem_to_shadow(addr) < 0;
#else
	return false;
#endif
}

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

bool rcu_ptr_kunit_is_mapped(unsigned long address)
{
	return vmalloc_to_page((void *)address);
}

unsigned long rcu_ptr_kunit_pcp_pages(void)
{
	unsigned long pages = 0;
	int node, i, cpu;

	for_each_online_node(node)
		for (i = 0; i < MAX_NR_ZONES; i++) {
			struct zone *zone = &NODE_DATA(node)->node_zones[i];

			if (!populated_zone(zone))
				continue;
			for_each_online_cpu(cpu)
				pages += READ_ONCE(per_cpu_ptr(zone->per_cpu_pageset,
							       cpu)->count);
		}
	return pages;
}

unsigned long rcu_ptr_kunit_slab_pages(void)
{
	return global_node_page_state_pages(NR_SLAB_UNRECLAIMABLE_B);
}

bool rcu_ptr_kunit_is_kfence(const void *object)
{
	return is_kfence_address(object);
}

bool rcu_ptr_kunit_init_on_alloc(void)
{
	return want_init_on_alloc(0);
}

bool rcu_ptr_kunit_init_on_free(void)
{
	return want_init_on_free();
}

void rcu_ptr_kunit_kernel_nolock(void *field, void *object)
{
	kfree_call_rcu_nolock(field, object);
}

int rcu_ptr_kunit_next_online_cpu(int cpu)
{
	return cpumask_next(cpu, cpu_online_mask);
}

int rcu_ptr_kunit_this_cpu(void)
{
	return raw_smp_processor_id();
}

int rcu_ptr_kunit_cpu_node(int cpu)
{
	return cpu_to_mem(cpu);
}

int rcu_ptr_kunit_object_node(const void *object)
{
	return page_to_nid(virt_to_page(object));
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

bool rcu_ptr_kunit_bh_is_off(void)
{
	return in_softirq() && !in_hardirq() && !in_nmi() && !irqs_disabled();
}

void rcu_ptr_kunit_head_on_stack(struct rcu_head *head)
{
	init_rcu_head_on_stack(head);
}

void rcu_ptr_kunit_head_off_stack(struct rcu_head *head)
{
	destroy_rcu_head_on_stack(head);
}

bool rcu_ptr_kunit_may_sleep(void)
{
	return !preempt_count() && !irqs_disabled() && !rcu_preempt_depth();
}

void rcu_ptr_kunit_local_bh_disable(void)
{
	local_bh_disable();
}

void rcu_ptr_kunit_local_bh_enable(void)
{
	local_bh_enable();
}

void rcu_ptr_kunit_local_irq_disable(void)
{
	local_irq_disable();
}

void rcu_ptr_kunit_local_irq_enable(void)
{
	local_irq_enable();
}

bool rcu_ptr_kunit_irqs_disabled(void)
{
	return irqs_disabled();
}

void rcu_ptr_kunit_preempt_disable(void)
{
	preempt_disable_notrace();
}

void rcu_ptr_kunit_preempt_enable(void)
{
	preempt_enable_notrace();
}

static void nothing(struct work_struct *work)
{
}

static DECLARE_WORK(work, nothing);

void rcu_ptr_kunit_wake(void)
{
	schedule_work(&work);
}

/* SRCU domains. */

struct srcu_struct *rcu_ptr_kunit_srcu_new(int kind)
{
	struct srcu_struct *srcu;
	int err;

	if (kind == RCU_PTR_KUNIT_SRCU_TASKS_TRACE)
#ifdef CONFIG_TASKS_TRACE_RCU
		return &rcu_tasks_trace_srcu_struct;
#else
		return NULL;
#endif
	srcu = kzalloc(sizeof(*srcu), GFP_KERNEL);
	if (!srcu)
		return NULL;
	if (kind == RCU_PTR_KUNIT_SRCU_FAST)
		err = init_srcu_struct_fast(srcu);
	else
		err = init_srcu_struct(srcu);
	if (err) {
		kfree(srcu);
		return NULL;
	}
	return srcu;
}

void rcu_ptr_kunit_srcu_free(int kind, struct srcu_struct *srcu)
{
	if (kind == RCU_PTR_KUNIT_SRCU_TASKS_TRACE)
		return;
	cleanup_srcu_struct(srcu);
	kfree(srcu);
}

unsigned long rcu_ptr_kunit_srcu_lock(int kind, struct srcu_struct *srcu)
{
	switch (kind) {
	case RCU_PTR_KUNIT_SRCU_FAST:
		return (__force unsigned long)srcu_read_lock_fast(srcu);
	case RCU_PTR_KUNIT_SRCU_NMISAFE:
		return srcu_read_lock_nmisafe(srcu);
	case RCU_PTR_KUNIT_SRCU_TASKS_TRACE:
#ifdef CONFIG_TASKS_TRACE_RCU
		rcu_read_lock_trace();
#endif
		return 0;
	default:
		return srcu_read_lock(srcu);
	}
}

void rcu_ptr_kunit_srcu_unlock(int kind, struct srcu_struct *srcu,
			       unsigned long token)
{
	switch (kind) {
	case RCU_PTR_KUNIT_SRCU_FAST:
		srcu_read_unlock_fast(srcu, (__force struct srcu_ctr __percpu *)token);
		break;
	case RCU_PTR_KUNIT_SRCU_NMISAFE:
		srcu_read_unlock_nmisafe(srcu, token);
		break;
	case RCU_PTR_KUNIT_SRCU_TASKS_TRACE:
#ifdef CONFIG_TASKS_TRACE_RCU
		rcu_read_unlock_trace();
#endif
		break;
	default:
		srcu_read_unlock(srcu, token);
	}
}

static DEFINE_RAW_SPINLOCK(raw_lock);

unsigned long rcu_ptr_kunit_raw_lock(void)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&raw_lock, flags);
	return flags;
}

void rcu_ptr_kunit_raw_unlock(unsigned long flags)
{
	raw_spin_unlock_irqrestore(&raw_lock, flags);
}

void rcu_ptr_kunit_reclaim_begin(void)
{
	fs_reclaim_acquire(GFP_KERNEL);
}

void rcu_ptr_kunit_reclaim_end(void)
{
	fs_reclaim_release(GFP_KERNEL);
}

void rcu_ptr_kunit_not_hung(void)
{
	reset_hung_task_detector();
}

void *rcu_ptr_kunit_current(void)
{
	return current;
}

bool rcu_ptr_kunit_move(void *task, int cpu)
{
	return !set_cpus_allowed_ptr(task, cpumask_of(cpu));
}

void rcu_ptr_kunit_cond_resched(void)
{
	cond_resched();
}

/* Fault injection. */

void rcu_ptr_kunit_make_it_fail(bool on)
{
#ifdef CONFIG_FAULT_INJECTION
	current->make_it_fail = on;
#endif
}

/* NMI sources. */

static void overflow(struct perf_event *event, struct perf_sample_data *data,
		     struct pt_regs *regs)
{
	bool on = rcu_ptr_kunit_rs_hook(event->overflow_handler_context,
					instruction_pointer(regs),
					kernel_stack_pointer(regs));

#ifdef CONFIG_X86
	/* Not in what interrupts an NMI: its way out is no place for steps. */
	if (on && !user_mode(regs) && in_nmi() == NMI_OFFSET)
		regs->flags |= X86_EFLAGS_TF;
#endif
}

#ifdef CONFIG_X86
static int step(struct notifier_block *block, unsigned long what, void *data)
{
	struct die_args *args = data;
	/* Where DR6 is, as hw_breakpoint_handler() knows it. */
	unsigned long *dr6 = ERR_PTR(args->err);

	if (what != DIE_DEBUG || !(*dr6 & DR_STEP) || user_mode(args->regs))
		return NOTIFY_DONE;
	if (!rcu_ptr_kunit_rs_step(args->regs->ip, args->regs->sp))
		args->regs->flags &= ~X86_EFLAGS_TF;
	*dr6 &= ~DR_STEP;
	return *dr6 ? NOTIFY_DONE : NOTIFY_STOP;
}

static struct notifier_block steps = { .notifier_call = step };

int rcu_ptr_kunit_step_register(void)
{
	return register_die_notifier(&steps);
}

void rcu_ptr_kunit_step_unregister(void)
{
	unregister_die_notifier(&steps);
}

void *rcu_ptr_kunit_breakpoint_register(unsigned long address, bool execute,
					int length, void *hook)
{
	struct perf_event_attr attr;

	hw_breakpoint_init(&attr);
	attr.bp_addr = address;
	attr.bp_len = execute ? sizeof(long) : length;
	attr.bp_type = execute ? HW_BREAKPOINT_X : HW_BREAKPOINT_W;
	return (__force void *)register_wide_hw_breakpoint(&attr, overflow,
							   hook);
}

void rcu_ptr_kunit_breakpoint_unregister(void *events)
{
	unregister_wide_hw_breakpoint((__force struct perf_event * __percpu *)
				      events);
}
#else
/* arm64's handler does not step over a breakpoint with an own overflow handler. */
void *rcu_ptr_kunit_breakpoint_register(unsigned long address, bool execute,
					int length, void *hook)
{
	return ERR_PTR(-ENOSYS);
}

void rcu_ptr_kunit_breakpoint_unregister(void *events)
{
}

int rcu_ptr_kunit_step_register(void)
{
	return 0;
}

void rcu_ptr_kunit_step_unregister(void)
{
}
#endif

void *rcu_ptr_kunit_cycles_create(int cpu, u64 period, void *hook)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE,
		.config = PERF_COUNT_HW_CPU_CYCLES,
		.size = sizeof(attr),
		.pinned = 1,
		.sample_period = period,
	};

	return perf_event_create_kernel_counter(&attr, cpu, NULL, overflow,
						hook);
}

/* The PMU is stopped, and starts on the way out: the rest of that is in the period. */
static void counted(struct perf_event *event, struct perf_sample_data *data,
		    struct pt_regs *regs)
{
	u64 period =
		rcu_ptr_kunit_rs_counted(event->overflow_handler_context,
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

void *rcu_ptr_kunit_counted_create(int cpu, u64 period, void *hook)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE,
		.config = PERF_COUNT_HW_CPU_CYCLES,
		.size = sizeof(attr),
		.pinned = 1,
		.exclude_user = 1,
		.sample_period = period,
	};

	return perf_event_create_kernel_counter(&attr, cpu, NULL, counted,
						hook);
}

#ifdef CONFIG_X86_LOCAL_APIC
static int nmi(unsigned int cmd, struct pt_regs *regs)
{
	rcu_ptr_kunit_rs_nmi();
	return NMI_HANDLED;
}

int rcu_ptr_kunit_nmi_register(void)
{
	return register_nmi_handler(NMI_LOCAL, nmi, 0, "rcu_ptr_kunit");
}

void rcu_ptr_kunit_nmi_unregister(void)
{
	/* NMIs that were sent come before these interrupts. */
	kick_all_cpus_sync();
	unregister_nmi_handler(NMI_LOCAL, "rcu_ptr_kunit");
}

void rcu_ptr_kunit_nmi_send(int cpu)
{
	__apic_send_IPI_mask(cpumask_of(cpu), NMI_VECTOR);
}
#else
int rcu_ptr_kunit_nmi_register(void)
{
	return -EOPNOTSUPP;
}

void rcu_ptr_kunit_nmi_unregister(void)
{
}

void rcu_ptr_kunit_nmi_send(int cpu)
{
}
#endif

/* Parameters: those of Rust can't be words. */

static char sweep_module[32] = "rcu_ptr";
module_param_string(sweep_module, sweep_module, sizeof(sweep_module), 0444);
MODULE_PARM_DESC(sweep_module, "the module whose code rcu_ptr_sweep sweeps");

static char sweep_func[128];
module_param_string(sweep_func, sweep_func, sizeof(sweep_func), 0444);
MODULE_PARM_DESC(sweep_func, "sweep functions with this in their name only");

static char sweep_cmd[256];
module_param_string(sweep_cmd, sweep_cmd, sizeof(sweep_cmd), 0444);
MODULE_PARM_DESC(sweep_cmd, "shell command that makes the swept code run");

static bool short_length;

static int set_length(const char *val, const struct kernel_param *kp)
{
	if (sysfs_streq(val, "short"))
		short_length = true;
	else if (sysfs_streq(val, "full"))
		short_length = false;
	else
		return -EINVAL;
	return 0;
}

static int get_length(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%s\n", short_length ? "short" : "full");
}

static const struct kernel_param_ops length_ops = {
	.set = set_length,
	.get = get_length,
};
module_param_cb(length, &length_ops, NULL, 0444);
MODULE_PARM_DESC(length, "short: less of what takes minutes; full");

bool rcu_ptr_kunit_is_short(void)
{
	return short_length;
}

const char *rcu_ptr_kunit_sweep_module(void)
{
	return sweep_module;
}

const char *rcu_ptr_kunit_sweep_func(void)
{
	return sweep_func;
}

const char *rcu_ptr_kunit_sweep_cmd(void)
{
	return sweep_cmd;
}

#ifndef RCU_PTR_RUNNER
void rcu_ptr_kunit_skip(const char *reason)
{
	kunit_mark_skipped(kunit_get_current_test(), "%s", reason);
}
#endif

/* Tracepoints: the Rust side counts. */

static void probe_queue(void *data, int engine, int channel, int kind, int ctx,
			void *ptr, unsigned long caller)
{
	rcu_ptr_kunit_rs_queue(engine, channel, kind, ctx);
}

static void probe_invoke(void *data, int kind, void *head, unsigned long func)
{
	rcu_ptr_kunit_rs_invoke(kind, func);
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
			unsigned long mixed, unsigned long calls,
			unsigned long gp)
{
	rcu_ptr_kunit_rs_batch(cpu, slab + vmalloc + list + mixed + calls);
}

int rcu_ptr_kunit_probes_register(void)
{
	return register_trace_rcu_ptr_queue(probe_queue, NULL) ?:
	       register_trace_rcu_ptr_invoke(probe_invoke, NULL) ?:
	       register_trace_rcu_ptr_defer(probe_defer, NULL) ?:
	       register_trace_rcu_ptr_refill(probe_refill, NULL) ?:
	       register_trace_rcu_ptr_shrink(probe_shrink, NULL) ?:
	       register_trace_rcu_ptr_batch_end(probe_batch, NULL);
}

void rcu_ptr_kunit_probes_unregister(void)
{
	unregister_trace_rcu_ptr_queue(probe_queue, NULL);
	unregister_trace_rcu_ptr_invoke(probe_invoke, NULL);
	unregister_trace_rcu_ptr_defer(probe_defer, NULL);
	unregister_trace_rcu_ptr_refill(probe_refill, NULL);
	unregister_trace_rcu_ptr_shrink(probe_shrink, NULL);
	unregister_trace_rcu_ptr_batch_end(probe_batch, NULL);
	tracepoint_synchronize_unregister();
}

/* Any tracepoint: the probe takes its first argument, and no other. */

static void walk_one(struct tracepoint *tp, void *walk)
{
	rcu_ptr_kunit_rs_tracepoint(tp->name, tp, walk);
}

void rcu_ptr_kunit_tracepoints_walk(void *walk)
{
	for_each_kernel_tracepoint(walk_one, walk);
	walk_one(&__tracepoint_rcu_ptr_queue, walk);
	walk_one(&__tracepoint_rcu_ptr_invoke, walk);
	walk_one(&__tracepoint_rcu_ptr_defer, walk);
	walk_one(&__tracepoint_rcu_ptr_refill, walk);
	walk_one(&__tracepoint_rcu_ptr_shrink, walk);
	walk_one(&__tracepoint_rcu_ptr_batch_start, walk);
	walk_one(&__tracepoint_rcu_ptr_batch_end, walk);
}

static void traced(void *site)
{
	rcu_ptr_kunit_rs_traced(site);
}

int rcu_ptr_kunit_tracepoint_register(void *tp, void *site)
{
	/* A call through a pointer of another type. */
	if (IS_ENABLED(CONFIG_CFI))
		return -EOPNOTSUPP;
	return tracepoint_probe_register(tp, traced, site);
}

void rcu_ptr_kunit_tracepoint_unregister(void *tp, void *site)
{
	tracepoint_probe_unregister(tp, traced, site);
}

void rcu_ptr_kunit_tracepoints_sync(void)
{
	flush_work(&work);
	tracepoint_synchronize_unregister();
}
