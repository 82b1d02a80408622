// SPDX-License-Identifier: GPL-2.0

//! What is dropped or called after the grace period can't borrow: the owner may be gone by then.

// error: E0597
// error: E0597
// error: E0597
// says: `key` does not live long enough

#[path = "../mod.rs"]
pub mod rcu_ptr;

use kernel::prelude::*;
use rcu_ptr::{Cache, RcuKBox, WithRoom};

struct Entry<'a>(&'a u64);

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        drop(core::hint::black_box(*self.0));
    }
}

fn object() -> Result {
    let key = 1;
    drop(RcuKBox::new(Entry(&key), GFP_KERNEL)?);
    Ok(())
}

fn closure(object: RcuKBox<WithRoom<u64, 1>>) {
    let key = 1;
    let borrow = &key;
    object.call(move |object| *object.get_mut() = *borrow);
}

/// Not by way of a cache for what lives longer, either.
fn cached(cache: &Cache<Entry<'static>>) {
    let key = 1;
    let cache: &Cache<Entry<'_>> = cache;
    if let Ok(entry) = cache.alloc(Entry(&key), GFP_KERNEL) {
        drop(entry.share());
    }
}
