// SPDX-License-Identifier: GPL-2.0
/* Probes on the tracepoints of rcu_ptr.ko: the Rust side counts. */
#include <linux/tracepoint.h>
#include <trace/events/rcu_ptr.h>

#include "rs.h"

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
	int err;

	err = register_trace_rcu_ptr_queue(probe_queue, NULL);
	if (err)
		goto no_queue;
	err = register_trace_rcu_ptr_invoke(probe_invoke, NULL);
	if (err)
		goto no_invoke;
	err = register_trace_rcu_ptr_defer(probe_defer, NULL);
	if (err)
		goto no_defer;
	err = register_trace_rcu_ptr_refill(probe_refill, NULL);
	if (err)
		goto no_refill;
	err = register_trace_rcu_ptr_shrink(probe_shrink, NULL);
	if (err)
		goto no_shrink;
	err = register_trace_rcu_ptr_batch_end(probe_batch, NULL);
	if (err)
		goto no_batch_end;
	return 0;

no_batch_end:
	unregister_trace_rcu_ptr_shrink(probe_shrink, NULL);
no_shrink:
	unregister_trace_rcu_ptr_refill(probe_refill, NULL);
no_refill:
	unregister_trace_rcu_ptr_defer(probe_defer, NULL);
no_defer:
	unregister_trace_rcu_ptr_invoke(probe_invoke, NULL);
no_invoke:
	unregister_trace_rcu_ptr_queue(probe_queue, NULL);
no_queue:
	tracepoint_synchronize_unregister();
	return err;
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
