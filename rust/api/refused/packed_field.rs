// SPDX-License-Identifier: GPL-2.0

//! A field of a packed struct may be unaligned.

// error: E0793

#[path = "../mod.rs"]
mod rcu_ptr;

use rcu_ptr::{impl_has_rcu_ptr, HasRcuPtr, RcuPtr};

#[repr(C, packed)]
struct Entry {
    key: u8,
    rcu: RcuPtr,
}

impl_has_rcu_ptr! {
    impl HasRcuPtr for Entry { self.rcu }
}
