// SPDX-License-Identifier: GPL-2.0
/*
 * A small C client of rcu_ptr.ko, to copy from: allocates objects of several
 * kinds and frees each after a grace period.
 *
 * insmod rcu_ptr_client_c.ko objects=1000
 */
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include <linux/rcu_ptr.h>

static unsigned int objects = 1000;
module_param(objects, uint, 0444);
MODULE_PARM_DESC(objects, "how many objects to allocate and free");

/* 8 bytes instead of the 16 of a struct rcu_head. */
struct entry {
	int key;
	struct rcu_ptr rcu;
};

/* An object that mixes call_rcu() and this may keep its rcu_head. */
struct old_entry {
	struct rcu_head rcu;
	char text[100];
};

static struct kmem_cache *cache;

/* Not in the init section: traces name the caller while the module is loaded. */
static noinline int free_one(unsigned int i)
{
	struct old_entry *old;
	struct entry *e;
	char *plain;

	switch (i % 4) {
	case 0:
		e = kmalloc_obj(*e);
		if (!e)
			return -ENOMEM;
		rcu_ptr_kvfree(e, rcu);
		break;
	case 1:
		e = kmem_cache_alloc(cache, GFP_KERNEL);
		if (!e)
			return -ENOMEM;
		rcu_ptr_kvfree(e, rcu);
		break;
	case 2:
		old = vmalloc(sizeof(*old));
		if (!old)
			return -ENOMEM;
		rcu_ptr_kvfree(old, rcu);
		break;
	default:
		plain = kmalloc(64, GFP_KERNEL);
		if (!plain)
			return -ENOMEM;
		rcu_ptr_kvfree_mightsleep(plain);
		break;
	}
	return 0;
}

static int __init client_init(void)
{
	unsigned int i;
	int err = 0;

	cache = KMEM_CACHE(entry, 0);
	if (!cache)
		return -ENOMEM;
	for (i = 0; i < objects && !err; i++)
		err = free_one(i);
	if (err) {
		rcu_ptr_barrier();
		kmem_cache_destroy(cache);
		return err;
	}
	pr_info("rcu_ptr_client_c: freed %u objects\n", objects);
	return 0;
}

static void __exit client_exit(void)
{
	/* The cache may go only when its last object is back. */
	rcu_ptr_barrier();
	kmem_cache_destroy(cache);
}

module_init(client_init);
module_exit(client_exit);
MODULE_AUTHOR("The rcu_ptr authors");
MODULE_DESCRIPTION("Example of a C client of rcu_ptr");
MODULE_LICENSE("GPL");
