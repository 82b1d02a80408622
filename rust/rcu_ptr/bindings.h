/* SPDX-License-Identifier: GPL-2.0 */
/* What bindgen reads for rcu_ptr.ko: kernel items and the shims of shim.c. */
#include <linux/hrtimer_types.h>
#include <linux/vmalloc.h>
#include <linux/rcu_ptr.h>
#include <linux/rcu_ptr_test.h>
#include <trace/events/rcu_ptr.h>
#include "shim.h"

/* Macros that bindgen can't evaluate by itself. */
#include <linux/slab.h>

enum rcu_ptr_shim_constants {
	RCU_PTR_SHIM_KMALLOC_MAX_CACHE_SIZE = KMALLOC_MAX_CACHE_SIZE,
	RCU_PTR_SHIM_SLAB_NO_MERGE = (__force int)SLAB_NO_MERGE,
	/* A charge or a panic would be for one allocation of many. */
	RCU_PTR_SHIM_REFUSED_SLAB_FLAGS = (__force int)(SLAB_ACCOUNT | SLAB_PANIC),
	/* Objects that kmalloc_nolock() has no substitute for. */
	RCU_PTR_SHIM_OWN_MEMORY_FLAGS = (__force int)(SLAB_TYPESAFE_BY_RCU |
		SLAB_CACHE_DMA | SLAB_CACHE_DMA32),
	RCU_PTR_SHIM_SLAB_TYPESAFE_BY_RCU = (__force int)SLAB_TYPESAFE_BY_RCU,
	RCU_PTR_SHIM_SLAB_DEBUG_FLAGS = (__force int)(SLAB_RED_ZONE | SLAB_POISON |
		SLAB_STORE_USER | SLAB_TRACE | SLAB_CONSISTENCY_CHECKS),
	/* What later owners of an object would inherit, and zeroes. */
	RCU_PTR_SHIM_GFP_OF_CALLER = (__force int)(__GFP_ACCOUNT | GFP_ZONEMASK |
		__GFP_RECLAIMABLE | __GFP_THISNODE | __GFP_ZERO),
	/* How hard a caller tries. */
	RCU_PTR_SHIM_GFP_HARD = (__force int)(__GFP_HIGH | __GFP_MEMALLOC |
		__GFP_NOFAIL | __GFP_RETRY_MAYFAIL),
	RCU_PTR_SHIM_GFP_TRY = (__force int)(__GFP_NORETRY | __GFP_NOMEMALLOC |
		__GFP_NOWARN),
	RCU_PTR_SHIM_GFP_NOFAIL = (__force int)__GFP_NOFAIL,
	RCU_PTR_SHIM_GFP_MAY_BLOCK = (__force int)__GFP_DIRECT_RECLAIM,
};
