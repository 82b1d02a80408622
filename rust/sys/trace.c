// SPDX-License-Identifier: GPL-2.0
/* The tracepoints of rcu_ptr.ko: Rust calls these only when the event is on. */
#include <linux/module.h>
#include <linux/rcu_ptr.h>

#ifndef __BINDGEN__
#define CREATE_TRACE_POINTS
#endif
#include <trace/events/rcu_ptr.h>

/* For tests, which count events. */
EXPORT_TRACEPOINT_SYMBOL_GPL(rcu_ptr_queue);
EXPORT_TRACEPOINT_SYMBOL_GPL(rcu_ptr_invoke);
EXPORT_TRACEPOINT_SYMBOL_GPL(rcu_ptr_batch_start);
EXPORT_TRACEPOINT_SYMBOL_GPL(rcu_ptr_batch_end);
EXPORT_TRACEPOINT_SYMBOL_GPL(rcu_ptr_free);
EXPORT_TRACEPOINT_SYMBOL_GPL(rcu_ptr_refill);
EXPORT_TRACEPOINT_SYMBOL_GPL(rcu_ptr_shrink);
EXPORT_TRACEPOINT_SYMBOL_GPL(rcu_ptr_defer);

void rcu_ptr_shim_trace_queue(int engine, int channel, int kind, void *ptr,
			      unsigned long caller)
{
	trace_rcu_ptr_queue(engine, channel, kind, rcu_ptr_ctx(), ptr, caller);
}

void rcu_ptr_shim_trace_invoke(int kind, void *head, unsigned long func)
{
	trace_rcu_ptr_invoke(kind, head, func);
}

void rcu_ptr_shim_trace_batch_start(int cpu, int batch, unsigned long slab,
				    unsigned long vmalloc, unsigned long list,
				    unsigned long mixed, unsigned long calls,
				    unsigned long gp)
{
	trace_rcu_ptr_batch_start(cpu, batch, slab, vmalloc, list, mixed, calls,
				  gp);
}

void rcu_ptr_shim_trace_batch_end(int cpu, int batch, unsigned long slab,
				  unsigned long vmalloc, unsigned long list,
				  unsigned long mixed, unsigned long calls,
				  unsigned long gp)
{
	trace_rcu_ptr_batch_end(cpu, batch, slab, vmalloc, list, mixed, calls,
				gp);
}

void rcu_ptr_shim_trace_free(void **objects, unsigned long count)
{
	trace_rcu_ptr_free(objects, count);
}

void rcu_ptr_shim_trace_refill(int cpu, unsigned long blocks,
			       unsigned long wanted)
{
	trace_rcu_ptr_refill(cpu, blocks, wanted);
}

void rcu_ptr_shim_trace_shrink(int cpu, unsigned long blocks,
			       unsigned long objects)
{
	trace_rcu_ptr_shrink(cpu, blocks, objects);
}

void rcu_ptr_shim_trace_defer(int cpu, int what, unsigned long pending)
{
	trace_rcu_ptr_defer(cpu, what, pending);
}

void rcu_ptr_shim_trace_sheaf_wait(const char *cache, int cpu,
				   unsigned long sheaves, unsigned long full)
{
	trace_rcu_ptr_sheaf_wait(cache, cpu, sheaves, full);
}

void rcu_ptr_shim_trace_sheaf_refill(const char *cache, int cpu,
				     unsigned long objects)
{
	trace_rcu_ptr_sheaf_refill(cache, cpu, objects);
}

void rcu_ptr_shim_trace_sheaf_drain(const char *cache, int cpu,
				    unsigned long waiting, unsigned long stock)
{
	trace_rcu_ptr_sheaf_drain(cache, cpu, waiting, stock);
}

void rcu_ptr_shim_trace_sheaf_shrink(const char *cache, int node, int why,
				     unsigned long full, unsigned long empty)
{
	trace_rcu_ptr_sheaf_shrink(cache, node, why, full, empty);
}
