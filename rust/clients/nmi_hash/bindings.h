/* SPDX-License-Identifier: GPL-2.0 */
/* What bindgen reads for rcu_ptr_nmi_hash.ko. */
#include <linux/perf_event.h>
#include <linux/rcu_ptr.h>
#include "shim.h"
