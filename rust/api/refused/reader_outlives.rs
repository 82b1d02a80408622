// SPDX-License-Identifier: GPL-2.0

//! What readers found is good for as long as their guard, and a box for as long as its cache.

// error: E0505
// error: E0515
// says: cannot move out of `guard` because it is borrowed
// says: cannot return value referencing local variable `cache`

#[path = "../mod.rs"]
mod rcu_ptr;

use core::mem::forget;
use kernel::{prelude::*, sync::rcu};
use rcu_ptr::{impl_has_rcu_ptr, Cache, CacheBox, HasRcuPtr, RcuPtr, RcuSlot};

struct Entry {
    key: u64,
    rcu: RcuPtr,
}

impl_has_rcu_ptr! {
    impl HasRcuPtr for Entry { self.rcu }
}

fn key(slot: &RcuSlot<Entry>) -> Option<u64> {
    let guard = rcu::read_lock();
    let entry = slot.load(&guard);
    forget(guard);
    entry.map(|entry| entry.key)
}

fn keep<'a>() -> Result<CacheBox<'a, u64>> {
    let cache = Cache::<u64>::new(c"keys")?;
    let object = cache.alloc(1)?.share();
    Ok(object)
}
