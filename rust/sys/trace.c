// SPDX-License-Identifier: GPL-2.0
/* The tracepoints of rcu_ptr.ko, which Rust calls by rust_do_trace_rcu_ptr_*(). */
#include <linux/module.h>
#include <linux/rcu_ptr.h>

#ifndef __BINDGEN__
#define CREATE_TRACE_POINTS
#define CREATE_RUST_TRACE_POINTS
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

/* Called when the event is on. */
void rcu_ptr_shim_trace_queue(int engine, int channel, int kind, void *ptr,
			      unsigned long caller)
{
	trace_rcu_ptr_queue(engine, channel, kind, rcu_ptr_ctx(), ptr, caller);
}
