// SPDX-License-Identifier: GPL-2.0
/*
 * The C part of nmi_sweep.ko: parameters, as those of Rust can't be strings, and
 * shims for the kernel and rcu_ptr.ko.
 */
#include <linux/module.h>
#include <linux/moduleparam.h>

#include "../sys/tests.c"
#include "../sys/core_test.c"
#include "../sys/kunit.c"
#include "../sys/srcu_domain.c"
#include "../sys/step.c"

MODULE_IMPORT_NS("RCU_PTR_TEST");

/* rust/sys/text.rs */
#define RCU_PTR_MODULE 0
#define RCU_PTR_FUNC 1
#define RCU_PTR_CMD 2

char *rcu_ptr_texts[] = { "rcu_ptr", "", "" };

module_param_named(module, rcu_ptr_texts[RCU_PTR_MODULE], charp, 0444);
MODULE_PARM_DESC(module, "the module whose code is swept");
module_param_named(func, rcu_ptr_texts[RCU_PTR_FUNC], charp, 0444);
MODULE_PARM_DESC(func, "sweep functions with this in their name only");
module_param_named(cmd, rcu_ptr_texts[RCU_PTR_CMD], charp, 0444);
MODULE_PARM_DESC(cmd, "shell command that makes the swept code run");
