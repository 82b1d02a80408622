// SPDX-License-Identifier: GPL-2.0

//! The allocators that objects of tests come from, beside slab.rs; memory pressure, and how much memory is free.
//!
//! # Context
//!
//! A task that may sleep, unless a function says otherwise.

pub(crate) use super::slab::{kmalloc, kmalloc_nolock};
use super::{generated as sys, slab::SlabCache, thread};
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

/// Flags of allocations that may fail, without a word and without OOM kills; `atomic` ones don't sleep.
pub(crate) fn quiet(atomic: bool) -> u32 {
    let gfp = if atomic {
        bindings::GFP_NOWAIT
    } else {
        bindings::GFP_KERNEL
    };
    gfp | 1 << bindings::___GFP_NORETRY_BIT | bindings::__GFP_NOWARN
}

/// `vmalloc()`.
pub(crate) fn vmalloc(size: usize, gfp: u32) -> Option<NonNull<u8>> {
    // SAFETY: No requirements.
    NonNull::new(unsafe { sys::rcu_ptr_shim_vmalloc(size, gfp) }.cast())
}

/// `kvmalloc()`.
pub(crate) fn kvmalloc(size: usize, gfp: u32) -> Option<NonNull<u8>> {
    // SAFETY: No requirements.
    NonNull::new(unsafe { sys::rcu_ptr_shim_kvmalloc(size, gfp) }.cast())
}

/// `size` bytes from `source`; in any context from [`Source::KmallocNolock`].
pub(crate) fn alloc(source: Source, size: usize) -> Option<NonNull<u8>> {
    match source {
        Source::Kmalloc => kmalloc(size, bindings::GFP_KERNEL),
        Source::KmallocNolock => kmalloc_nolock(size),
        Source::Vmalloc => vmalloc(size, bindings::GFP_KERNEL),
        Source::Kvmalloc => kvmalloc(size, bindings::GFP_KERNEL),
    }
}

/// Whether what is there was freed, as KASAN says; never without it.
pub(crate) fn is_poisoned(object: NonNull<u8>) -> bool {
    // SAFETY: Reads KASAN's shadow, which all of the kernel's memory has.
    unsafe { sys::rcu_ptr_shim_is_poisoned(object.as_ptr().cast()) }
}

/// As [`alloc()`], again and again: kmalloc_nolock() has nothing while another CPU holds a lock of its
/// cache.
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
/// # Safety
///
/// `object` comes from one of these, or from a kmem_cache, and is no longer in use.
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
    unsafe { bindings::kfree_nolock(object.as_ptr().cast()) };
}

/// Free memory, in pages: those of the zones, and those that CPUs keep on lists of their own. The page
/// allocator lets such a list grow with bursts of frees, up to an eighth of all memory for all CPUs
/// together, and gives back an eighth of it every second at most; no counter of the kernel has it.
pub(crate) fn free_pages() -> u64 {
    let mut info = MaybeUninit::<bindings::sysinfo>::zeroed();
    // SAFETY: `info` is valid for writes; all of it is integers, so zeroes are a value.
    unsafe {
        bindings::si_meminfo(info.as_mut_ptr());
        info.assume_init_ref().freeram as u64 + pages_of_cpus()
    }
}

