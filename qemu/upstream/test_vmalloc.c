// SPDX-License-Identifier: GPL-2.0
/*
 * test_vmalloc.ko, from the source of the kernel that it is built for.  One
 * function is exported only to kernels that have this test themselves; the cases
 * that are run here (kvfree_rcu_*) do not call it.
 */
#include <linux/vmalloc.h>

#define __vmalloc_node_noprof(size, align, gfp, node, caller) \
	__vmalloc_noprof(size, gfp)

#include <../lib/test_vmalloc.c>
