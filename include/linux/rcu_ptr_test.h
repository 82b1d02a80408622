/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Hooks of rcu_ptr.ko for tests and debuggers.  They are exported in a namespace
 * of their own: MODULE_IMPORT_NS("RCU_PTR_TEST").  A core that was built with
 * RCU_PTR_TEST=n has none.
 */
#ifndef _LINUX_RCU_PTR_TEST_H
#define _LINUX_RCU_PTR_TEST_H

/**
 * rcu_ptr_word() - address of a word of the engine's state
 * @cpu: a possible CPU
 * @index: 0, 1, ...
 *
 * For watchpoints.  With engine rfc: the lock (4 bytes), the head of the list,
 * the head of the deferred list.  With engine lockless: the word that slots are
 * reserved with, the head of the closed blocks, the head of the list.
 *
 * Context: any but NMI.
 *
 * Return: the address of a word of @cpu that is written when objects are
 * queued; 0 if there are not that many words
 */
unsigned long rcu_ptr_word(int cpu, unsigned int index);

/**
 * rcu_ptr_fail_alloc() - make allocations of caches fail
 * @nth: the first to fail, counted from 1; 0: none
 * @times: how many fail, that one included
 *
 * Counts allocations of sheaves, of objects and of caches themselves, for all
 * caches and in any context.
 *
 * Context: any.
 *
 * Return: the number of allocations that remained until the first failure of the
 * previous call; 0 if it has happened
 */
unsigned long rcu_ptr_fail_alloc(unsigned long nth, unsigned long times);

/**
 * rcu_ptr_fail_blocks() - make allocations of blocks fail
 * @nth: the first to fail, counted from 1; 0: none
 * @times: how many fail, that one included
 *
 * As rcu_ptr_fail_alloc(), for the pages of the engine's blocks.
 *
 * Context: any.
 *
 * Return: as rcu_ptr_fail_alloc()
 */
unsigned long rcu_ptr_fail_blocks(unsigned long nth, unsigned long times);

#endif /* _LINUX_RCU_PTR_TEST_H */
