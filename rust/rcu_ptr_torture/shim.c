// SPDX-License-Identifier: GPL-2.0
/*
 * The C part of rcu_ptr_torture.ko: failure reports, and shims for the kernel.
 */
#include <linux/atomic.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/printk.h>
#include <linux/rcu_ptr.h>
#include <linux/rcu_ptr_test.h>

#include "../sys/tests.c"
#include "../sys/srcu_domain.c"

MODULE_IMPORT_NS("RCU_PTR_TEST");

/*
 * Queued from a parameter of a module whose init fails later:
 * qemu/guest/tests/rcu_ptr_rmmod.sh.
 */
static void called_early(struct rcu_head *head)
{
	pr_info("rcu_ptr_torture: the callback of a parameter was called\n");
}

static int queue_early(const char *val, const struct kernel_param *kp)
{
	static struct rcu_head head;

	rcu_ptr_call(&head, called_early);
	return 0;
}

static const struct kernel_param_ops queue_early_ops = { .set = queue_early };
module_param_cb(queue_early, &queue_early_ops, NULL, 0200);
MODULE_PARM_DESC(queue_early, "queues a callback when it is set, at load");

/* Cold, so that it does not change the layout of hot code: docs/simulation.md. */
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
