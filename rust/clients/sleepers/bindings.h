/* SPDX-License-Identifier: GPL-2.0 */
/* What bindgen reads for rcu_ptr_sleepers.ko. */
#include <linux/rcu_ptr.h>
#include <linux/stacktrace.h>
#include "shim.h"
