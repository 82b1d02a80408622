// SPDX-License-Identifier: GPL-2.0
/*
 * The C part of rcu_ptr.ko: exports, parameters and, in the included files,
 * shims of the kernel's macros and inline functions.
 */
#include <linux/err.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/rcu_ptr.h>
#ifdef RCU_PTR_TEST
#include <linux/rcu_ptr_test.h>
#endif

#include "../sys/callback.c"
#include "../sys/context.c"
#include "../sys/debug.c"
#include "../sys/mem.c"
#include "../sys/module.c"
#include "../sys/percpu.c"
#include "../sys/raw_lock.c"
#include "../sys/rcu.c"
#include "../sys/trace.c"
#include "../sys/wait.c"
#include "../sys/work.c"

#include "../sys/rs.h"

/*
 * The fast path of engine lockless: functions of rust/rcu_ptr/exports.rs.  For
 * anything else they jump to a function below, where _RET_IP_ is still the
 * caller's address.
 */
EXPORT_SYMBOL_GPL(__rcu_ptr_kvfree);
EXPORT_SYMBOL_GPL(__rcu_ptr_kfree_nolock);
EXPORT_SYMBOL_GPL(__rcu_ptr_try_kfree_nolock);
EXPORT_SYMBOL_GPL(rcu_ptr_call);
EXPORT_SYMBOL_GPL(rcu_ptr_call_sleepable);

void rcu_ptr_shim_kvfree(void *field, void *ptr)
{
	rcu_ptr_rs_kvfree(field, ptr, _RET_IP_);
}

void rcu_ptr_shim_kvfree_no_slot(void *field, void *ptr)
{
	rcu_ptr_rs_kvfree_no_slot(field, ptr, _RET_IP_);
}

void rcu_ptr_shim_kfree_nolock(void *field, void *ptr)
{
	rcu_ptr_rs_kfree_nolock(field, ptr, _RET_IP_);
}

bool rcu_ptr_shim_try_kfree_nolock(void *ptr)
{
	return rcu_ptr_rs_try_kfree_nolock(ptr, _RET_IP_);
}

void rcu_ptr_shim_call(struct rcu_head *head, rcu_callback_t func, bool sleeps)
{
	rcu_ptr_rs_call(head, func, sleeps, _RET_IP_);
}

void rcu_ptr_shim_call_no_slot(unsigned long word)
{
	rcu_ptr_rs_call_no_slot(word, _RET_IP_);
}

void __rcu_ptr_kvfree_mightsleep(void *ptr)
{
	__rcu_ptr_kvfree_mightsleep_for(ptr, _RET_IP_);
}
EXPORT_SYMBOL_GPL(__rcu_ptr_kvfree_mightsleep);
EXPORT_SYMBOL_GPL(rcu_ptr_barrier);

/* For rcu_ptr_takeover.ko. */
EXPORT_SYMBOL_GPL(__rcu_ptr_kvfree_for);
EXPORT_SYMBOL_GPL(__rcu_ptr_kfree_nolock_for);
EXPORT_SYMBOL_GPL(__rcu_ptr_kvfree_mightsleep_for);
EXPORT_SYMBOL_GPL(__rcu_ptr_barrier_objects);

notrace bool __rcu_ptr_within(unsigned long ip)
{
	return within_module(ip, THIS_MODULE);
}
EXPORT_SYMBOL_GPL(__rcu_ptr_within);

/* Caches.  Most functions are Rust and only exported here. */

struct rcu_ptr_cache *
rcu_ptr_cache_create(const char *name, unsigned int size,
		     const struct rcu_ptr_cache_args *args, slab_flags_t flags)
{
	struct rcu_ptr_cache *cache = NULL;
	int err;

	err = rcu_ptr_rs_cache_create(name, size, args,
				      (__force unsigned int)flags, &cache);
	return err ? ERR_PTR(err) : cache;
}
EXPORT_SYMBOL_GPL(rcu_ptr_cache_create);

