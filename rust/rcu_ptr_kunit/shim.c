// SPDX-License-Identifier: GPL-2.0
/*
 * The C part of rcu_ptr_kunit.ko: shims for the kernel and rcu_ptr.ko.
 */
#include <linux/module.h>
#include <linux/workqueue.h>

#include "../sys/tests.c"
#include "../sys/core_test.c"
#include "../sys/kunit.c"
#include "../sys/srcu_domain.c"
#ifdef RCU_PTR_RUNNER
#include "runner.c"
#endif

MODULE_IMPORT_NS("RCU_PTR_TEST");

static void nothing(struct work_struct *work)
{
}

static DECLARE_WORK(wake, nothing);

void rcu_ptr_shim_wake(void)
{
	schedule_work(&wake);
}

void rcu_ptr_shim_wake_end(void)
{
	flush_work(&wake);
}
