// SPDX-License-Identifier: GPL-2.0
/*
 * The C of nmi_sweep.ko: parameters, as those of Rust can't be words, and the
 * shims of what it takes of the kernel and of rcu_ptr.ko.  No logic lives here.
 */
#include <linux/module.h>
#include <linux/moduleparam.h>

#include "../sys/alloc.c"
#include "../sys/context.c"
#include "../sys/core_test.c"
#include "../sys/cpu.c"
#include "../sys/kunit.c"
#include "../sys/mem.c"
#include "../sys/nmi.c"
#include "../sys/perf.c"
#include "../sys/rcu.c"
#include "../sys/srcu_domain.c"
#include "../sys/step.c"
#include "../sys/thread.c"
#include "../sys/tracepoint.c"

MODULE_IMPORT_NS("RCU_PTR_TEST");

char *rcu_ptr_text_module = "rcu_ptr";
module_param_named(module, rcu_ptr_text_module, charp, 0444);
MODULE_PARM_DESC(module, "the module whose code is swept");

char *rcu_ptr_text_func = "";
module_param_named(func, rcu_ptr_text_func, charp, 0444);
MODULE_PARM_DESC(func, "sweep functions with this in their name only");

char *rcu_ptr_text_cmd = "";
module_param_named(cmd, rcu_ptr_text_cmd, charp, 0444);
MODULE_PARM_DESC(cmd, "shell command that makes the swept code run");
