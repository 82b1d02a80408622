/* SPDX-License-Identifier: GPL-2.0 */
/* What bindgen reads for rcu_ptr_takeover.ko. */
#include <linux/rcu_ptr.h>
#include "shim.h"
