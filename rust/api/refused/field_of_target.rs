// SPDX-License-Identifier: GPL-2.0

//! A field that is reached through `Deref` only is not in the object.

// error: E0308

#[path = "../mod.rs"]
mod rcu_ptr;

use core::ops::Deref;
use rcu_ptr::{impl_has_rcu_ptr, HasRcuPtr, RcuPtr};

struct Handle(RcuPtr);

impl Deref for Handle {
    type Target = RcuPtr;

    fn deref(&self) -> &RcuPtr {
        &self.0
    }
}

struct Entry {
    rcu: Handle,
}

impl_has_rcu_ptr! {
    impl HasRcuPtr for Entry { self.rcu }
}
