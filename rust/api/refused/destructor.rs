// SPDX-License-Identifier: GPL-2.0

//! A type whose destructor would not run.

// error: E0080
// error: E0080
// error: E0080
// says: RcuBox never runs a destructor
// says: objects of a Cache are given out again without a destructor
// says: assertion failed: !needs_drop::<T>()

#[path = "../mod.rs"]
mod rcu_ptr;

use kernel::prelude::*;
use rcu_ptr::{free_mightsleep, impl_has_rcu_ptr, Cache, HasRcuPtr, RcuBox, RcuPtr};

#[pin_data]
struct Entry {
    name: KVec<u8>,
    #[pin]
    rcu: RcuPtr,
}

impl_has_rcu_ptr! {
    impl HasRcuPtr for Entry { self.rcu }
}

fn share(entry: Pin<KBox<Entry>>) -> RcuBox<Entry> {
    RcuBox::from(entry)
}

fn cache() -> Result<Cache<KVec<u8>>> {
    Cache::new(c"names")
}

#[used]
static SHARE: fn(Pin<KBox<Entry>>) -> RcuBox<Entry> = share;
#[used]
static CACHE: fn() -> Result<Cache<KVec<u8>>> = cache;
#[used]
static FREE: fn(Pin<KBox<KVec<u8>>>) = free_mightsleep;
