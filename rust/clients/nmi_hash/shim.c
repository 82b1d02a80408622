// SPDX-License-Identifier: GPL-2.0
/* The C of rcu_ptr_nmi_hash.ko: the shims of what it takes of the kernel. */
#include <linux/rcu_ptr.h>

#include "../../sys/context.c"
#include "../../sys/cpu.c"
#include "../../sys/perf.c"
