/* SPDX-License-Identifier: GPL-2.0 */
/*
 * C shims of rcu_ptr_bench.ko: macros, inlines, parameters and counters that
 * Rust can't reach.  No logic lives here.
 */
#ifndef _RCU_PTR_BENCH_SHIM_H
#define _RCU_PTR_BENCH_SHIM_H

#include <linux/interrupt.h>
#include <linux/types.h>

/* Numbers of softirqs, for Rust. */
enum rcu_ptr_bench_softirq {
	RCU_PTR_BENCH_TIMER_SOFTIRQ = TIMER_SOFTIRQ,
	RCU_PTR_BENCH_RCU_SOFTIRQ = RCU_SOFTIRQ,
	RCU_PTR_BENCH_NR_SOFTIRQS = NR_SOFTIRQS,
};

struct kmem_cache;
struct perf_event;
struct pt_regs;
struct task_struct;

const char *rcu_ptr_bench_param_test(void);
const char *rcu_ptr_bench_param_frees(void);
const char *rcu_ptr_bench_param_object(void);
const char *rcu_ptr_bench_param_engine(void);

u64 rcu_ptr_bench_cycles(void);
u64 rcu_ptr_bench_nanoseconds(void);
unsigned long rcu_ptr_bench_irq_save(void);
void rcu_ptr_bench_irq_restore(unsigned long flags);
bool rcu_ptr_bench_in_nmi(void);
bool rcu_ptr_bench_in_hardirq(void);
int rcu_ptr_bench_cpu(void);
int rcu_ptr_bench_next_online_cpu(int cpu);
void rcu_ptr_bench_cond_resched(void);
void rcu_ptr_bench_sleep(unsigned int msecs);

void *rcu_ptr_bench_kmalloc(size_t size);
void *rcu_ptr_bench_kmalloc_nolock(size_t size);
void *rcu_ptr_bench_vmalloc(size_t size);
struct kmem_cache *rcu_ptr_bench_cache_create(const char *name,
					      size_t size);

unsigned long rcu_ptr_bench_slab_bytes(void);
unsigned int rcu_ptr_bench_irq_work_ipis(int cpu);
bool rcu_ptr_bench_has_nmi(void);
int rcu_ptr_bench_nmi_register(void);
void rcu_ptr_bench_nmi_unregister(void);
void rcu_ptr_bench_nmi_send(int cpu);
struct perf_event **rcu_ptr_bench_breakpoint(unsigned long address);
void rcu_ptr_bench_breakpoint_remove(struct perf_event **events);
void rcu_ptr_bench_print_step(const char *free, unsigned int number,
			      unsigned long ip, const u8 *bytes);

/* Defined in Rust, rust/sys/bench/. */
int rcu_ptr_bench_rs_nmi(void);
void rcu_ptr_bench_rs_breakpoint(void);

#endif /* _RCU_PTR_BENCH_SHIM_H */
