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

static char sweep_module[32] = "rcu_ptr";
module_param_string(module, sweep_module, sizeof(sweep_module), 0444);
MODULE_PARM_DESC(module, "the module whose code is swept");

static char sweep_func[128];
module_param_string(func, sweep_func, sizeof(sweep_func), 0444);
MODULE_PARM_DESC(func, "sweep functions with this in their name only");

static char sweep_cmd[256];
module_param_string(cmd, sweep_cmd, sizeof(sweep_cmd), 0444);
MODULE_PARM_DESC(cmd, "shell command that makes the swept code run");

const char *rcu_ptr_sweep_module(void)
{
	return sweep_module;
}

const char *rcu_ptr_sweep_func(void)
{
	return sweep_func;
}

const char *rcu_ptr_sweep_cmd(void)
{
	return sweep_cmd;
}
