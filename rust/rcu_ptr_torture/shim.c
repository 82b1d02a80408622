// SPDX-License-Identifier: GPL-2.0
/*
 * The C of rcu_ptr_torture.ko: the mark of a failure, a probe on a tracepoint of
 * rcu_ptr.ko, and the shims of what it takes of the kernel.  No logic lives
 * here.
 */
#include <linux/atomic.h>
#include <linux/module.h>
#include <linux/printk.h>
#include <linux/rcu_ptr.h>
#include <linux/rcu_ptr_test.h>
#include <trace/events/rcu_ptr.h>

#include "../sys/alloc.c"
#include "../sys/context.c"
#include "../sys/cpu.c"
#include "../sys/mem.c"
#include "../sys/nmi.c"
#include "../sys/perf.c"
#include "../sys/rcu.c"
#include "../sys/srcu_domain.c"
#include "../sys/thread.c"

#include "../sys/rs.h"

MODULE_IMPORT_NS("RCU_PTR_TEST");

static void probe_free(void *data, void **objects, unsigned long count)
{
	rcu_ptr_rs_free(objects, count);
}

int rcu_ptr_shim_probe_register(void)
{
	return register_trace_rcu_ptr_free(probe_free, NULL);
}

void rcu_ptr_shim_probe_unregister(void)
{
	unregister_trace_rcu_ptr_free(probe_free, NULL);
	tracepoint_synchronize_unregister();
}

/* Away from the code that runs all the time: see docs/simulation.md. */
__cold noinline void rcu_ptr_torture_failed(const char *what,
					    unsigned long object,
					    const char *source,
					    const char *call,
					    const char *context, u64 age)
{
	static atomic_t said = ATOMIC_INIT(0);
	int n = atomic_inc_return(&said);

	if (n > 8)
		return;
	pr_err("rcu_ptr_torture: FAILURE! %s: object %lx of %s, last call %s in %s, %llu ns ago\n",
	       what, object, source, call, context, age);
	if (n == 1)
		dump_stack();
}
