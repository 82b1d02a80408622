// SPDX-License-Identifier: GPL-2.0
/*
 * A user of the kernel's own kfree_rcu() that knows nothing of rcu_ptr: for tests
 * of rcu_ptr_takeover.ko, and for comparisons.
 *
 * Caches of its own come and go; before kmem_cache_destroy() it waits for nothing,
 * as the kernel's interface allows.  An object that was missed there is reported by
 * the slab.
 *
 * insmod rcu_ptr_kernel_client.ko rounds=20 objects=1000
 */
#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <linux/vmalloc.h>

static unsigned int rounds = 20;
module_param(rounds, uint, 0444);
MODULE_PARM_DESC(rounds, "how many caches come and go");

static unsigned int objects = 1000;
module_param(objects, uint, 0444);
MODULE_PARM_DESC(objects, "how many objects of each are freed");

static bool twice;
module_param(twice, bool, 0444);
MODULE_PARM_DESC(twice, "free an object twice, which is a bug");

struct entry {
	u64 key;
	union {
		struct rcu_head rcu;
		struct kvfree_rcu_head kvrcu;
	};
	char text[64];
};

static DEFINE_RAW_SPINLOCK(lock);

/* In each of the contexts that the interface allows. */
static noinline void free_one(struct entry *e, unsigned int i)
{
	unsigned long flags;

	switch (i % 6) {
	case 0:
		kfree_rcu(e, rcu);
		break;
	case 1:
		raw_spin_lock_irqsave(&lock, flags);
		kfree_rcu(e, rcu);
		raw_spin_unlock_irqrestore(&lock, flags);
		break;
	case 2:
		local_bh_disable();
		kfree_rcu(e, kvrcu);
		local_bh_enable();
		break;
	case 3:
		kfree_rcu_nolock(e, kvrcu);
		break;
	case 4:
		local_irq_save(flags);
		kfree_rcu_nolock(e, kvrcu);
		local_irq_restore(flags);
		break;
	default:
		kfree_rcu_mightsleep(e);
	}
}

static int one_cache(unsigned int round)
{
	/* With the slab's checks a cache has no sheaves. */
	slab_flags_t flags = round % 2 ? SLAB_RED_ZONE : SLAB_NO_MERGE;
	struct kmem_cache *cache;
	struct entry *e;
	unsigned int i;

	cache = kmem_cache_create("rcu_ptr_kernel_client", sizeof(*e), 0,
				  flags, NULL);
	if (!cache)
		return -ENOMEM;
	for (i = 0; i < objects; i++) {
		e = kmem_cache_alloc(cache, GFP_KERNEL);
		if (!e)
			break;
		free_one(e, i);
	}
	kmem_cache_destroy(cache);
	return i < objects ? -ENOMEM : 0;
}

/*
 * kfree_call_rcu_nolock() itself, behind the entry that ftrace rewrites: some calls
 * reach it past any redirection, as ftrace skips handlers that would recurse.
 */
#if defined(CONFIG_X86_64) && defined(CONFIG_DYNAMIC_FTRACE)
void rcu_ptr_kernel_client_behind(struct kvfree_rcu_head *head, void *ptr);
#ifdef CONFIG_X86_KERNEL_IBT
#define BEHIND	"9"
#else
#define BEHIND	"5"
#endif
asm(".pushsection .text, \"ax\"\n\t"
	".type rcu_ptr_kernel_client_behind, @function\n"
	"rcu_ptr_kernel_client_behind:\n\t"
	"jmp kfree_call_rcu_nolock + " BEHIND "\n\t"
	".size rcu_ptr_kernel_client_behind, . - rcu_ptr_kernel_client_behind\n\t"
	".popsection");
#else
#define rcu_ptr_kernel_client_behind kfree_call_rcu_nolock
#endif

/* An object that is freed on another CPU, whose interrupts stay off for a while. */
struct late {
	struct entry *entry;
	bool freed;
};

static void free_late(void *arg)
{
	struct late *late = arg;

	rcu_ptr_kernel_client_behind(&late->entry->kvrcu, late->entry);
	/* Pairs with the wait in one_deferred(). */
	smp_store_release(&late->freed, true);
	mdelay(20);
}

static void nothing(void *arg)
{
}

/*
 * The object lies on that CPU's list of deferred ones when its cache is destroyed:
 * kmem_cache_destroy() hands it to kvfree_call_rcu() itself.
 */
static int one_deferred(void)
{
	struct late late = {};
	struct kmem_cache *cache;
	bool is_other;
	int cpu;

	cache = kmem_cache_create("rcu_ptr_kernel_client", sizeof(*late.entry),
				  0, SLAB_RED_ZONE, NULL);
	if (!cache)
		return -ENOMEM;
	late.entry = kmem_cache_alloc(cache, GFP_KERNEL);
	if (!late.entry) {
		kmem_cache_destroy(cache);
		return -ENOMEM;
	}
	cpu = cpumask_any_but(cpu_online_mask, get_cpu());
	is_other = cpu < nr_cpu_ids;
	if (is_other)
		smp_call_function_single(cpu, free_late, &late, false);
	else
		kfree_rcu_nolock(late.entry, kvrcu);
	put_cpu();
	/* Pairs with free_late(). */
	while (is_other && !smp_load_acquire(&late.freed))
		cpu_relax();
	kmem_cache_destroy(cache);
	/* Its frame goes. */
	if (is_other)
		smp_call_function_single(cpu, nothing, NULL, true);
	return 0;
}

static int large_ones(void)
{
	unsigned int i;

	for (i = 0; i < objects / 10 + 1; i++) {
		size_t size = i % 3 == 0 ? 3 * PAGE_SIZE :
			      i % 3 == 1 ? 64 * 1024 : 20000;
		struct entry *e = i % 3 == 0 ? vmalloc(size) :
						kvmalloc(size, GFP_KERNEL);

		if (!e)
			return -ENOMEM;
		if (i % 4)
			kvfree_rcu(e, rcu);
		else
			kvfree_rcu_mightsleep(e);
	}
	return 0;
}

/* They differ in what they write, or compilers make one function of the two. */
static noinline void free_at_first(struct entry *e)
{
	WRITE_ONCE(e->key, 1);
	kfree_rcu(e, kvrcu);
	/* No tail call, or the caller's caller would be seen. */
	barrier();
}

static noinline void free_again(struct entry *e)
{
	WRITE_ONCE(e->key, 2);
	kfree_rcu(e, kvrcu);
	barrier();
}

/* With nothing freed in between on this CPU, engine rfc sees it. */
static int free_twice(void)
{
	struct entry *e = kmalloc(sizeof(*e), GFP_KERNEL);
	unsigned long flags;

	if (!e)
		return -ENOMEM;
	local_irq_save(flags);
	free_at_first(e);
	free_again(e);
	local_irq_restore(flags);
	return 0;
}

static int __init client_init(void)
{
	unsigned int round;
	int err = large_ones();

	if (!err && twice)
		err = free_twice();

	for (round = 0; !err && round < rounds; round++) {
		err = one_cache(round);
		if (!err)
			err = one_deferred();
	}
	pr_info("rcu_ptr_kernel_client: %u caches of %u objects came and went\n",
		round, objects);
	return err;
}
module_init(client_init);

static void __exit client_exit(void)
{
}
module_exit(client_exit);

MODULE_DESCRIPTION("A user of the kernel's own kfree_rcu()");
MODULE_LICENSE("GPL");
