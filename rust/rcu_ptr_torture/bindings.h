/* SPDX-License-Identifier: GPL-2.0 */
/* What bindgen reads for rcu_ptr_torture.ko. */
#include <linux/perf_event.h>
#include <linux/rcu_ptr.h>
#include <linux/rcu_ptr_test.h>
#include "shim.h"
