// SPDX-License-Identifier: GPL-2.0
/* The parameter "length": those of Rust can't be words. And leaving a test out. */
#ifndef RCU_PTR_RUNNER
#include <kunit/test-bug.h>
#include <kunit/test.h>
#endif
#include <linux/moduleparam.h>
#include <linux/string.h>
#include <linux/sysfs.h>

static bool short_length;

static int set_length(const char *val, const struct kernel_param *kp)
{
	if (sysfs_streq(val, "short"))
		short_length = true;
	else if (sysfs_streq(val, "full"))
		short_length = false;
	else
		return -EINVAL;
	return 0;
}

static int get_length(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%s\n", short_length ? "short" : "full");
}

static const struct kernel_param_ops length_ops = {
	.set = set_length,
	.get = get_length,
};
module_param_cb(length, &length_ops, NULL, 0444);
MODULE_PARM_DESC(length, "short: less of what takes minutes; full");

bool rcu_ptr_shim_is_short(void)
{
	return short_length;
}

#ifndef RCU_PTR_RUNNER
void rcu_ptr_shim_skip(const char *reason)
{
	kunit_mark_skipped(kunit_get_current_test(), "%s", reason);
}
#endif
