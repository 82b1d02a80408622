// SPDX-License-Identifier: GPL-2.0

//! What readers on other CPUs may not look at is in no slot that they reach.

// error: E0277
// says: `Cell<u64>` cannot be shared between threads safely

#[path = "../mod.rs"]
mod rcu_ptr;

use core::cell::Cell;
use rcu_ptr::{impl_has_rcu_ptr, HasRcuPtr, RcuPtr, RcuSlot};

struct Entry {
    hits: Cell<u64>,
    rcu: RcuPtr,
}

impl_has_rcu_ptr! {
    impl HasRcuPtr for Entry { self.rcu }
}

static TABLE: RcuSlot<Entry> = RcuSlot::new();
