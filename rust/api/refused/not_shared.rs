// SPDX-License-Identifier: GPL-2.0

//! What readers on other CPUs may not look at is in no slot that they reach, and what may not be dropped
//! elsewhere is in no box.

// error: E0277
// error: E0277
// error: E0277
// says: `Cell<u64>` cannot be shared between threads safely
// says: `*const u64` cannot be sent between threads safely

#[path = "../mod.rs"]
pub mod rcu_ptr;

use core::cell::Cell;
use rcu_ptr::{RcuFreeBox, RcuFreeSafe, RcuKBox, RcuSlot};

struct Entry;

impl RcuFreeSafe for Entry {
    type View = Cell<u64>;

    fn drop_before_gp(self: core::pin::Pin<&mut Self>, _view: core::pin::Pin<&Cell<u64>>) {}
}

static BOXES: RcuSlot<RcuKBox<Cell<u64>>> = RcuSlot::new();
static VIEWS: RcuSlot<RcuFreeBox<Entry>> = RcuSlot::new();

fn here(_pointer: &RcuKBox<*const u64>) {}
