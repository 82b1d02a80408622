// SPDX-License-Identifier: GPL-2.0
/* Per-CPU data. */
#include <linux/jump_label.h>
#include <linux/percpu.h>
#ifdef CONFIG_ARM64
#include <asm/cpucaps.h>
#endif

#ifdef CONFIG_ARM64
/* Capabilities that code is patched for, this_cpu/arm64.rs. */
enum rcu_ptr_cpucap {
	RCU_PTR_CPUCAP_VHE = ARM64_HAS_VIRT_HOST_EXTN,
	RCU_PTR_CPUCAP_LSE = ARM64_HAS_LSE_ATOMICS,
};
#endif

void *rcu_ptr_shim_per_cpu(void __percpu *base, int cpu)
{
	return per_cpu_ptr(base, cpu);
}

/* Engine lockless, current_block.rs. */
struct rcu_ptr_engine_key {
	struct static_key_false key;
};

struct rcu_ptr_engine_key rcu_ptr_lockless_key = { STATIC_KEY_FALSE_INIT };

void rcu_ptr_shim_enable_lockless(void)
{
	static_branch_enable(&rcu_ptr_lockless_key.key);
}

DEFINE_PER_CPU(unsigned long, rcu_ptr_current_block);

unsigned long *rcu_ptr_shim_current_block(int cpu)
{
	return per_cpu_ptr(&rcu_ptr_current_block, cpu);
}
