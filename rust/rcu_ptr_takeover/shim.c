// SPDX-License-Identifier: GPL-2.0
/*
 * C shims of rcu_ptr_takeover.ko: what ftrace calls, per-CPU counters, and the
 * kernel's functions by another way than their names.
 *
 * Two ways lead from a function of the kernel to the stub that takes its place:
 *
 * - a jump, written over the nop at its entry (register_ftrace_direct()).  The
 *   original goes on behind that nop.  Exported functions keep their ENDBR.
 * - an ftrace handler that changes the instruction pointer (IPMODIFY).  The
 *   original is called by its name: a handler lets calls from here through.
 *   Such calls must not be tail calls, or they would seem to come from elsewhere.
 */
#include <linux/ftrace.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <linux/rcu_ptr.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "../sys/rs.h"

/* Results of a call, and other events, counted per CPU: redirect.rs. */
enum rcu_ptr_takeover_count {
	RCU_PTR_TAKEOVER_KVFREE,
	RCU_PTR_TAKEOVER_KVFREE_NMI,
	RCU_PTR_TAKEOVER_NOLOCK,
	RCU_PTR_TAKEOVER_NOLOCK_NMI,
	RCU_PTR_TAKEOVER_HEADLESS,
	RCU_PTR_TAKEOVER_HEADLESS_SLEPT,
	RCU_PTR_TAKEOVER_DESTROYED,
	RCU_PTR_TAKEOVER_MODULES_GONE,
	/* The engine does not have the object. */
	RCU_PTR_TAKEOVER_WHILE_DESTROYING,
	RCU_PTR_TAKEOVER_NOT_WATCHING,
	RCU_PTR_TAKEOVER_NO_ROOM,
	RCU_PTR_TAKEOVER_COUNTS,
};

/* Functions of the kernel that are redirected. */
enum rcu_ptr_takeover_function {
	RCU_PTR_TAKEOVER_FN_DESTROY,
	RCU_PTR_TAKEOVER_FN_KVFREE,
	RCU_PTR_TAKEOVER_FN_NOLOCK,
	RCU_PTR_TAKEOVER_FUNCTIONS,
};

struct rcu_ptr_takeover_counts {
	u64 of[RCU_PTR_TAKEOVER_COUNTS];
};

static DEFINE_PER_CPU(struct rcu_ptr_takeover_counts, rcu_ptr_takeover_counts);

u64 rcu_ptr_takeover_shim_sum(unsigned int count)
{
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(per_cpu(rcu_ptr_takeover_counts.of[count], cpu));
	return sum;
}

void rcu_ptr_takeover_shim_count(unsigned int count)
{
	this_cpu_inc(rcu_ptr_takeover_counts.of[count]);
}

static bool rcu_ptr_takeover_jump = true;
module_param_named(jump, rcu_ptr_takeover_jump, bool, 0444);
MODULE_PARM_DESC(jump, "redirect by a jump where the kernel can, not by an ftrace handler (default: y)");

/* The originals. */

#if defined(CONFIG_X86_64) && defined(CONFIG_DYNAMIC_FTRACE_WITH_JMP) && \
	defined(CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS)
#define RCU_PTR_TAKEOVER_JUMP	1

#ifdef CONFIG_X86_KERNEL_IBT
#define RCU_PTR_TAKEOVER_ENDBR	4
#define RCU_PTR_TAKEOVER_BODY	"9"
#else
#define RCU_PTR_TAKEOVER_ENDBR	0
#define RCU_PTR_TAKEOVER_BODY	"5"
#endif

/* An indirect jump would need a landing pad there. */
#define RCU_PTR_TAKEOVER_BEHIND(name, function)			\
	asm(".pushsection .text, \"ax\"\n"				\
	    ".balign 16\n"						\
	    ".type " #name ", @function\n"				\
	    #name ":\n"							\
	    "	jmp " #function " + " RCU_PTR_TAKEOVER_BODY "\n"	\
	    ".size " #name ", . - " #name "\n"				\
	    ".popsection")

