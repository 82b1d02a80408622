// SPDX-License-Identifier: GPL-2.0

//! A closure that the object has no room for.

// error: E0080
// says: the object has no room for this closure

#[path = "../mod.rs"]
pub mod rcu_ptr;

use rcu_ptr::{RcuKBox, WithRoom};

fn large(object: RcuKBox<WithRoom<u64, 1>>) {
    let (a, b) = (object.wrapping_add(1), object.wrapping_add(2));
    object.call(move |object| *object.get_mut() = a ^ b);
}

#[used]
static LARGE: fn(RcuKBox<WithRoom<u64, 1>>) = large;
