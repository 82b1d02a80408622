// SPDX-License-Identifier: GPL-2.0
/* References to this module, and a notifier for others. */
#include <linux/kernfs.h>
#include <linux/module.h>
#include <linux/notifier.h>

#include "rs.h"

bool rcu_ptr_shim_get_module(void)
{
	return try_module_get(THIS_MODULE);
}

void rcu_ptr_shim_put_module(void)
{
	module_put(THIS_MODULE);
}

bool rcu_ptr_shim_module_is_in_sysfs(const struct module *module)
{
#ifdef CONFIG_SYSFS
	return module->mkobj.kobj.state_in_sysfs;
#else
	return false;
#endif
}

bool rcu_ptr_shim_module_uses_this(const struct module *module)
{
#if defined(CONFIG_MODULE_UNLOAD) && defined(CONFIG_SYSFS)
	struct kernfs_node *dir = THIS_MODULE->holders_dir->sd;
	struct kernfs_node *holder = kernfs_find_and_get(dir, module->name);

	kernfs_put(holder);
	return holder;
#else
	return true;
#endif
}

static int rcu_ptr_module_changes(struct notifier_block *nb,
				  unsigned long state, void *module)
{
	if (state == MODULE_STATE_GOING)
		rcu_ptr_rs_module_going(module);
	return NOTIFY_OK;
}

/* Before other notifiers, which may remove what callbacks of the module use. */
static struct notifier_block rcu_ptr_module_watch = {
	.notifier_call = rcu_ptr_module_changes,
	.priority = INT_MAX,
};

int rcu_ptr_shim_watch_modules(void)
{
	return register_module_notifier(&rcu_ptr_module_watch);
}

void rcu_ptr_shim_unwatch_modules(void)
{
	unregister_module_notifier(&rcu_ptr_module_watch);
}
