/* SPDX-License-Identifier: GPL-2.0 */
/*
 * C shims of rcu_ptr_kunit.ko: macros, inlines, tracepoint probes and the
 * macros of rcu_ptr.h.  No logic lives here.
 */
#ifndef _RCU_PTR_KUNIT_SHIM_H
#define _RCU_PTR_KUNIT_SHIM_H

#include <linux/types.h>

/* Allocators. */
bool rcu_ptr_kunit_is_poisoned(const void *addr);
void *rcu_ptr_kunit_kmalloc(size_t size);
void *rcu_ptr_kunit_kmalloc_nolock(size_t size);
void *rcu_ptr_kunit_vmalloc(size_t size);
void *rcu_ptr_kunit_kvmalloc(size_t size);
void *rcu_ptr_kunit_page(void);
bool rcu_ptr_kunit_is_mapped(unsigned long address);

/* Where memory is. */
unsigned long rcu_ptr_kunit_pcp_pages(void);
unsigned long rcu_ptr_kunit_slab_pages(void);

/* What the kernel does when objects are allocated and freed. */
bool rcu_ptr_kunit_is_kfence(const void *object);
bool rcu_ptr_kunit_init_on_alloc(void);
bool rcu_ptr_kunit_init_on_free(void);

/* The kernel's own, as control. */
void rcu_ptr_kunit_kernel_nolock(void *field, void *object);

/* CPUs and contexts. */
int rcu_ptr_kunit_next_online_cpu(int cpu);
int rcu_ptr_kunit_this_cpu(void);
int rcu_ptr_kunit_cpu_node(int cpu);
int rcu_ptr_kunit_object_node(const void *object);
bool rcu_ptr_kunit_in_nmi(void);
bool rcu_ptr_kunit_in_hardirq(void);
bool rcu_ptr_kunit_in_softirq(void);
bool rcu_ptr_kunit_bh_is_off(void);
bool rcu_ptr_kunit_may_sleep(void);
void rcu_ptr_kunit_head_on_stack(struct rcu_head *head);
void rcu_ptr_kunit_head_off_stack(struct rcu_head *head);
void rcu_ptr_kunit_local_bh_disable(void);
void rcu_ptr_kunit_local_bh_enable(void);
void rcu_ptr_kunit_local_irq_disable(void);
void rcu_ptr_kunit_local_irq_enable(void);
bool rcu_ptr_kunit_irqs_disabled(void);
void rcu_ptr_kunit_preempt_disable(void);
void rcu_ptr_kunit_preempt_enable(void);
void rcu_ptr_kunit_wake(void);
/* SRCU domains. */
enum rcu_ptr_kunit_srcu {
	RCU_PTR_KUNIT_SRCU_PLAIN,
	RCU_PTR_KUNIT_SRCU_FAST,
	RCU_PTR_KUNIT_SRCU_NMISAFE,
	RCU_PTR_KUNIT_SRCU_TASKS_TRACE,
};

struct srcu_struct;
struct srcu_struct *rcu_ptr_kunit_srcu_new(int kind);
void rcu_ptr_kunit_srcu_free(int kind, struct srcu_struct *srcu);
unsigned long rcu_ptr_kunit_srcu_lock(int kind, struct srcu_struct *srcu);
void rcu_ptr_kunit_srcu_unlock(int kind, struct srcu_struct *srcu,
			       unsigned long token);

unsigned long rcu_ptr_kunit_raw_lock(void);
void rcu_ptr_kunit_raw_unlock(unsigned long flags);
void rcu_ptr_kunit_cond_resched(void);
void *rcu_ptr_kunit_current(void);
bool rcu_ptr_kunit_move(void *task, int cpu);
void rcu_ptr_kunit_not_hung(void);
void rcu_ptr_kunit_reclaim_begin(void);
void rcu_ptr_kunit_reclaim_end(void);

/* Fault injection. */
void rcu_ptr_kunit_make_it_fail(bool on);

/* NMI sources; the hooks are rust/sys/kunit/nmi/'s. */
void *rcu_ptr_kunit_breakpoint_register(unsigned long address, bool execute,
					int length, void *hook);
