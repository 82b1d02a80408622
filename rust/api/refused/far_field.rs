// SPDX-License-Identifier: GPL-2.0

//! A field beyond the first 4096 bytes.

// error: E0080
// says: the RcuPtr field starts beyond the first 4096 bytes of its object

#[path = "../mod.rs"]
mod rcu_ptr;

use rcu_ptr::{impl_has_rcu_ptr, HasRcuPtr, RcuBox, RcuPtr};

#[repr(C)]
struct Entry {
    data: [u8; 4096],
    rcu: RcuPtr,
}

impl_has_rcu_ptr! {
    impl HasRcuPtr for Entry { self.rcu }
}

fn free(entry: RcuBox<Entry>) {
    drop(entry);
}

#[used]
static FREE: fn(RcuBox<Entry>) = free;
