/* SPDX-License-Identifier: GPL-2.0 */
/* Tracepoints of rcu_ptr, under events/rcu_ptr/ in tracefs. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM rcu_ptr

#if !defined(_TRACE_RCU_PTR_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_RCU_PTR_H

#include <linux/tracepoint.h>

/* Symbolic names of the numbers in events. */
#define RCU_PTR_ENGINES							\
	EM(RCU_PTR_ENGINE_RFC, "rfc")					\
	EMe(RCU_PTR_ENGINE_LOCKLESS, "lockless")

#define RCU_PTR_CHANNELS						\
	EM(RCU_PTR_CHANNEL_SLAB, "slab")				\
	EM(RCU_PTR_CHANNEL_VMALLOC, "vmalloc")				\
	EM(RCU_PTR_CHANNEL_LIST, "list")				\
	EM(RCU_PTR_CHANNEL_SYNC, "sync")				\
	EM(RCU_PTR_CHANNEL_DEFERRED, "deferred")			\
	EMe(RCU_PTR_CHANNEL_CALL, "call")

#define RCU_PTR_KINDS							\
	EM(RCU_PTR_KIND_FREE, "free")					\
	EM(RCU_PTR_KIND_CALL, "call")					\
	EMe(RCU_PTR_KIND_CALL_SLEEPABLE, "call_sleepable")

#define RCU_PTR_CTXS							\
	EM(RCU_PTR_CTX_TASK, "task")					\
	EM(RCU_PTR_CTX_SOFTIRQ, "softirq")				\
	EM(RCU_PTR_CTX_HARDIRQ, "hardirq")				\
	EMe(RCU_PTR_CTX_NMI, "nmi")

#define RCU_PTR_DEFERS							\
	EM(RCU_PTR_DEFER_BATCH, "batch")				\
	EM(RCU_PTR_DEFER_REFILL, "refill")				\
	EMe(RCU_PTR_DEFER_OBJECT, "object")

#define RCU_PTR_SHEAF_SHRINKS						\
	EM(RCU_PTR_SHEAF_TRIM, "trim")					\
	EM(RCU_PTR_SHEAF_REAP, "reap")					\
	EMe(RCU_PTR_SHEAF_RECLAIM, "reclaim")

#undef EM
#undef EMe

/* rust/sys/trace.rs has these numbers from bindgen. */
#ifndef _TRACE_RCU_PTR_ENUMS
#define _TRACE_RCU_PTR_ENUMS
#define EM(a, b)	a,
#define EMe(a, b)	a
enum rcu_ptr_engine { RCU_PTR_ENGINES };
enum rcu_ptr_channel { RCU_PTR_CHANNELS };
enum rcu_ptr_kind { RCU_PTR_KINDS };
enum rcu_ptr_ctx { RCU_PTR_CTXS };
enum rcu_ptr_defer { RCU_PTR_DEFERS };
enum rcu_ptr_sheaf_shrink { RCU_PTR_SHEAF_SHRINKS };
#undef EM
#undef EMe
#endif

#define EM(a, b)	TRACE_DEFINE_ENUM(a);
#define EMe(a, b)	TRACE_DEFINE_ENUM(a);

RCU_PTR_ENGINES
RCU_PTR_CHANNELS
RCU_PTR_KINDS
RCU_PTR_CTXS
RCU_PTR_DEFERS
RCU_PTR_SHEAF_SHRINKS

#undef EM
#undef EMe
#define EM(a, b)	{ a, b },
#define EMe(a, b)	{ a, b }

/* An object, or the rcu_head of a callback (see @kind), was queued. */
TRACE_EVENT(rcu_ptr_queue,
	TP_PROTO(int engine, int channel, int kind, int ctx, void *ptr,
		 unsigned long caller),
	TP_ARGS(engine, channel, kind, ctx, ptr, caller),
	TP_STRUCT__entry(
		__field(int, engine)
		__field(int, channel)
		__field(int, kind)
		__field(int, ctx)
		__field(void *, ptr)
		__field(unsigned long, caller)
	),
	TP_fast_assign(
		__entry->engine = engine;
		__entry->channel = channel;
		__entry->kind = kind;
		__entry->ctx = ctx;
		__entry->ptr = ptr;
		__entry->caller = caller;
	),
	TP_printk("engine=%s channel=%s kind=%s ctx=%s ptr=%p caller=%pS",
		  __print_symbolic(__entry->engine, RCU_PTR_ENGINES),
		  __print_symbolic(__entry->channel, RCU_PTR_CHANNELS),
		  __print_symbolic(__entry->kind, RCU_PTR_KINDS),
		  __print_symbolic(__entry->ctx, RCU_PTR_CTXS),
		  __entry->ptr, (void *)__entry->caller)
);

