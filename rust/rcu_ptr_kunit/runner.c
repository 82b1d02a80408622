// SPDX-License-Identifier: GPL-2.0
/*
 * C shims of the runner, rust/rcu_ptr_kunit/runner.rs, for kernels without
 * KUnit: a thread for each case, and when the module is loaded.
 */
#include <linux/completion.h>
#include <linux/err.h>
#include <linux/glob.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/moduleparam.h>

#include "../sys/rs.h"

static DECLARE_COMPLETION(rcu_ptr_kunit_done);

static int rcu_ptr_kunit_thread(void *data)
{
	rcu_ptr_rs_case(data);
	kthread_complete_and_exit(&rcu_ptr_kunit_done, 0);
	return 0;
}

int rcu_ptr_kunit_start(void *test_case)
{
	reinit_completion(&rcu_ptr_kunit_done);
	return PTR_ERR_OR_ZERO(kthread_run(rcu_ptr_kunit_thread, test_case,
					   "kunit_try_catch_thread"));
}

bool rcu_ptr_kunit_wait(unsigned int seconds)
{
	return wait_for_completion_timeout(&rcu_ptr_kunit_done, seconds * HZ);
}

bool rcu_ptr_kunit_glob(const char *pattern, const char *text)
{
	return glob_match(pattern, text);
}

static char rcu_ptr_kunit_filter[128] = "*";
module_param_string(filter_glob, rcu_ptr_kunit_filter,
		    sizeof(rcu_ptr_kunit_filter), 0444);
MODULE_PARM_DESC(filter_glob, "which suites and cases run: SUITE or SUITE.CASE, a glob each");

const char *rcu_ptr_kunit_filter_glob(void)
{
	return rcu_ptr_kunit_filter;
}

/* As KUnit does: when init has ended. */
static int rcu_ptr_kunit_state(struct notifier_block *nb, unsigned long state,
			       void *data)
{
	if (data == THIS_MODULE && state == MODULE_STATE_LIVE)
		rcu_ptr_rs_live();
	return NOTIFY_DONE;
}

static struct notifier_block rcu_ptr_kunit_notifier = {
	.notifier_call = rcu_ptr_kunit_state,
};

int rcu_ptr_kunit_notify(void)
{
	return register_module_notifier(&rcu_ptr_kunit_notifier);
}

void rcu_ptr_kunit_no_notify(void)
{
	unregister_module_notifier(&rcu_ptr_kunit_notifier);
}
