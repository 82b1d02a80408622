/* SPDX-License-Identifier: GPL-2.0 */
/* What bindgen reads for rcu_ptr.ko: kernel items and the shims of shim.c. */
#include <linux/hrtimer_types.h>
#include <linux/vmalloc.h>
#include <linux/rcu_ptr.h>
#include <trace/events/rcu_ptr.h>
#include "shim.h"
