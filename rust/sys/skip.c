// SPDX-License-Identifier: GPL-2.0
/* Leaving a test out. */
#include <kunit/test-bug.h>
#include <kunit/test.h>

void rcu_ptr_shim_skip(const char *reason)
{
	kunit_mark_skipped(kunit_get_current_test(), "%s", reason);
}
