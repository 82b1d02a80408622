/* SPDX-License-Identifier: GPL-2.0 */
/* What bindgen reads for a Rust client of rcu_ptr.ko. */
#include <linux/rcu_ptr.h>
