// SPDX-License-Identifier: GPL-2.0
/* Waiting by the address of a variable. */
#include <linux/wait_bit.h>

bool rcu_ptr_shim_wait_var(void *var, bool (*done)(void *arg), void *arg)
{
	return wait_var_event_timeout(var, done(arg), 1);
}
