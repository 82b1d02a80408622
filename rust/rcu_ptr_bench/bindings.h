/* SPDX-License-Identifier: GPL-2.0 */
/* What bindgen reads for rcu_ptr_bench.ko: kernel items and the shims of shim.c. */
#include <linux/hrtimer_types.h>
#include <linux/kdebug.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/notifier.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/tick.h>
#include <linux/tracepoint.h>
#include <linux/vmalloc.h>
#include <linux/rcu_ptr.h>
#include "shim.h"
