// SPDX-License-Identifier: GPL-2.0
/* Tracepoints. */
#include <linux/tracepoint.h>

void rcu_ptr_shim_tracepoint_synchronize(void)
{
	tracepoint_synchronize_unregister();
}