/// Those that CPUs keep.
pub(crate) fn pages_of_cpus() -> u64 {
    // SAFETY: No requirements.
    (unsafe { sys::rcu_ptr_shim_pcp_pages() }) as u64
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

/// Whether caches allocate at once what is freed at once.
pub(crate) fn reused_at_once() -> bool {
    objects_go_round() && !super::slab::checks().init_on_free
}

/// Pages of all slabs that can't be reclaimed.
pub(crate) fn slab_pages() -> u64 {
    // SAFETY: No requirements.
    (unsafe { sys::rcu_ptr_shim_slab_pages() }) as u64
}

/// Whether there is memory of vmalloc() at `address`.
pub(crate) fn is_mapped(address: usize) -> bool {
    // SAFETY: Only the page tables are looked at.
    !unsafe { bindings::vmalloc_to_page(ptr::without_provenance(address)) }.is_null()
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

/// A kmem_cache of objects of 8 bytes or more, aligned to 8.
pub(crate) struct RawCache(SlabCache);

impl RawCache {
    /// A cache of objects of `size` bytes that shares slabs with no other.
    pub(crate) fn new(name: &str, size: usize, checks: Checks) -> Result<Self> {
        // Several at once, and DEBUG_VM wants each name once.
        static NUMBER: Atomic<u32> = Atomic::new(0);
        let name = CString::try_from_fmt(fmt!("{}_{}", name, NUMBER.fetch_add(1, Relaxed)))?;
        let flags = match checks {
            Checks::None => 0,
            Checks::Poison => POISON,
        };
        SlabCache::new(&name, size, 8, None, flags).map(Self)
    }

    /// An object, uninitialised.
    #[inline]
    pub(crate) fn alloc(&self) -> Option<NonNull<u8>> {
        self.alloc_with(bindings::GFP_KERNEL)
    }

    /// The same with any flags, in the contexts that these allow.
    #[inline]
    pub(crate) fn alloc_with(&self, gfp: u32) -> Option<NonNull<u8>> {
        self.0.alloc(gfp)
    }

    /// Frees an object at once.
    ///
    /// # Safety
    ///
    /// `object` comes from this cache and is no longer in use.
    pub(crate) unsafe fn free(&self, object: NonNull<u8>) {
        // SAFETY: By the safety requirements of this function.
        unsafe { bindings::kmem_cache_free(self.0.raw(), object.as_ptr().cast()) };
    }

    /// Gives empty slabs back.
    pub(crate) fn shrink(&self) {
        // SAFETY: A live cache.
        unsafe { bindings::kmem_cache_shrink(self.0.raw()) };
    }
}

/// Pages that are taken, in blocks, until it is dropped.
pub(crate) struct Hog {
    last: *mut [usize; 2],
    /// Number of pages.
    pub(crate) count: usize,
}

impl Hog {
    const fn none() -> Self {
        Self {
            last: ptr::null_mut(),
            count: 0,
        }
    }

    /// Takes pages until memory reclaim gives up, at most `limit`: shrinkers are called on the way.
    pub(crate) fn new(limit: usize) -> Self {
        let mut hog = Self::none();
        while hog.count < limit && hog.take(0) {}
        hog
    }

    /// Takes 2^`order` pages, unless memory reclaim gives up.
    fn take(&mut self, order: usize) -> bool {
        // SAFETY: No requirements.
        let block = unsafe { sys::rcu_ptr_shim_pages(order as c_uint) }.cast::<[usize; 2]>();
        if block.is_null() {
            return false;
        }
        // SAFETY: A fresh block, large enough for two words.
        unsafe { block.write([self.last.expose_provenance(), order]) };
        self.last = block;
        self.count += 1 << order;
        true
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        while !self.last.is_null() {
            // SAFETY: A block of `take()`, whose first word leads to the one before.
            unsafe {
                let [before, order] = self.last.read();
                bindings::free_pages(self.last as c_ulong, order as c_uint);
                self.last = ptr::with_exposed_provenance_mut(before);
            }
        }
    }
}

/// Takes up to `limit` pages in large blocks until memory reclaim gives up, so that shrinkers are called, and
/// gives them back. Smaller blocks remain, for those who can't do without: there are no OOM kills.
pub(crate) fn squeeze(limit: usize) {
    /// Pages of a block, as a power of two.
    const ORDER: usize = 9;
    /// Half blocks that remain. Each has a neighbour that is taken, so that no block is made of them.
    const REMAIN: usize = 16;
    let (mut taken, mut remain) = (Hog::none(), Hog::none());
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