void rcu_ptr_cache_destroy(struct rcu_ptr_cache *cache)
{
	rcu_ptr_rs_cache_destroy(cache, _RET_IP_);
}
EXPORT_SYMBOL_GPL(rcu_ptr_cache_destroy);

void rcu_ptr_shim_cache_no_slot(struct rcu_ptr_cache *cache, void *object)
{
	rcu_ptr_rs_cache_no_slot(cache, object, _RET_IP_);
}

void rcu_ptr_shim_cache_twice(struct rcu_ptr_cache *cache, void *object)
{
	rcu_ptr_rs_cache_twice(cache, object, _RET_IP_);
}

EXPORT_SYMBOL_GPL(__rcu_ptr_cache_alloc);
EXPORT_SYMBOL_GPL(rcu_ptr_cache_alloc_nolock);
EXPORT_SYMBOL_GPL(rcu_ptr_cache_free);
EXPORT_SYMBOL_GPL(rcu_ptr_cache_free_rcu);
EXPORT_SYMBOL_GPL(rcu_ptr_cache_prefill);
EXPORT_SYMBOL_GPL(rcu_ptr_cache_barrier);
EXPORT_SYMBOL_GPL(rcu_ptr_cache_size);
EXPORT_SYMBOL_GPL(__rcu_ptr_cache_zero);
EXPORT_SYMBOL_GPL(rcu_ptr_cache_set_limits);
EXPORT_SYMBOL_GPL(rcu_ptr_cache_get_limits);
EXPORT_SYMBOL_GPL(rcu_ptr_cache_get_stats);

#ifdef RCU_PTR_TEST
EXPORT_SYMBOL_NS_GPL(rcu_ptr_word, "RCU_PTR_TEST");
EXPORT_SYMBOL_NS_GPL(rcu_ptr_fail_alloc, "RCU_PTR_TEST");
EXPORT_SYMBOL_NS_GPL(rcu_ptr_fail_blocks, "RCU_PTR_TEST");
#endif

/* Parameters.  rust/rcu_ptr/params.rs checks and stores the values. */
enum rcu_ptr_param {
	RCU_PTR_PARAM_ENGINE,
	RCU_PTR_PARAM_MIN_CACHED_OBJS,
	RCU_PTR_PARAM_FILL_DELAY,
	RCU_PTR_PARAM_DRAIN_INTERVAL,
};

static int rcu_ptr_param_set(const char *val, const struct kernel_param *kp)
{
	return rcu_ptr_rs_param_set((long)kp->arg, val);
}

static int rcu_ptr_param_get(char *buf, const struct kernel_param *kp)
{
	return rcu_ptr_rs_param_get((long)kp->arg, buf, PAGE_SIZE);
}

static const struct kernel_param_ops rcu_ptr_param_ops = {
	.set = rcu_ptr_param_set,
	.get = rcu_ptr_param_get,
};

#define RCU_PTR_PARAM(name, number, mode, text)				\
	module_param_cb(name, &rcu_ptr_param_ops, (void *)(number), mode); \
	MODULE_PARM_DESC(name, text)

RCU_PTR_PARAM(engine, RCU_PTR_PARAM_ENGINE, 0444,
	      "how objects are batched: lockless (default) or rfc");
RCU_PTR_PARAM(rcu_min_cached_objs, RCU_PTR_PARAM_MIN_CACHED_OBJS, 0644,
	      "unused blocks to keep per CPU, 0..64; 0: link objects instead (default 5)");
RCU_PTR_PARAM(rcu_delay_page_cache_fill_msec, RCU_PTR_PARAM_FILL_DELAY, 0644,
	      "delay of a refill after memory pressure, 0..100000 ms (default 5000)");
RCU_PTR_PARAM(drain_interval_msec, RCU_PTR_PARAM_DRAIN_INTERVAL, 0644,
	      "objects are collected this long before a grace period, 1..600000 ms (default 5000)");
