// SPDX-License-Identifier: GPL-2.0

//! Freeing of objects, with trace events; the pages of blocks.
//!
//! # Context
//!
//! Functions that free objects: a task that may sleep, as for those of the kernel. Checks of
//! addresses: any.

use super::{context, generated as sys, slab, trace};
use core::ptr::NonNull;
use kernel::{bindings, prelude::*};

/// Bytes of a block: a page.
pub(crate) const PAGE_SIZE: usize = kernel::page::PAGE_SIZE;

/// Whether `ptr` lies in the vmalloc area (`is_vmalloc_addr()`).
#[inline]
pub(crate) fn is_vmalloc(ptr: NonNull<u8>) -> bool {
    // SAFETY: Only uses the address.
    unsafe { bindings::is_vmalloc_addr(ptr.as_ptr().cast()) }
}

/// Frees `objects` to the slab, large kmalloc ones too (`kfree_bulk()`).
///
/// # Safety
///
/// Each is the start of a live slab or large kmalloc object that is no longer in use.
pub(crate) unsafe fn kfree_bulk(objects: &mut [*mut u8]) {
    trace::free(objects);
    // SAFETY: By the safety requirements of this function.
    unsafe { slab::kfree_bulk(objects) };
}

/// Frees a vmalloc object (`vfree()`).
///
/// # Safety
///
/// `object` is the start of a live vmalloc object that is no longer in use.
pub(crate) unsafe fn vfree(mut object: *mut u8) {
    trace::free(core::slice::from_mut(&mut object));
    // SAFETY: By the safety requirements of this function.
    unsafe { sys::vfree(object.cast()) };
}

/// Frees an object of any kind (`kvfree()`).
///
/// # Safety
///
/// `object` is the start of a live slab, large kmalloc or vmalloc object that is no longer in use.
pub(crate) unsafe fn kvfree(mut object: *mut u8) {
    trace::free(core::slice::from_mut(&mut object));
    // SAFETY: By the safety requirements of this function.
    unsafe { slab::kvfree(NonNull::new_unchecked(object)) };
}

/// Allocates a page for a block.
///
/// # Context
///
/// As `gfp` says ([`slab::GFP_TASK`], [`slab::GFP_REFILL`]).
///
/// [`slab::GFP_TASK`]: super::slab::GFP_TASK
/// [`slab::GFP_REFILL`]: super::slab::GFP_REFILL
pub(crate) fn alloc_page(gfp: u32) -> Option<NonNull<u8>> {
    // SAFETY: No requirements.
    NonNull::new(unsafe { sys::rcu_ptr_shim_alloc_page(gfp) }.cast())
}

/// Allocates a page for a block without taking locks that the interrupted code may hold
/// (`alloc_pages_nolock()`).
///
/// # Context
///
/// Any, NMI included; preemption disabled. On PREEMPT_RT it fails with interrupts disabled.
pub(crate) fn alloc_page_nolock() -> Option<NonNull<u8>> {
    if !context::may_alloc_nolock() {
        return None;
    }
    // SAFETY: No requirements.
    NonNull::new(unsafe { sys::rcu_ptr_shim_alloc_page_nolock() }.cast())
}

/// The bounds of the vmalloc area, for checks of many addresses.
#[derive(Clone, Copy)]
pub(crate) struct VmallocArea {
    start: usize,
    bytes: usize,
}

impl VmallocArea {
    /// The area of this machine.
    pub(crate) fn get() -> Self {
        // SAFETY: No requirements.
        let start = unsafe { sys::rcu_ptr_shim_vmalloc_start() };
        // SAFETY: As above.
        let bytes = unsafe { sys::rcu_ptr_shim_vmalloc_end() } - start;
        Self { start, bytes }
    }

    /// All addresses: every object counts as one of the area.
    pub(crate) const ALL: Self = Self {
        start: 0,
        bytes: usize::MAX,
    };

    /// Whether all of `ptrs` lie below the area.
    #[inline]
    pub(crate) fn is_above(self, ptrs: &[*mut u8]) -> bool {
        if cfg!(any(CONFIG_KASAN_SW_TAGS, CONFIG_KASAN_HW_TAGS)) {
            return false;
        }
        ptrs.iter().fold(0, |top, ptr| top.max(ptr.addr())) < self.start
    }

    /// As [`is_vmalloc()`], in a few instructions; not with the tags of KASAN.
    #[inline(always)]
    pub(crate) fn contains(self, ptr: *mut u8) -> bool {
        if cfg!(any(CONFIG_KASAN_SW_TAGS, CONFIG_KASAN_HW_TAGS)) {
            return self.bytes == usize::MAX || NonNull::new(ptr).is_some_and(is_vmalloc);
        }
        (ptr as usize).wrapping_sub(self.start) < self.bytes
    }
}

/// Frees a page of [`alloc_page()`] or [`alloc_page_nolock()`].
///
/// # Context
///
/// Any but NMI, no raw spinlock held.
///
/// # Safety
///
/// `page` comes from one of the two, and is no longer in use.
pub(crate) unsafe fn free_page(page: NonNull<u8>) {
    // SAFETY: By the safety requirements of this function.
    unsafe { bindings::free_pages(page.as_ptr() as c_ulong, 0) };
}
