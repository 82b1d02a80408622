// SPDX-License-Identifier: GPL-2.0

//! The allocators that objects come from, and memory pressure.

use super::generated as sys;
use ::core::ptr::{self, NonNull};
use kernel::{bindings, prelude::*};

/// `kmalloc()`, large ones too; with `atomic` it may not sleep.
///
/// # Context
///
/// Any but NMI, and on PREEMPT_RT no hard interrupt; may sleep without `atomic`.
pub(crate) fn kmalloc(size: usize, atomic: bool) -> Option<NonNull<u8>> {
    // SAFETY: No requirements.
    NonNull::new(unsafe { sys::rcu_ptr_torture_kmalloc(size, atomic) }.cast())
}

/// `kmalloc_nolock()`.
///
/// # Context
///
/// Any, NMI included.
pub(crate) fn kmalloc_nolock(size: usize) -> Option<NonNull<u8>> {
    // SAFETY: No requirements.
    NonNull::new(unsafe { sys::rcu_ptr_torture_kmalloc_nolock(size) }.cast())
}

/// `vmalloc()`.
///
/// # Context
///
/// May sleep.
pub(crate) fn vmalloc(size: usize) -> Option<NonNull<u8>> {
    // SAFETY: No requirements.
    NonNull::new(unsafe { sys::rcu_ptr_torture_vmalloc(size) }.cast())
}

/// `kvmalloc()`.
///
/// # Context
///
/// May sleep.
pub(crate) fn kvmalloc(size: usize) -> Option<NonNull<u8>> {
    // SAFETY: No requirements.
    NonNull::new(unsafe { sys::rcu_ptr_torture_kvmalloc(size) }.cast())
}

/// `kvfree()`.
///
/// # Context
///
/// That of `kfree()`; of vmalloc() memory, may sleep.
///
/// # Safety
///
/// `object` is live, of one of the functions above or of a [`RawCache`], and is no longer in use.
pub(crate) unsafe fn kvfree(object: NonNull<u8>) {
    // SAFETY: By the safety requirements of this function.
    unsafe { bindings::kvfree(object.as_ptr().cast()) };
}

/// `kfree_nolock()`.
///
/// # Context
///
/// Any, NMI included.
///
/// # Safety
///
/// `object` is live, of [`kmalloc_nolock()`], and is no longer in use.
pub(crate) unsafe fn kfree_nolock(object: NonNull<u8>) {
    // SAFETY: By the safety requirements of this function.
    unsafe { sys::rcu_ptr_torture_kfree_nolock(object.as_ptr().cast()) };
}

/// A kmem_cache.
///
/// # Invariants
///
/// The pointer is from `__kmem_cache_create_args()`, and owned.
pub(crate) struct RawCache(NonNull<bindings::kmem_cache>);

// SAFETY: Caches are used from any task.
unsafe impl Send for RawCache {}
// SAFETY: As above.
unsafe impl Sync for RawCache {}

impl RawCache {
    /// Makes a cache of objects of `size` bytes that shares no slab with others.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn new(name: &CStr, size: usize) -> Result<Self> {
        let mut args = bindings::kmem_cache_args {
            align: 8,
            ..Default::default()
        };
        // SAFETY: All arguments are valid for the call.
        let cache = unsafe {
            bindings::__kmem_cache_create_args(
                name.as_char_ptr(),
                size as c_uint,
                &mut args,
                1 << bindings::_slab_flag_bits__SLAB_NO_MERGE,
            )
        };
        // INVARIANT: Just made.
        NonNull::new(cache).map(Self).ok_or(ENOMEM)
    }

    /// An object.
    ///
    /// # Context
    ///
    /// As for [`kmalloc()`].
    pub(crate) fn alloc(&self, atomic: bool) -> Option<NonNull<u8>> {
        // SAFETY: By the type invariants.
        let object = unsafe { sys::rcu_ptr_torture_slab_alloc(self.0.as_ptr().cast(), atomic) };
        NonNull::new(object.cast())
    }
}

impl Drop for RawCache {
    /// Complains in the log when objects are left.
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::kmem_cache_destroy(self.0.as_ptr()) };
    }
}

/// Blocks of pages that are taken.
struct Blocks(*mut [usize; 2]);

impl Blocks {
    /// Takes 2^`order` pages, unless memory reclaim gives up.
    fn take(&mut self, order: usize) -> bool {
        // SAFETY: No requirements.
        let block = unsafe { sys::rcu_ptr_torture_pages(order as c_uint) }.cast::<[usize; 2]>();
        if block.is_null() {
            return false;
        }
        // SAFETY: A fresh block, large enough for two words.
        unsafe { block.write([self.0.expose_provenance(), order]) };
        self.0 = block;
        true
    }

    /// Gives one of them back.
    fn give_back(&mut self) -> bool {
        if self.0.is_null() {
            return false;
        }
        // SAFETY: A block of `take()`, whose first word leads to the next.
        unsafe {
            let [next, order] = self.0.read();
            bindings::free_pages(self.0 as c_ulong, order as c_uint);
            self.0 = ptr::with_exposed_provenance_mut(next);
        }
        true
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        while self.give_back() {}
    }
}

/// Takes up to `limit` pages in large blocks until memory reclaim gives up, so that shrinkers are called, and
/// gives them back. Smaller blocks remain, for those who can't do without: there are no OOM kills.
///
/// # Context
///
/// May sleep.
pub(crate) fn squeeze(limit: usize) {
    /// Pages of a block, as a power of two.
    const ORDER: usize = 9;
    /// Half blocks that remain. Each has a neighbour that is taken, so that no block is made of them.
    const REMAIN: usize = 16;
    let (mut taken, mut remain) = (Blocks(ptr::null_mut()), Blocks(ptr::null_mut()));
    for _ in 0..REMAIN {
        if !taken.take(ORDER - 1) || !remain.take(ORDER - 1) {
            return;
        }
    }
    drop(remain);
    for _ in 0..limit >> ORDER {
        if !taken.take(ORDER) {
            break;
        }
    }
}
