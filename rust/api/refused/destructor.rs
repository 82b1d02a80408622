// SPDX-License-Identifier: GPL-2.0

//! Types whose destructor would not run.

// error: E0080
// error: E0080
// error: E0080
// says: the view of an RcuFreeBox is never dropped
// says: assertion failed: !needs_drop::<T>()

#[path = "../mod.rs"]
pub mod rcu_ptr;

use kernel::prelude::*;
use rcu_ptr::{free_mightsleep, try_free_nolock, RcuFreeBox, RcuFreeSafe};

struct Entry;

impl RcuFreeSafe for Entry {
    type View = KVec<u8>;

    fn drop_before_gp(self: Pin<&mut Self>, _view: Pin<&KVec<u8>>) {}
}

fn view(names: KVec<u8>) -> Result<RcuFreeBox<Entry>> {
    RcuFreeBox::new(names, Entry, GFP_KERNEL)
}

#[used]
static VIEW: fn(KVec<u8>) -> Result<RcuFreeBox<Entry>> = view;
#[used]
static FREE: fn(Pin<KBox<KVec<u8>>>) = free_mightsleep;
#[used]
static TRY: fn(Pin<KBox<KVec<u8>>>) -> Result<(), Pin<KBox<KVec<u8>>>> = try_free_nolock;
