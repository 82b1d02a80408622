// SPDX-License-Identifier: GPL-2.0
/* Allocators, pages and nodes; flags that are macros. */
#include <linux/gfp.h>
#include <linux/kasan-enabled.h>
#include <linux/kfence.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/topology.h>
#include <linux/vmalloc.h>

enum rcu_ptr_shim_constants {
	RCU_PTR_SHIM_KMALLOC_MAX_CACHE_SIZE = KMALLOC_MAX_CACHE_SIZE,
	RCU_PTR_SHIM_SLAB_NO_MERGE = (__force int)SLAB_NO_MERGE,
	/* Recycled objects are not charged; a failure returns an error. */
	RCU_PTR_SHIM_INVALID_SLAB_FLAGS = (__force int)(SLAB_ACCOUNT | SLAB_PANIC),
	/* Objects that kmalloc_nolock() cannot provide. */
	RCU_PTR_SHIM_OWN_MEMORY_FLAGS = (__force int)(SLAB_TYPESAFE_BY_RCU |
		SLAB_CACHE_DMA | SLAB_CACHE_DMA32 | SLAB_HWCACHE_ALIGN),
	RCU_PTR_SHIM_SLAB_TYPESAFE_BY_RCU = (__force int)SLAB_TYPESAFE_BY_RCU,
	RCU_PTR_SHIM_SLAB_DEBUG_FLAGS = (__force int)(SLAB_RED_ZONE | SLAB_POISON |
		SLAB_STORE_USER | SLAB_TRACE | SLAB_CONSISTENCY_CHECKS),
	/* For one owner of an object, not for those after it; and zeroing. */
	RCU_PTR_SHIM_GFP_OF_CALLER = (__force int)(__GFP_ACCOUNT | GFP_ZONEMASK |
		__GFP_RECLAIMABLE | __GFP_THISNODE | __GFP_ZERO),
	/* Effort that only the caller's own object is worth. */
	RCU_PTR_SHIM_GFP_HARD = (__force int)(__GFP_HIGH | __GFP_MEMALLOC |
		__GFP_NOFAIL | __GFP_RETRY_MAYFAIL),
	RCU_PTR_SHIM_GFP_TRY = (__force int)(__GFP_NORETRY | __GFP_NOMEMALLOC |
		__GFP_NOWARN),
	RCU_PTR_SHIM_GFP_NOFAIL = (__force int)__GFP_NOFAIL,
	RCU_PTR_SHIM_GFP_MAY_BLOCK = (__force int)__GFP_DIRECT_RECLAIM,
};

void *rcu_ptr_shim_kmalloc(size_t size, gfp_t gfp)
{
	return kmalloc(size, gfp);
}

void *rcu_ptr_shim_kmalloc_nolock(size_t size)
{
	return kmalloc_nolock(size, 0, NUMA_NO_NODE);
}

void rcu_ptr_shim_might_alloc(gfp_t gfp)
{
	might_alloc(gfp);
}

bool rcu_ptr_shim_is_kfence(const void *object)
{
	return is_kfence_address(object);
}

/* Hooks of this kernel at allocation and free. */
enum rcu_ptr_checks {
	RCU_PTR_CHECKS_OBJECTS = 1,
	RCU_PTR_CHECKS_INIT_ON_ALLOC = 2,
	RCU_PTR_CHECKS_INIT_ON_FREE = 4,
};

unsigned int rcu_ptr_shim_checks(void)
{
	bool objects = kasan_enabled() || IS_ENABLED(CONFIG_KMSAN) ||
		       IS_ENABLED(CONFIG_KCSAN) ||
		       IS_ENABLED(CONFIG_DEBUG_OBJECTS_FREE) ||
		       IS_ENABLED(CONFIG_SLUB_DEBUG_ON);

	return (objects ? RCU_PTR_CHECKS_OBJECTS : 0) |
	       (want_init_on_alloc(0) ? RCU_PTR_CHECKS_INIT_ON_ALLOC : 0) |
	       (want_init_on_free() ? RCU_PTR_CHECKS_INIT_ON_FREE : 0);
}

int rcu_ptr_shim_nr_node_ids(void)
{
	return nr_node_ids;
}

int rcu_ptr_shim_node_of(const void *object)
{
	return page_to_nid(virt_to_page(object));
}

int rcu_ptr_shim_node_of_cpu(int cpu)
{
	return cpu_to_mem(cpu);
}

void *rcu_ptr_shim_alloc_page(gfp_t gfp)
{
	return (void *)__get_free_page(gfp);
}

void *rcu_ptr_shim_alloc_page_nolock(void)
{
	struct page *page = alloc_pages_nolock(0, NUMA_NO_NODE, 0);

	return page ? page_address(page) : NULL;
}

unsigned long rcu_ptr_shim_vmalloc_start(void)
{
	return VMALLOC_START;
}

unsigned long rcu_ptr_shim_vmalloc_end(void)
{
	return VMALLOC_END;
}