void rcu_ptr_kunit_breakpoint_unregister(void *events);
void *rcu_ptr_kunit_cycles_create(int cpu, u64 period, void *hook);
void *rcu_ptr_kunit_counted_create(int cpu, u64 period, void *hook);
u64 rcu_ptr_kunit_rs_counted(void *hook, unsigned long pc, unsigned long sp,
			     bool irqs_off);
bool rcu_ptr_kunit_rs_hook(void *hook, unsigned long pc, unsigned long sp);
int rcu_ptr_kunit_step_register(void);
void rcu_ptr_kunit_step_unregister(void);
bool rcu_ptr_kunit_rs_step(unsigned long pc, unsigned long sp);
int rcu_ptr_kunit_nmi_register(void);
void rcu_ptr_kunit_nmi_unregister(void);
void rcu_ptr_kunit_nmi_send(int cpu);
void rcu_ptr_kunit_rs_nmi(void);

/* Parameters that are words. */
bool rcu_ptr_kunit_is_short(void);
const char *rcu_ptr_kunit_sweep_module(void);
const char *rcu_ptr_kunit_sweep_func(void);
const char *rcu_ptr_kunit_sweep_cmd(void);

/* KUnit. */

/* The tracepoints of rcu_ptr.ko, seen by Rust. */
int rcu_ptr_kunit_probes_register(void);
void rcu_ptr_kunit_probes_unregister(void);
void rcu_ptr_kunit_rs_queue(int engine, int channel, int kind, int ctx);
void rcu_ptr_kunit_rs_invoke(int kind, unsigned long func);
void rcu_ptr_kunit_rs_defer(int cpu, int what);
void rcu_ptr_kunit_rs_refill(int cpu, unsigned long blocks);
void rcu_ptr_kunit_rs_shrink(int cpu, unsigned long blocks,
			     unsigned long objects);
void rcu_ptr_kunit_rs_batch(int cpu, unsigned long objects);

/* Any tracepoint. */
void rcu_ptr_kunit_tracepoints_walk(void *walk);
void rcu_ptr_kunit_rs_tracepoint(const char *name, void *tp, void *walk);
int rcu_ptr_kunit_tracepoint_register(void *tp, void *site);
void rcu_ptr_kunit_tracepoint_unregister(void *tp, void *site);
void rcu_ptr_kunit_tracepoints_sync(void);
void rcu_ptr_kunit_rs_traced(void *site);

/* c_fields.c: objects with every accepted type of field. */
enum rcu_ptr_kunit_field {
	RCU_PTR_KUNIT_FIELD_PTR_0,
	RCU_PTR_KUNIT_FIELD_PTR_8,
	RCU_PTR_KUNIT_FIELD_PTR_4088,
	RCU_PTR_KUNIT_FIELD_HEAD_0,
	RCU_PTR_KUNIT_FIELD_HEAD_8,
	RCU_PTR_KUNIT_FIELD_HEAD_4080,
	RCU_PTR_KUNIT_FIELD_KVHEAD_0,
	RCU_PTR_KUNIT_FIELD_KVHEAD_8,
	RCU_PTR_KUNIT_FIELD_KVHEAD_4088,
	RCU_PTR_KUNIT_FIELDS
};

size_t rcu_ptr_kunit_field_size(int field);
void rcu_ptr_kunit_field_free(int field, void *object);
void rcu_ptr_kunit_field_free_nolock(int field, void *object);
void rcu_ptr_kunit_free_null(void);

/* Where there is no KUnit: runner.c. */
#ifdef RCU_PTR_RUNNER
int rcu_ptr_kunit_start(void *test_case);
bool rcu_ptr_kunit_wait(unsigned int seconds);
bool rcu_ptr_kunit_glob(const char *pattern, const char *text);
const char *rcu_ptr_kunit_filter_glob(void);
int rcu_ptr_kunit_notify(void);
void rcu_ptr_kunit_no_notify(void);

/* Defined in Rust, rust/sys/kunit/runner.rs. */
void rcu_ptr_kunit_rs_case(void *test_case);
void rcu_ptr_kunit_rs_live(void);
#else
void rcu_ptr_kunit_skip(const char *reason);
#endif

#endif /* _RCU_PTR_KUNIT_SHIM_H */
