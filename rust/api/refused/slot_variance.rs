// SPDX-License-Identifier: GPL-2.0

//! A slot is of one type: what is put into it through a reference is what readers find.

// error: E0308

#[path = "../mod.rs"]
pub mod rcu_ptr;

use rcu_ptr::{RcuKBox, RcuSlot};

type Any = RcuKBox<for<'a> fn(&'a u64)>;
type Static = RcuKBox<fn(&'static u64)>;

fn narrowed(slot: &RcuSlot<Any>) -> &RcuSlot<Static> {
    slot
}
