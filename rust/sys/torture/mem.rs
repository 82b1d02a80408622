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

/// Takes up to `limit` pages until memory reclaim gives up, so that shrinkers are called, and gives them
/// back. Returns how many there were.
///
/// # Context
///
/// May sleep.
pub(crate) fn squeeze(limit: usize) -> usize {
    let mut pages = ptr::null_mut::<u8>();
    let mut count = 0;
    while count < limit {
        // SAFETY: No requirements.
        let page = unsafe { sys::rcu_ptr_torture_page() }.cast::<u8>();
        if page.is_null() {
            break;
        }
        // SAFETY: A fresh page, large enough for a pointer.
        unsafe { page.cast::<*mut u8>().write(pages) };
        pages = page;
        count += 1;
    }
    while !pages.is_null() {
        let page = pages;
        // SAFETY: A page of the loop above, whose first word leads to the next.
        unsafe {
            pages = page.cast::<*mut u8>().read();
            bindings::free_pages(page as c_ulong, 0);
        }
    }
    count
}
