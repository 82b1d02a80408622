// SPDX-License-Identifier: GPL-2.0
/*
 * A C client of rcu_ptr.ko with a cache, to copy from: a slot whose entry readers
 * find under RCU while a writer replaces it.  Also callbacks, and objects that are
 * freed in any context without a field in them.
 *
 * insmod rcu_ptr_client_cache.ko objects=1000
 */
#include <linux/atomic.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/sprintf.h>
#include <linux/rcu_ptr.h>

static unsigned int objects = 1000;
module_param(objects, uint, 0444);
MODULE_PARM_DESC(objects, "how many entries to allocate and free");

/* No field for RCU: the cache needs none. */
struct entry {
	unsigned int key;
	char *name;
};

static struct rcu_ptr_cache *cache;
static struct entry __rcu *current_entry;
static atomic_t destructed = ATOMIC_INIT(0);

/* After the grace period: no reader has the entry. */
static void entry_dtor(void *object)
{
	struct entry *e = object;

	kfree(e->name);
	atomic_inc(&destructed);
}

/* In NMI: rcu_ptr_cache_alloc_nolock(). */
static int replace_entry(unsigned int key)
{
	struct entry *e = rcu_ptr_cache_alloc(cache, GFP_KERNEL);

	if (!e)
		return -ENOMEM;
	e->key = key;
	e->name = kasprintf(GFP_KERNEL, "entry %u", key);
	e = unrcu_pointer(xchg(&current_entry, RCU_INITIALIZER(e)));
	rcu_ptr_cache_free_rcu(cache, e);
	return 0;
}

static unsigned int current_key(void)
{
	struct entry *e;
	unsigned int key;

	rcu_read_lock();
	e = rcu_dereference(current_entry);
	key = e ? e->key : 0;
	rcu_read_unlock();
	return key;
}

/* An object that a callback releases, as with call_rcu(). */
struct request {
	struct rcu_head rcu;
	int id;
};

static void request_release(struct rcu_head *head)
{
	kfree(container_of(head, struct request, rcu));
}

static int free_others(void)
{
	struct request *request = kzalloc_obj(*request);
	char *text = kmalloc(64, GFP_KERNEL);

	if (!request || !text) {
		kfree(request);
		kfree(text);
		return -ENOMEM;
	}
	rcu_ptr_call(&request->rcu, request_release);
	/*
	 * It fails when there is no room. This context may sleep instead; one
	 * that may not has to keep the object for later.
	 */
	if (!rcu_ptr_try_kfree_nolock(text))
		rcu_ptr_kvfree_mightsleep(text);
	return 0;
}

static void destroy_cache(void)
{
	struct entry *e = unrcu_pointer(xchg(&current_entry, NULL));

	rcu_ptr_cache_free_rcu(cache, e);
	/* Waits for the grace period, and calls the destructors. */
	rcu_ptr_cache_destroy(cache);
}

static int __init client_init(void)
{
	const struct rcu_ptr_cache_args args = { .dtor = entry_dtor };
	struct rcu_ptr_cache_limits limits = { .wait_limit = 1 << 20 };
	unsigned int i;
	int err;

	cache = rcu_ptr_cache_create("rcu_ptr_client", sizeof(struct entry),
				     &args, 0);
	if (IS_ERR(cache))
		return PTR_ERR(cache);
	/* Objects for allocations that can't wait for memory. */
	err = rcu_ptr_cache_prefill(cache, 100, GFP_KERNEL);
	if (!err)
		err = rcu_ptr_cache_set_limits(cache, &limits);
	for (i = 0; i < objects && !err; i++)
		err = replace_entry(i);
	if (!err)
		err = free_others();
	if (err) {
		destroy_cache();
		return err;
	}
	pr_info("rcu_ptr_client_cache: the last entry is %u of %u\n",
		current_key(), objects);
	return 0;
}

static void __exit client_exit(void)
{
	destroy_cache();
	/* request_release() needs no barrier: unloading waits for it. */
	pr_info("rcu_ptr_client_cache: %d entries destructed\n",
		atomic_read(&destructed));
}

module_init(client_init);
module_exit(client_exit);
MODULE_AUTHOR("The rcu_ptr authors");
MODULE_DESCRIPTION("Example of a C client of rcu_ptr's caches");
MODULE_LICENSE("GPL");