RCU_PTR_TAKEOVER_BEHIND(rcu_ptr_takeover_kvfree_behind, kvfree_call_rcu);
RCU_PTR_TAKEOVER_BEHIND(rcu_ptr_takeover_nolock_behind, kfree_call_rcu_nolock);

/* A nop of five bytes, or what ftrace has put in its place. */
static bool rcu_ptr_takeover_has_site(void *function)
{
	u8 first = *((u8 *)function + RCU_PTR_TAKEOVER_ENDBR);

	return first == 0x0f || first == 0xe8 || first == 0xe9;
}

bool rcu_ptr_takeover_shim_can_jump(void)
{
	return rcu_ptr_takeover_jump &&
	       rcu_ptr_takeover_has_site(kvfree_call_rcu) &&
	       rcu_ptr_takeover_has_site(kfree_call_rcu_nolock);
}
#else
bool rcu_ptr_takeover_shim_can_jump(void)
{
	return false;
}
#endif

#if defined(CONFIG_DYNAMIC_FTRACE_WITH_ARGS) && defined(CONFIG_KVFREE_RCU_BATCHED) && \
	!defined(CONFIG_LTO)

static bool rcu_ptr_takeover_jumps;

notrace void rcu_ptr_takeover_shim_original(struct kvfree_rcu_head *head,
					    void *ptr, bool nolock)
{
#ifdef RCU_PTR_TAKEOVER_JUMP
	if (rcu_ptr_takeover_jumps) {
		if (nolock)
			rcu_ptr_takeover_nolock_behind(head, ptr);
		else
			rcu_ptr_takeover_kvfree_behind(head, ptr);
		return;
	}
#endif
	if (nolock)
		kfree_call_rcu_nolock(head, ptr);
	else
		kvfree_call_rcu(head, ptr);
	barrier();
}

/* The replacements, which decide with preemption disabled. */

static __always_inline void rcu_ptr_takeover_call(struct kvfree_rcu_head *head,
						  void *ptr, bool nolock,
						  unsigned long caller)
{
	int how;

	preempt_disable_notrace();
	how = rcu_ptr_takeover_rs_call(head, ptr, caller, nolock, in_nmi());
	preempt_enable_notrace();
	this_cpu_inc(rcu_ptr_takeover_counts.of[how]);
	if (how >= RCU_PTR_TAKEOVER_WHILE_DESTROYING)
		rcu_ptr_takeover_rs_rest(head, ptr, caller, nolock);
}

static notrace void rcu_ptr_takeover_kvfree(struct kvfree_rcu_head *head,
					    void *ptr)
{
	rcu_ptr_takeover_call(head, ptr, false, _RET_IP_);
}

static notrace void rcu_ptr_takeover_nolock(struct kvfree_rcu_head *head,
					    void *ptr)
{
	rcu_ptr_takeover_call(head, ptr, true, _RET_IP_);
}

static notrace void rcu_ptr_takeover_destroy(struct kmem_cache *cache)
{
	rcu_ptr_takeover_rs_destroy(cache);
}

static void *const rcu_ptr_takeover_originals[] = {
	[RCU_PTR_TAKEOVER_FN_DESTROY] = kmem_cache_destroy,
	[RCU_PTR_TAKEOVER_FN_KVFREE] = kvfree_call_rcu,
	[RCU_PTR_TAKEOVER_FN_NOLOCK] = kfree_call_rcu_nolock,
};

static void *const rcu_ptr_takeover_stubs[] = {
	[RCU_PTR_TAKEOVER_FN_DESTROY] = rcu_ptr_takeover_destroy,
	[RCU_PTR_TAKEOVER_FN_KVFREE] = rcu_ptr_takeover_kvfree,
	[RCU_PTR_TAKEOVER_FN_NOLOCK] = rcu_ptr_takeover_nolock,
};

/* Calls nothing that is traced, so it needs no guard against recursion. */
static notrace void rcu_ptr_takeover_handler(unsigned long ip,
					     unsigned long parent_ip,
					     struct ftrace_ops *ops,
					     struct ftrace_regs *fregs)
{
	if (!within_module(parent_ip, THIS_MODULE) && !__rcu_ptr_within(parent_ip))
		ftrace_regs_set_instruction_pointer(fregs,
						    (unsigned long)ops->private);
}

