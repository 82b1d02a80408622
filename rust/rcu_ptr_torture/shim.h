/* SPDX-License-Identifier: GPL-2.0 */
/*
 * C shims of rcu_ptr_torture.ko: macros, inlines and the tracepoint probe that
 * Rust can't reach.  No logic lives here.
 */
#ifndef _RCU_PTR_TORTURE_SHIM_H
#define _RCU_PTR_TORTURE_SHIM_H

#include <linux/types.h>

/* Allocators. */
void *rcu_ptr_torture_kmalloc(size_t size, bool atomic);
void *rcu_ptr_torture_kmalloc_nolock(size_t size);
void *rcu_ptr_torture_vmalloc(size_t size);
void *rcu_ptr_torture_kvmalloc(size_t size);
void rcu_ptr_torture_kfree_nolock(void *object);
void *rcu_ptr_torture_slab_alloc(void *cache, bool atomic);
void *rcu_ptr_torture_pages(unsigned int order);

/* An SRCU domain. */
struct srcu_struct;
struct srcu_struct *rcu_ptr_torture_domain(void);
int rcu_ptr_torture_domain_lock(void);
void rcu_ptr_torture_domain_unlock(int token);

/* CPUs, contexts, time. */
int rcu_ptr_torture_next_online_cpu(int cpu);
int rcu_ptr_torture_this_cpu(void);
bool rcu_ptr_torture_in_nmi(void);
bool rcu_ptr_torture_in_hardirq(void);
bool rcu_ptr_torture_in_softirq(void);
bool rcu_ptr_torture_bh_disabled(void);
bool rcu_ptr_torture_may_sleep(void);
bool rcu_ptr_torture_move(int cpu);
unsigned long rcu_ptr_torture_raw_lock(void);
void rcu_ptr_torture_raw_unlock(unsigned long flags);
void rcu_ptr_torture_bh_disable(void);
void rcu_ptr_torture_bh_enable(void);
void rcu_ptr_torture_cond_resched(void);
bool rcu_ptr_torture_interrupted(void);
u64 rcu_ptr_torture_now(void);

/* NMIs. */
int rcu_ptr_torture_nmi_register(void);
void rcu_ptr_torture_nmi_unregister(void);
void rcu_ptr_torture_nmi_send(int cpu);
void *rcu_ptr_torture_cycles_create(int cpu, u64 period);

/* rcu_ptr.ko says what it is about to free. */
int rcu_ptr_torture_probe_register(void);
void rcu_ptr_torture_probe_unregister(void);

/* The mark of a failure: where a debugger stops. */
void rcu_ptr_torture_failed(const char *what, unsigned long object,
			    const char *source, const char *call,
			    const char *context, u64 age);

/* Defined in Rust, rust/sys/torture/. */
void rcu_ptr_torture_rs_nmi(void);
void rcu_ptr_torture_rs_free(void **objects, unsigned long count);

#endif /* _RCU_PTR_TORTURE_SHIM_H */
