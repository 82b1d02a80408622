/* SPDX-License-Identifier: GPL-2.0 */
/* C shims of rcu_ptr_nmi_hash.ko: perf's structures and macros. */
#ifndef _RCU_PTR_NMI_HASH_SHIM_H
#define _RCU_PTR_NMI_HASH_SHIM_H

#include <linux/types.h>

/* Counters, or watchpoints on a word; their handler is Rust's. */
void *rcu_ptr_nmi_hash_cycles(int cpu, u64 period, void *context);
void *rcu_ptr_nmi_hash_watch(int cpu, unsigned long word, void *context);
void rcu_ptr_nmi_hash_rs_sample(void *context, unsigned long ip, bool in_nmi);

int rcu_ptr_nmi_hash_next_online_cpu(int cpu);

#endif /* _RCU_PTR_NMI_HASH_SHIM_H */
