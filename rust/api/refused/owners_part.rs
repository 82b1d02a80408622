// SPDX-License-Identifier: GPL-2.0

//! Readers reach the view and nothing else, and what they may look at does not change.

// error: E0308
// error: E0594
// error: E0609
// says: no field `waiting` on type `&View`
// says: cannot assign to data in dereference of `RcuBox<u64>`

#[path = "../mod.rs"]
pub mod rcu_ptr;

use kernel::{prelude::*, sync::rcu};
use rcu_ptr::{RcuFreeBox, RcuFreeSafe, RcuKBox};

pub struct Owned {
    waiting: KVec<u64>,
}

pub struct View {
    id: u64,
}

impl RcuFreeSafe for Owned {
    type View = View;

    fn drop_before_gp(self: Pin<&mut Self>, _view: Pin<&View>) {}
}

fn of_a_reader(queue: &RcuFreeBox<Owned>) -> usize {
    let guard = rcu::read_lock();
    queue.with_rcu(&guard).waiting.len()
}

fn as_owned<'rcu>(queue: &RcuFreeBox<Owned>, guard: &'rcu rcu::Guard) -> &'rcu Owned {
    queue.with_rcu(guard)
}

fn change(entry: RcuKBox<u64>) -> u64 {
    *entry += 1;
    *entry
}
