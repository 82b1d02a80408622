// SPDX-License-Identifier: GPL-2.0

//! Memory that kvfree() does not take.

// error: E0277
// error: E0277
// error: E0277
// says: the trait bound `Bump: KvFree` is not satisfied

#[path = "../mod.rs"]
pub mod rcu_ptr;

use core::{alloc::Layout, ptr::NonNull};
use kernel::{
    alloc::{AllocError, Allocator, Flags, NumaNode},
    prelude::*,
};
use rcu_ptr::{free_mightsleep, try_free_nolock, RcuBox};

struct Bump;

// SAFETY: It has no memory to give.
unsafe impl Allocator for Bump {
    const MIN_ALIGN: usize = 8;

    unsafe fn realloc(
        _ptr: Option<NonNull<u8>>,
        _layout: Layout,
        _old_layout: Layout,
        _flags: Flags,
        _nid: NumaNode,
    ) -> Result<NonNull<[u8]>, AllocError> {
        Err(AllocError)
    }
}

fn share(_entry: &RcuBox<u64, Bump>) {}

fn free(object: Pin<Box<u64, Bump>>) {
    free_mightsleep(object);
}

fn try_free(object: Pin<Box<u64, Bump>>) {
    let _ = try_free_nolock(object);
}