/* The callback @func is about to be called with its head, @ptr. */
TRACE_EVENT(rcu_ptr_invoke,
	TP_PROTO(int kind, void *ptr, unsigned long func),
	TP_ARGS(kind, ptr, func),
	TP_STRUCT__entry(
		__field(int, kind)
		__field(void *, ptr)
		__field(unsigned long, func)
	),
	TP_fast_assign(
		__entry->kind = kind;
		__entry->ptr = ptr;
		__entry->func = func;
	),
	TP_printk("kind=%s ptr=%p func=%pS",
		  __print_symbolic(__entry->kind, RCU_PTR_KINDS),
		  __entry->ptr, (void *)__entry->func)
);

/*
 * A batch of @cpu.  @gp is the cookie of its grace period, as returned by
 * get_state_synchronize_rcu().  @mixed counts the entries of blocks that hold slab
 * objects, vmalloc objects and callbacks side by side (engine lockless).  They are
 * sorted when the batch ends: callbacks are counted in @calls then, not in @mixed.
 */
DECLARE_EVENT_CLASS(rcu_ptr_batch,
	TP_PROTO(int cpu, int batch, unsigned long slab, unsigned long vmalloc,
		 unsigned long list, unsigned long mixed, unsigned long calls,
		 unsigned long gp),
	TP_ARGS(cpu, batch, slab, vmalloc, list, mixed, calls, gp),
	TP_STRUCT__entry(
		__field(int, cpu)
		__field(int, batch)
		__field(unsigned long, slab)
		__field(unsigned long, vmalloc)
		__field(unsigned long, list)
		__field(unsigned long, mixed)
		__field(unsigned long, calls)
		__field(unsigned long, gp)
	),
	TP_fast_assign(
		__entry->cpu = cpu;
		__entry->batch = batch;
		__entry->slab = slab;
		__entry->vmalloc = vmalloc;
		__entry->list = list;
		__entry->mixed = mixed;
		__entry->calls = calls;
		__entry->gp = gp;
	),
	TP_printk("cpu=%d batch=%d slab=%lu vmalloc=%lu list=%lu mixed=%lu calls=%lu gp=%lu",
		  __entry->cpu, __entry->batch, __entry->slab,
		  __entry->vmalloc, __entry->list, __entry->mixed,
		  __entry->calls, __entry->gp)
);

/* The objects of a batch begin to wait for a grace period. */
DEFINE_EVENT(rcu_ptr_batch, rcu_ptr_batch_start,
	TP_PROTO(int cpu, int batch, unsigned long slab, unsigned long vmalloc,
		 unsigned long list, unsigned long mixed, unsigned long calls,
		 unsigned long gp),
	TP_ARGS(cpu, batch, slab, vmalloc, list, mixed, calls, gp)
);

/*
 * The objects of a batch are freed.  @batch is -1 for objects whose grace period
 * was over before a batch was made for them.
 */
DEFINE_EVENT(rcu_ptr_batch, rcu_ptr_batch_end,
	TP_PROTO(int cpu, int batch, unsigned long slab, unsigned long vmalloc,
		 unsigned long list, unsigned long mixed, unsigned long calls,
		 unsigned long gp),
	TP_ARGS(cpu, batch, slab, vmalloc, list, mixed, calls, gp)
);

/*
 * @count objects are returned to their allocators, in this order, after the
 * probes have returned; so probes may read them.  Their grace period is over, if
 * they were freed by a function that waits for one.
 */
TRACE_EVENT(rcu_ptr_free,
	TP_PROTO(void **objects, unsigned long count),
	TP_ARGS(objects, count),
	TP_STRUCT__entry(
		__field(void *, first)
		__field(unsigned long, count)
	),
	TP_fast_assign(
		__entry->first = objects[0];
		__entry->count = count;
	),
	TP_printk("first=%p count=%lu", __entry->first, __entry->count)
);

/* The block cache of @cpu was refilled with @blocks of @wanted blocks. */
TRACE_EVENT(rcu_ptr_refill,
	TP_PROTO(int cpu, unsigned long blocks, unsigned long wanted),
	TP_ARGS(cpu, blocks, wanted),
	TP_STRUCT__entry(
		__field(int, cpu)
		__field(unsigned long, blocks)
		__field(unsigned long, wanted)
	),
	TP_fast_assign(
		__entry->cpu = cpu;
		__entry->blocks = blocks;
		__entry->wanted = wanted;
	),
	TP_printk("cpu=%d blocks=%lu wanted=%lu",
		  __entry->cpu, __entry->blocks, __entry->wanted)
);

/*
 * The shrinker freed @blocks cached blocks of @cpu.  @objects: those of the batch that
 * it started (engine lockless), or those that it found expired and freed (engine rfc).
 */