static struct ftrace_ops rcu_ptr_takeover_ops[RCU_PTR_TAKEOVER_FUNCTIONS];

int rcu_ptr_takeover_shim_register(unsigned int function, bool jump)
{
	struct ftrace_ops *ops = &rcu_ptr_takeover_ops[function];
	unsigned long stub = (unsigned long)rcu_ptr_takeover_stubs[function];
	unsigned long original =
		(unsigned long)rcu_ptr_takeover_originals[function];
	int err;

	memset(ops, 0, sizeof(*ops));
	err = ftrace_set_filter_ip(ops, original, 0, 0);
	if (err)
		return err;
	if (function != RCU_PTR_TAKEOVER_FN_DESTROY)
		rcu_ptr_takeover_jumps = jump;
	if (jump && function != RCU_PTR_TAKEOVER_FN_DESTROY) {
		err = register_ftrace_direct(ops, ftrace_jmp_set(stub));
	} else {
		ops->func = rcu_ptr_takeover_handler;
		ops->flags |= FTRACE_OPS_FL_IPMODIFY;
		ops->private = (void *)stub;
		err = register_ftrace_function(ops);
	}
	if (err)
		ftrace_free_filter(ops);
	return err;
}

int rcu_ptr_takeover_shim_unregister(unsigned int function)
{
	struct ftrace_ops *ops = &rcu_ptr_takeover_ops[function];
	unsigned long stub = (unsigned long)rcu_ptr_takeover_stubs[function];
	int err;

	if (ops->func == rcu_ptr_takeover_handler)
		err = unregister_ftrace_function(ops);
	else
		err = unregister_ftrace_direct(ops, ftrace_jmp_set(stub), false);
	if (!err)
		ftrace_free_filter(ops);
	return err;
}

#else

int rcu_ptr_takeover_shim_register(unsigned int function, bool jump)
{
	return -EOPNOTSUPP;
}

int rcu_ptr_takeover_shim_unregister(unsigned int function)
{
	return -EOPNOTSUPP;
}

void rcu_ptr_takeover_shim_original(struct kvfree_rcu_head *head, void *ptr,
				    bool nolock)
{
}

#endif

void rcu_ptr_takeover_shim_destroy(struct kmem_cache *cache)
{
	kmem_cache_destroy(cache);
	barrier();
}

/* The only exported way to wait for the irq_works of the slab on all CPUs. */
int rcu_ptr_takeover_shim_drain_deferred(void)
{
	struct kmem_cache *cache;

	cache = kmem_cache_create("rcu_ptr_takeover", sizeof(struct rcu_head),
				  0, SLAB_NO_MERGE, NULL);
	if (!cache)
		return -ENOMEM;
	rcu_ptr_takeover_shim_destroy(cache);
	return 0;
}

void rcu_ptr_takeover_shim_synchronize(void)
{
	synchronize_rcu();
#ifdef CONFIG_TASKS_RCU
	synchronize_rcu_tasks();
#endif
}

/* Before codetag_unload_module() checks for memory that is not freed. */
static int rcu_ptr_takeover_state(struct notifier_block *nb,
				  unsigned long state, void *data)
{
	if (state == MODULE_STATE_GOING)
		rcu_ptr_takeover_rs_module_gone();
	return NOTIFY_DONE;
}

static struct notifier_block rcu_ptr_takeover_notifier = {
	.notifier_call = rcu_ptr_takeover_state,
};

int rcu_ptr_takeover_shim_notify(void)
{
	return IS_ENABLED(CONFIG_MEM_ALLOC_PROFILING) ?
		       register_module_notifier(&rcu_ptr_takeover_notifier) :
		       0;
}

void rcu_ptr_takeover_shim_no_notify(void)
{
	if (IS_ENABLED(CONFIG_MEM_ALLOC_PROFILING))
		unregister_module_notifier(&rcu_ptr_takeover_notifier);
}
