// SPDX-License-Identifier: GPL-2.0
/*
 * The C of rcu_ptr_kunit.ko: parameters, probes on the tracepoints of
 * rcu_ptr.ko, and the shims of what it takes of the kernel.  No logic lives
 * here.
 */
#include <kunit/test-bug.h>
#include <kunit/test.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/rcu_ptr.h>
#include <linux/rcu_ptr_test.h>
#include <linux/workqueue.h>
#include <trace/events/rcu_ptr.h>

#include "../sys/alloc.c"
#include "../sys/context.c"
#include "../sys/counted.c"
#include "../sys/cpu.c"
#include "../sys/mem.c"
#include "../sys/nmi.c"
#include "../sys/perf.c"
#include "../sys/rcu.c"
#include "../sys/srcu_domain.c"
#include "../sys/step.c"
#include "../sys/thread.c"
#include "../sys/tracepoint.c"
#include "c_fields.c"
#ifdef RCU_PTR_RUNNER
#include "runner.c"
#endif

#include "../sys/rs.h"

MODULE_IMPORT_NS("RCU_PTR_TEST");

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

/* rcu_ptr.ko's functions beside the kernel's. */

void rcu_ptr_shim_head_on_stack(struct rcu_head *head)
{
	init_rcu_head_on_stack(head);
}

void rcu_ptr_shim_head_off_stack(struct rcu_head *head)
{
	destroy_rcu_head_on_stack(head);
}

void rcu_ptr_shim_kernel_nolock(void *field, void *object)
{
	kfree_call_rcu_nolock(field, object);
}

static void nothing(struct work_struct *work)
{
}

static DECLARE_WORK(wake, nothing);

void rcu_ptr_shim_wake(void)
{
	schedule_work(&wake);
}

void rcu_ptr_shim_wake_end(void)
{
	flush_work(&wake);
}

/* Tracepoints: the Rust side counts. */

static void probe_queue(void *data, int engine, int channel, int kind, int ctx,
			void *ptr, unsigned long caller)
{
	rcu_ptr_rs_queue(engine, channel, kind, ctx);
}

static void probe_invoke(void *data, int kind, void *head, unsigned long func)
{
	rcu_ptr_rs_invoke(kind, func);
}

static void probe_defer(void *data, int cpu, int what, unsigned long pending)
{
	rcu_ptr_rs_defer(cpu, what);
}

static void probe_refill(void *data, int cpu, unsigned long blocks,
			 unsigned long wanted)
{
	rcu_ptr_rs_refill(cpu, blocks);
}

static void probe_shrink(void *data, int cpu, unsigned long blocks,
			 unsigned long objects)
{
	rcu_ptr_rs_shrink(cpu, blocks, objects);
}

static void probe_batch(void *data, int cpu, int batch, unsigned long slab,
			unsigned long vmalloc, unsigned long list,
			unsigned long mixed, unsigned long calls,
			unsigned long gp)
{
	rcu_ptr_rs_batch(cpu, slab + vmalloc + list + mixed + calls);
}

int rcu_ptr_shim_probes_register(void)
{
	return register_trace_rcu_ptr_queue(probe_queue, NULL) ?:
	       register_trace_rcu_ptr_invoke(probe_invoke, NULL) ?:
	       register_trace_rcu_ptr_defer(probe_defer, NULL) ?:
	       register_trace_rcu_ptr_refill(probe_refill, NULL) ?:
	       register_trace_rcu_ptr_shrink(probe_shrink, NULL) ?:
	       register_trace_rcu_ptr_batch_end(probe_batch, NULL);
}

void rcu_ptr_shim_probes_unregister(void)
{
	unregister_trace_rcu_ptr_queue(probe_queue, NULL);
	unregister_trace_rcu_ptr_invoke(probe_invoke, NULL);
	unregister_trace_rcu_ptr_defer(probe_defer, NULL);
	unregister_trace_rcu_ptr_refill(probe_refill, NULL);
	unregister_trace_rcu_ptr_shrink(probe_shrink, NULL);
	unregister_trace_rcu_ptr_batch_end(probe_batch, NULL);
	tracepoint_synchronize_unregister();
}