TRACE_EVENT(rcu_ptr_shrink,
	TP_PROTO(int cpu, unsigned long blocks, unsigned long objects),
	TP_ARGS(cpu, blocks, objects),
	TP_STRUCT__entry(
		__field(int, cpu)
		__field(unsigned long, blocks)
		__field(unsigned long, objects)
	),
	TP_fast_assign(
		__entry->cpu = cpu;
		__entry->blocks = blocks;
		__entry->objects = objects;
	),
	TP_printk("cpu=%d blocks=%lu objects=%lu",
		  __entry->cpu, __entry->blocks, __entry->objects)
);

/*
 * Work was deferred: all batches of @cpu are busy, a refill is delayed after memory
 * pressure, or an object was queued while the lock was held.
 */
TRACE_EVENT(rcu_ptr_defer,
	TP_PROTO(int cpu, int what, unsigned long pending),
	TP_ARGS(cpu, what, pending),
	TP_STRUCT__entry(
		__field(int, cpu)
		__field(int, what)
		__field(unsigned long, pending)
	),
	TP_fast_assign(
		__entry->cpu = cpu;
		__entry->what = what;
		__entry->pending = pending;
	),
	TP_printk("cpu=%d what=%s pending=%lu", __entry->cpu,
		  __print_symbolic(__entry->what, RCU_PTR_DEFERS),
		  __entry->pending)
);

/*
 * Caches: @sheaves sheaves of @cpu start to wait for a grace period, @full of
 * them with objects; the others are empty.
 */
TRACE_EVENT(rcu_ptr_sheaf_wait,
	TP_PROTO(const char *cache, int cpu, unsigned long sheaves,
		 unsigned long full),
	TP_ARGS(cache, cpu, sheaves, full),
	TP_STRUCT__entry(
		__string(cache, cache)
		__field(int, cpu)
		__field(unsigned long, sheaves)
		__field(unsigned long, full)
	),
	TP_fast_assign(
		__assign_str(cache);
		__entry->cpu = cpu;
		__entry->sheaves = sheaves;
		__entry->full = full;
	),
	TP_printk("cache=%s cpu=%d sheaves=%lu full=%lu", __get_str(cache),
		  __entry->cpu, __entry->sheaves, __entry->full)
);

/* A sheaf was filled with @objects objects from the slab. */
TRACE_EVENT(rcu_ptr_sheaf_refill,
	TP_PROTO(const char *cache, int cpu, unsigned long objects),
	TP_ARGS(cache, cpu, objects),
	TP_STRUCT__entry(
		__string(cache, cache)
		__field(int, cpu)
		__field(unsigned long, objects)
	),
	TP_fast_assign(
		__assign_str(cache);
		__entry->cpu = cpu;
		__entry->objects = objects;
	),
	TP_printk("cache=%s cpu=%d objects=%lu", __get_str(cache),
		  __entry->cpu, __entry->objects)
);

/*
 * The monitor removed idle sheaves from @cpu: @waiting with freed objects, and
 * @stock with free objects or none.
 */
TRACE_EVENT(rcu_ptr_sheaf_drain,
	TP_PROTO(const char *cache, int cpu, unsigned long waiting,
		 unsigned long stock),
	TP_ARGS(cache, cpu, waiting, stock),
	TP_STRUCT__entry(
		__string(cache, cache)
		__field(int, cpu)
		__field(unsigned long, waiting)
		__field(unsigned long, stock)
	),
	TP_fast_assign(
		__assign_str(cache);
		__entry->cpu = cpu;
		__entry->waiting = waiting;
		__entry->stock = stock;
	),
	TP_printk("cache=%s cpu=%d waiting=%lu stock=%lu", __get_str(cache),
		  __entry->cpu, __entry->waiting, __entry->stock)
);

/*
 * Freed @full and @empty sheaves of the barn of @node: it was above its limit,
 * they were not needed, or memory reclaim asked for it.
 */
TRACE_EVENT(rcu_ptr_sheaf_shrink,
	TP_PROTO(const char *cache, int node, int why, unsigned long full,
		 unsigned long empty),
	TP_ARGS(cache, node, why, full, empty),
	TP_STRUCT__entry(
		__string(cache, cache)
		__field(int, node)
		__field(int, why)
		__field(unsigned long, full)
		__field(unsigned long, empty)
	),
	TP_fast_assign(
		__assign_str(cache);
		__entry->node = node;
		__entry->why = why;
		__entry->full = full;
		__entry->empty = empty;
	),
	TP_printk("cache=%s node=%d why=%s full=%lu empty=%lu",
		  __get_str(cache), __entry->node,
		  __print_symbolic(__entry->why, RCU_PTR_SHEAF_SHRINKS),
		  __entry->full, __entry->empty)
);

#endif /* _TRACE_RCU_PTR_H */

#include <trace/define_trace.h>
