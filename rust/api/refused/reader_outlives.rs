// SPDX-License-Identifier: GPL-2.0

//! What readers found is good for as long as their guard, and a box for as long as its cache.

// error: E0505
// error: E0505
// error: E0515
// says: cannot move out of `guard` because it is borrowed
// says: cannot return value referencing local variable `cache`

#[path = "../mod.rs"]
pub mod rcu_ptr;

use core::mem::forget;
use kernel::{prelude::*, sync::rcu};
use rcu_ptr::{Cache, CacheBox, RcuKBox, RcuSlot};

fn in_slot(slot: &RcuSlot<RcuKBox<u64>>) -> Option<u64> {
    let guard = rcu::read_lock();
    let entry = slot.load(&guard);
    forget(guard);
    entry.copied()
}

fn in_box(entry: RcuKBox<u64>) -> u64 {
    let guard = rcu::read_lock();
    let seen = entry.with_rcu(&guard);
    drop(entry);
    drop(guard);
    *seen
}

fn keep<'a>() -> Result<CacheBox<'a, u64>> {
    let cache = Cache::<u64>::new(c"keys")?;
    let object = cache.alloc(1, GFP_KERNEL)?.share();
    Ok(object)
}
