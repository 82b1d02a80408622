// SPDX-License-Identifier: GPL-2.0

//! There are two contexts for what comes after the grace period, and no others.

// error: E0277
// says: the trait bound `InNmi: sealed::Context` is not satisfied

#[path = "../mod.rs"]
pub mod rcu_ptr;

use kernel::alloc::allocator::Kmalloc;
use rcu_ptr::RcuBox;

struct InNmi;

fn free(_object: &RcuBox<u64, Kmalloc, InNmi>) {}
