// SPDX-License-Identifier: GPL-2.0

//! The allocators that objects of tests come from, kmem_caches, and how much memory is free.

use super::{generated as sys, thread};
use ::core::{
    mem::MaybeUninit,
    ptr::{self, NonNull},
};
use kernel::{
    bindings,
    prelude::*,
    str::CString,
    sync::atomic::{Atomic, Relaxed},
};

/// An allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// `kmalloc()`; a large one above two pages.
    Kmalloc,
    /// `kmalloc_nolock()`.
    KmallocNolock,
    /// `vmalloc()`.
    Vmalloc,
    /// `kvmalloc()`.
    Kvmalloc,
}

/// `size` bytes from `source`.
///
/// # Context
///
/// May sleep; any for [`Source::KmallocNolock`].
pub(crate) fn alloc(source: Source, size: usize) -> Option<NonNull<u8>> {
    // SAFETY: No requirements.
    let ptr = unsafe {
        match source {
            Source::Kmalloc => sys::rcu_ptr_kunit_kmalloc(size),
            Source::KmallocNolock => sys::rcu_ptr_kunit_kmalloc_nolock(size),
            Source::Vmalloc => sys::rcu_ptr_kunit_vmalloc(size),
            Source::Kvmalloc => sys::rcu_ptr_kunit_kvmalloc(size),
        }
    };
    NonNull::new(ptr.cast())
}

/// Whether what is there was freed, as KASAN says; never without it.
pub(crate) fn is_poisoned(object: NonNull<u8>) -> bool {
    // SAFETY: Reads KASAN's shadow, which all of the kernel's memory has.
    unsafe { sys::rcu_ptr_kunit_is_poisoned(object.as_ptr().cast()) }
}

/// As [`alloc()`], again and again: kmalloc_nolock() has nothing while another CPU holds a lock of its
/// cache.
///
/// # Context
///
/// May sleep.
pub(crate) fn alloc_patiently(source: Source, size: usize) -> Option<NonNull<u8>> {
    (0..1000).find_map(|_| {
        alloc(source, size).or_else(|| {
            thread::sleep(1);
            None
        })
    })
}

/// `kvfree()`.
///
/// # Context
///
/// May sleep.
///
/// # Safety
///
/// `object` comes from [`alloc()`] and is no longer in use.
pub(crate) unsafe fn kvfree(object: NonNull<u8>) {
    // SAFETY: By the safety requirements of this function.
    unsafe { bindings::kvfree(object.as_ptr().cast()) };
}

/// Free memory, in pages: those of the zones, and those that CPUs keep on lists of their own. The page
/// allocator lets such a list grow with bursts of frees, up to an eighth of all memory for all CPUs
/// together, and gives back an eighth of it every second at most; no counter of the kernel has it.
///
/// # Context
///
/// Any.
pub(crate) fn free_pages() -> u64 {
    let mut info = MaybeUninit::<bindings::sysinfo>::zeroed();
    // SAFETY: `info` is valid for writes; all of it is integers, so zeroes are a value.
    unsafe {
        bindings::si_meminfo(info.as_mut_ptr());
        info.assume_init_ref().freeram as u64 + pages_of_cpus()
    }
}

/// Those that CPUs keep.
///
/// # Context
///
/// Any.
pub(crate) fn pages_of_cpus() -> u64 {
    // SAFETY: No requirements.
    (unsafe { sys::rcu_ptr_kunit_pcp_pages() }) as u64
}

/// Whether KFENCE watches `object`.
pub(crate) fn is_kfence(object: NonNull<u8>) -> bool {
    // SAFETY: Only the address is looked at.
    unsafe { sys::rcu_ptr_kunit_is_kfence(object.as_ptr().cast()) }
}

/// Whether objects are zeroed when they are allocated (`init_on_alloc=1`).
pub(crate) fn init_on_alloc() -> bool {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_kunit_init_on_alloc() }
}

/// Whether objects are zeroed when they are freed (`init_on_free=1`).
pub(crate) fn init_on_free() -> bool {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_kunit_init_on_free() }
}

/// Whether caches give objects out again without the slab's knowledge.
pub(crate) fn objects_go_round() -> bool {
    cfg!(not(any(
        CONFIG_KASAN,
        CONFIG_KMSAN,
        CONFIG_KCSAN,
        CONFIG_DEBUG_OBJECTS_FREE,
        CONFIG_SLUB_DEBUG_ON
    )))
}

/// Whether caches give out at once what is freed at once.
pub(crate) fn reused_at_once() -> bool {
    objects_go_round() && !init_on_free()
}

/// Pages of all slabs that can't be reclaimed.
///
/// # Context
///
/// Any.
pub(crate) fn slab_pages() -> u64 {
    // SAFETY: No requirements.
    (unsafe { sys::rcu_ptr_kunit_slab_pages() }) as u64
}

