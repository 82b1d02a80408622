// SPDX-License-Identifier: GPL-2.0
/* SRCU domains, and their readers. */
#include <linux/rcupdate_trace.h>
#include <linux/slab.h>
#include <linux/srcu.h>

/* Kinds of domains, by their readers. */
enum rcu_ptr_srcu {
	RCU_PTR_SRCU_PLAIN,
	RCU_PTR_SRCU_FAST,
	RCU_PTR_SRCU_NMISAFE,
	RCU_PTR_SRCU_TASKS_TRACE,
};

struct srcu_struct *rcu_ptr_shim_srcu_new(int kind)
{
	struct srcu_struct *srcu;
	int err;

	if (kind == RCU_PTR_SRCU_TASKS_TRACE)
#ifdef CONFIG_TASKS_TRACE_RCU
		return &rcu_tasks_trace_srcu_struct;
#else
		return NULL;
#endif
	srcu = kzalloc(sizeof(*srcu), GFP_KERNEL);
	if (!srcu)
		return NULL;
	err = kind == RCU_PTR_SRCU_FAST ? init_srcu_struct_fast(srcu) :
					  init_srcu_struct(srcu);
	if (err) {
		kfree(srcu);
		return NULL;
	}
	return srcu;
}

void rcu_ptr_shim_srcu_free(int kind, struct srcu_struct *srcu)
{
	if (kind == RCU_PTR_SRCU_TASKS_TRACE)
		return;
	cleanup_srcu_struct(srcu);
	kfree(srcu);
}

unsigned long rcu_ptr_shim_srcu_lock(int kind, struct srcu_struct *srcu)
{
	switch (kind) {
	case RCU_PTR_SRCU_FAST:
		return (__force unsigned long)srcu_read_lock_fast(srcu);
	case RCU_PTR_SRCU_NMISAFE:
		return srcu_read_lock_nmisafe(srcu);
	case RCU_PTR_SRCU_TASKS_TRACE:
		rcu_read_lock_trace();
		return 0;
	default:
		return srcu_read_lock(srcu);
	}
}

void rcu_ptr_shim_srcu_unlock(int kind, struct srcu_struct *srcu,
			      unsigned long token)
{
	switch (kind) {
	case RCU_PTR_SRCU_FAST:
		srcu_read_unlock_fast(srcu, (__force struct srcu_ctr __percpu *)token);
		break;
	case RCU_PTR_SRCU_NMISAFE:
		srcu_read_unlock_nmisafe(srcu, token);
		break;
	case RCU_PTR_SRCU_TASKS_TRACE:
		rcu_read_unlock_trace();
		break;
	default:
		srcu_read_unlock(srcu, token);
	}
}
