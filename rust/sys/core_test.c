// SPDX-License-Identifier: GPL-2.0
/*
 * What a C client writes: objects with each type of field that the macros of
 * rcu_ptr.h accept, at the first, second and last place where it may be.
 */
#include <linux/bug.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/types.h>
#include <linux/rcu_ptr.h>
#include <linux/rcu_ptr_test.h>

#define TYPES(name, type, last)						\
	struct name##_0 { type f; char rest[16]; };			\
	struct name##_8 { long key; type f; char rest[16]; };		\
	struct name##_##last { char before[last]; type f; char rest[16]; }

TYPES(ptr, struct rcu_ptr, 4088);
TYPES(head, struct rcu_head, 4080);
TYPES(kvhead, struct kvfree_rcu_head, 4088);

#define EACH_FIELD(m)							\
	m(PTR_0, ptr_0)							\
	m(PTR_8, ptr_8)							\
	m(PTR_4088, ptr_4088)						\
	m(HEAD_0, head_0)						\
	m(HEAD_8, head_8)						\
	m(HEAD_4080, head_4080)						\
	m(KVHEAD_0, kvhead_0)						\
	m(KVHEAD_8, kvhead_8)						\
	m(KVHEAD_4088, kvhead_4088)

enum rcu_ptr_shim_field {
#define NUMBER(number, name)	RCU_PTR_SHIM_FIELD_##number,
	EACH_FIELD(NUMBER)
	RCU_PTR_SHIM_FIELDS
};

size_t rcu_ptr_shim_field_size(int field)
{
	switch (field) {
#define SIZE(number, name)						\
	case RCU_PTR_SHIM_FIELD_##number: return sizeof(struct name);
	EACH_FIELD(SIZE)
	}
	return 0;
}

void rcu_ptr_shim_field_free(int field, bool nolock, void *object)
{
	switch (field) {
#define FREE(number, name)						\
	case RCU_PTR_SHIM_FIELD_##number:				\
		if (nolock)						\
			rcu_ptr_kfree_nolock((struct name *)object, f);	\
		else							\
			rcu_ptr_kvfree((struct name *)object, f);	\
		break;
	EACH_FIELD(FREE)
	}
}

void rcu_ptr_shim_free_null(void)
{
	struct ptr_0 *nothing = NULL;

	rcu_ptr_kvfree(nothing, f);
	rcu_ptr_kfree_nolock(nothing, f);
	rcu_ptr_kvfree_mightsleep(nothing);
}

/* With preemption enabled: the next preempt_enable() reschedules. */
void rcu_ptr_shim_set_need_resched(void)
{
	set_tsk_need_resched(current);
	set_preempt_need_resched();
}

void rcu_ptr_shim_head_on_stack(struct rcu_head *head)
{
	init_rcu_head_on_stack(head);
}

void rcu_ptr_shim_head_off_stack(struct rcu_head *head)
{
	destroy_rcu_head_on_stack(head);
}
