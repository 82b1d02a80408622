// SPDX-License-Identifier: GPL-2.0

//! Closures that the object has no room for, or that may not run elsewhere; and their object, once it
//! has been given away.

// error: E0277
// error: E0382
// says: `*const u64` cannot be sent between threads safely
// says: use of moved value: `object`

#[path = "../mod.rs"]
pub mod rcu_ptr;

use rcu_ptr::{RcuKBox, WithRoom};

type Object = RcuKBox<WithRoom<u64, 1>>;

fn of_this_cpu(object: Object, pointer: *const u64) {
    object.call(move |_| {
        let pointer = pointer;
        drop(pointer.is_null());
    });
}

fn twice(object: Object) {
    object.call(|_| ());
    object.call(|_| ());
}