/// Whether there is memory of vmalloc() at `address`.
///
/// # Context
///
/// Any.
pub(crate) fn is_mapped(address: usize) -> bool {
    // SAFETY: Only the page tables are looked at.
    unsafe { sys::rcu_ptr_kunit_is_mapped(address as c_ulong) }
}

/// `SLAB_POISON` and the checks that go with it: what is freed is overwritten at once.
pub(crate) const POISON: u32 = 1 << bindings::_slab_flag_bits__SLAB_POISON
    | 1 << bindings::_slab_flag_bits__SLAB_RED_ZONE
    | 1 << bindings::_slab_flag_bits__SLAB_CONSISTENCY_CHECKS;

/// `SLAB_TYPESAFE_BY_RCU`
pub(crate) const TYPESAFE: u32 = 1 << bindings::_slab_flag_bits__SLAB_TYPESAFE_BY_RCU;

/// `SLAB_HWCACHE_ALIGN`
pub(crate) const HWCACHE_ALIGN: u32 = 1 << bindings::_slab_flag_bits__SLAB_HWCACHE_ALIGN;

/// How a [`RawCache`] is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checks {
    /// The usual, with sheaves.
    None,
    /// Freed objects are poisoned at once, double frees reported (CONFIG_SLUB_DEBUG).
    Poison,
}

/// A kmem_cache.
///
/// # Invariants
///
/// The pointer is a live cache.
pub(crate) struct RawCache(NonNull<bindings::kmem_cache>);

// SAFETY: Caches are used from any task.
unsafe impl Send for RawCache {}
// SAFETY: As above.
unsafe impl Sync for RawCache {}

impl RawCache {
    /// A cache of objects of `size` bytes that shares slabs with no other.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn new(name: &str, size: usize, checks: Checks) -> Result<Self> {
        // Several at once, and DEBUG_VM wants each name once.
        static NUMBER: Atomic<u32> = Atomic::new(0);
        let name = CString::try_from_fmt(fmt!("{}_{}", name, NUMBER.fetch_add(1, Relaxed)))?;
        let mut args = pin_init::zeroed::<bindings::kmem_cache_args>();
        args.align = 8;
        let mut flags = 1 << bindings::_slab_flag_bits__SLAB_NO_MERGE;
        if checks == Checks::Poison {
            flags |= POISON;
        }
        // SAFETY: `args` is valid, `name` is copied.
        let cache = unsafe {
            bindings::__kmem_cache_create_args(name.as_char_ptr(), size as c_uint, &mut args, flags)
        };
        // INVARIANT: Just made.
        NonNull::new(cache).map(Self).ok_or(ENOMEM)
    }

    /// An object, uninitialised.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn alloc(&self) -> Option<NonNull<u8>> {
        // SAFETY: By the type invariants.
        let object =
            unsafe { bindings::kmem_cache_alloc_noprof(self.0.as_ptr(), bindings::GFP_KERNEL) };
        NonNull::new(object.cast())
    }

    /// Frees an object at once.
    ///
    /// # Safety
    ///
    /// `object` comes from this cache and is no longer in use.
    pub(crate) unsafe fn free(&self, object: NonNull<u8>) {
        // SAFETY: By the safety requirements of this function.
        unsafe { bindings::kmem_cache_free(self.0.as_ptr(), object.as_ptr().cast()) };
    }

    /// Gives empty slabs back.
    pub(crate) fn shrink(&self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::kmem_cache_shrink(self.0.as_ptr()) };
    }
}

impl Drop for RawCache {
    /// Complains in the log when objects are left.
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::kmem_cache_destroy(self.0.as_ptr()) };
    }
}

/// Pages that were taken until there were none.
pub(crate) struct Hog {
    pages: *mut u8,
    /// How many.
    pub(crate) count: usize,
}

impl Hog {
    /// Takes pages until memory reclaim gives up, at most `limit`: shrinkers are called on the way.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn new(limit: usize) -> Self {
        let mut hog = Hog {
            pages: ptr::null_mut(),
            count: 0,
        };
        while hog.count < limit {
            // SAFETY: No requirements.
            let page = unsafe { sys::rcu_ptr_kunit_page() }.cast::<u8>();
            if page.is_null() {
                break;
            }
            // SAFETY: A fresh page, large enough for a pointer.
            unsafe { page.cast::<*mut u8>().write(hog.pages) };
            hog.pages = page;
            hog.count += 1;
        }
        hog
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        while !self.pages.is_null() {
            let page = self.pages;
            // SAFETY: A page of `new()`, whose first word leads to the next.
            unsafe {
                self.pages = page.cast::<*mut u8>().read();
                bindings::free_pages(page as c_ulong, 0);
            }
        }
    }
}
