// SPDX-License-Identifier: GPL-2.0
/*
 * The C part of rcu_ptr_bench.ko: parameters, counters of the kernel, and shims
 * for the kernel.
 */
#include <linux/hardirq.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/percpu.h>
#include <linux/printk.h>
#include <linux/timex.h>
#include <linux/rcu_ptr.h>

#include "../sys/tests.c"
#include "../sys/step.c"

/* Parameters that are text; numbers are declared in rcu_ptr_bench_main.rs. */
#define RCU_PTR_TEST 0
#define RCU_PTR_FREES 1
#define RCU_PTR_OBJECT 2
#define RCU_PTR_ENGINE 3
#define RCU_PTR_IRQ_WORKS 4

char *rcu_ptr_texts[] = { "all", "all", "kmalloc-64", "", "" };

module_param_named(test, rcu_ptr_texts[RCU_PTR_TEST], charp, 0444);
MODULE_PARM_DESC(test, "what to measure: see docs/bench.md (default all)");
module_param_named(frees, rcu_ptr_texts[RCU_PTR_FREES], charp, 0444);
MODULE_PARM_DESC(frees, "functions to measure: all, kernel, rcu_ptr, or names (default all)");
module_param_named(object, rcu_ptr_texts[RCU_PTR_OBJECT], charp, 0444);
MODULE_PARM_DESC(object, "kmalloc-N, cache-N or vmalloc-N, by commas (default kmalloc-64)");
module_param_named(engine, rcu_ptr_texts[RCU_PTR_ENGINE], charp, 0444);
MODULE_PARM_DESC(engine, "name of the loaded core's engine, for the results");
module_param_named(irq_works, rcu_ptr_texts[RCU_PTR_IRQ_WORKS], charp, 0444);
MODULE_PARM_DESC(irq_works, "functions of irq_works that test=nmi counts: hex addresses");

u64 rcu_ptr_shim_get_cycles(void)
{
	return get_cycles();
}

unsigned int rcu_ptr_shim_irq_work_ipis(int cpu)
{
#ifdef CONFIG_X86_64
	return per_cpu(irq_stat, cpu).counts[IRQ_COUNT_IRQ_WORK];
#else
	return 0;
#endif
}
