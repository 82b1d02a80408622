// SPDX-License-Identifier: GPL-2.0
/* Memory of tests, beside mem.c. */
#include <linux/kasan.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include <linux/vmstat.h>

/* Freed, and possibly in the quarantine of KASAN. */
__no_sanitize_address bool rcu_ptr_shim_is_poisoned(const void *addr)
{
#ifdef CONFIG_KASAN_GENERIC
	return *(s8 *)kasan_mem_to_shadow(addr) < 0;
#else
	return false;
#endif
}

unsigned long rcu_ptr_shim_pcp_pages(void)
{
	unsigned long pages = 0;
	int node, i, cpu;

	for_each_online_node(node)
		for (i = 0; i < MAX_NR_ZONES; i++) {
			struct zone *zone = &NODE_DATA(node)->node_zones[i];

			if (!populated_zone(zone))
				continue;
			for_each_online_cpu(cpu)
				pages += READ_ONCE(per_cpu_ptr(zone->per_cpu_pageset,
							       cpu)->count);
		}
	return pages;
}

unsigned long rcu_ptr_shim_slab_pages(void)
{
	return global_node_page_state_pages(NR_SLAB_UNRECLAIMABLE_B);
}
