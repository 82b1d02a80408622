// SPDX-License-Identifier: GPL-2.0

//! Allocators of test objects; memory pressure; the amount of free memory.
//!
//! # Context
//!
//! A task that may sleep, unless a function says otherwise.

pub(crate) use super::slab::{kmalloc, kmalloc_nolock, kvfree};
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

/// The function that allocates an object.
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

/// GFP flags of allocations that may fail, without a warning or an OOM kill; `atomic`: without
/// sleeping.
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
    let object =
        unsafe { bindings::vrealloc_node_align(ptr::null(), size, 1, gfp, bindings::NUMA_NO_NODE) };
    NonNull::new(object.cast())
}

/// `kvmalloc()`.
pub(crate) fn kvmalloc(size: usize, gfp: u32) -> Option<NonNull<u8>> {
    // SAFETY: No requirements.
    let object = unsafe {
        bindings::kvrealloc_node_align(ptr::null(), size, 1, gfp, bindings::NUMA_NO_NODE)
    };
    NonNull::new(object.cast())
}

/// Allocates `size` bytes.
///
/// # Context
///
/// Any for [`Source::KmallocNolock`]; others may sleep.
pub(crate) fn alloc(source: Source, size: usize) -> Option<NonNull<u8>> {
    match source {
        Source::Kmalloc => kmalloc(size, bindings::GFP_KERNEL),
        Source::KmallocNolock => kmalloc_nolock(size),
        Source::Vmalloc => vmalloc(size, bindings::GFP_KERNEL),
        Source::Kvmalloc => kvmalloc(size, bindings::GFP_KERNEL),
    }
}

/// Whether KASAN has poisoned `object`, as it does when it is freed. Without KASAN: `false`.
pub(crate) fn is_poisoned(object: NonNull<u8>) -> bool {
    // SAFETY: Reads KASAN's shadow, which all of the kernel's memory has.
    unsafe { sys::rcu_ptr_shim_is_poisoned(object.as_ptr().cast()) }
}

/// Retries [`alloc()`]: kmalloc_nolock() fails while another CPU holds a lock of its kmem_cache.
pub(crate) fn alloc_retry(source: Source, size: usize) -> Option<NonNull<u8>> {
    (0..1000).find_map(|_| {
        alloc(source, size).or_else(|| {
            thread::sleep(1);
            None
        })
    })
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

/// Free pages: those of the zones, and those on the per-CPU lists of the page allocator, which no
/// counter of the kernel includes. Bursts of frees let these lists grow to an eighth of all memory;
/// they shrink by an eighth of their length per second at most.
pub(crate) fn free_pages() -> u64 {
    let mut info = MaybeUninit::<bindings::sysinfo>::zeroed();
    // SAFETY: `info` is valid for writes; all of it is integers, so zeroes are a value.
    unsafe {
        bindings::si_meminfo(info.as_mut_ptr());
        info.assume_init_ref().freeram as u64 + pages_of_cpus()
    }
}

/// Pages on the per-CPU lists of the page allocator.
pub(crate) fn pages_of_cpus() -> u64 {
    // SAFETY: No requirements.
    (unsafe { sys::rcu_ptr_shim_pcp_pages() }) as u64
}

/// Whether caches recycle objects without freeing them to the slab (`reuse` is not `none`).
pub(crate) fn objects_are_recycled() -> bool {
    cfg!(not(any(
        CONFIG_KASAN,
        CONFIG_KMSAN,
        CONFIG_KCSAN,
        CONFIG_DEBUG_OBJECTS_FREE,
        CONFIG_SLUB_DEBUG_ON
    )))
}

/// Whether caches also recycle, immediately, objects that are freed without a grace period.
pub(crate) fn reused_at_once() -> bool {
    objects_are_recycled() && !super::slab::checks().init_on_free
}

/// Pages of unreclaimable slabs (`NR_SLAB_UNRECLAIMABLE_B`).
pub(crate) fn slab_pages() -> u64 {
    // SAFETY: No requirements.
    (unsafe { sys::rcu_ptr_shim_slab_pages() }) as u64
}

/// Whether a page is mapped at `address` in the vmalloc area.
pub(crate) fn is_mapped(address: usize) -> bool {
    // SAFETY: Only reads the page tables.
    !unsafe { bindings::vmalloc_to_page(ptr::without_provenance(address)) }.is_null()
}

/// `SLAB_TYPESAFE_BY_RCU`
pub(crate) const TYPESAFE: u32 = super::slab::TYPESAFE_BY_RCU;

/// `SLAB_POISON`
pub(crate) const POISON: u32 = 1 << bindings::_slab_flag_bits__SLAB_POISON;

/// [`POISON`], and the checks that report overwritten and doubly freed objects.
pub(crate) const POISON_CHECKED: u32 = POISON
    | 1 << bindings::_slab_flag_bits__SLAB_RED_ZONE
    | 1 << bindings::_slab_flag_bits__SLAB_CONSISTENCY_CHECKS;

/// `SLAB_HWCACHE_ALIGN`
pub(crate) const HWCACHE_ALIGN: u32 = 1 << bindings::_slab_flag_bits__SLAB_HWCACHE_ALIGN;

/// The slab's checks of a [`RawCache`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checks {
    /// No checks.
    None,
    /// Freed objects are poisoned, and double frees reported (CONFIG_SLUB_DEBUG).
    Poison,
}

/// A kmem_cache of objects of 8 bytes or more, aligned to 8.
pub(crate) struct RawCache(SlabCache);

impl RawCache {
    /// Creates a kmem_cache of objects of `size` bytes, which is not merged with others.
    pub(crate) fn new(name: &str, size: usize, checks: Checks) -> Result<Self> {
        // Tests have several at a time, and CONFIG_DEBUG_VM rejects a name that is in use.
        static NUMBER: Atomic<u32> = Atomic::new(0);
        let name = CString::try_from_fmt(fmt!("{}_{}", name, NUMBER.fetch_add(1, Relaxed)))?;
        let flags = match checks {
            Checks::None => 0,
            Checks::Poison => POISON_CHECKED,
        };
        SlabCache::new(&name, size, 8, None, flags).map(Self)
    }

    /// Allocates an uninitialised object with `GFP_KERNEL`.
    #[inline]
    pub(crate) fn alloc(&self) -> Option<NonNull<u8>> {
        self.alloc_with(bindings::GFP_KERNEL)
    }

    /// As [`Self::alloc()`], with any GFP flags, in the contexts that these allow.
    #[inline]
    pub(crate) fn alloc_with(&self, gfp: u32) -> Option<NonNull<u8>> {
        self.0.alloc(gfp)
    }

    /// Frees an object.
    ///
    /// # Safety
    ///
    /// `object` comes from this cache and is no longer in use.
    pub(crate) unsafe fn free(&self, object: NonNull<u8>) {
        // SAFETY: By the safety requirements of this function.
        unsafe { bindings::kmem_cache_free(self.0.raw.as_ptr(), object.as_ptr().cast()) };
    }

    /// Frees the empty slabs (`kmem_cache_shrink()`).
    pub(crate) fn shrink(&self) {
        // SAFETY: A live cache.
        unsafe { bindings::kmem_cache_shrink(self.0.raw.as_ptr()) };
    }
}

/// Allocated blocks of pages, linked through their first words; freed on drop.
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

    /// Allocates up to `limit` pages, one by one, until memory reclaim gives up; so shrinkers run.
    pub(crate) fn new(limit: usize) -> Self {
        let mut hog = Self::none();
        while hog.count < limit && hog.grow(0) {}
        hog
    }

    /// Allocates 2^`order` pages. Returns `false` if memory reclaim has given up.
    fn grow(&mut self, order: usize) -> bool {
        // SAFETY: No requirements.
        let block = unsafe { bindings::get_free_pages_noprof(quiet(false), order as c_uint) };
        let block = ptr::with_exposed_provenance_mut::<[usize; 2]>(block);
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
            // SAFETY: A block of `grow()`, whose first word is the address of the previous block.
            unsafe {
                let [before, order] = self.last.read();
                bindings::free_pages(self.last as c_ulong, order as c_uint);
                self.last = ptr::with_exposed_provenance_mut(before);
            }
        }
    }
}

/// Allocates up to `limit` pages in large blocks until memory reclaim gives up, so that shrinkers
/// run, and frees them. Smaller blocks remain for allocations that must not fail: no OOM kills.
pub(crate) fn squeeze(limit: usize) {
    /// Pages of a block, as a power of two.
    const ORDER: usize = 9;
    /// Half blocks that remain free. The other half of each is allocated, so they do not merge.
    const REMAIN: usize = 16;
    let (mut taken, mut remain) = (Hog::none(), Hog::none());
    for _ in 0..REMAIN {
        if !taken.grow(ORDER - 1) || !remain.grow(ORDER - 1) {
            return;
        }
    }
    drop(remain);
    for _ in 0..limit >> ORDER {
        if !taken.grow(ORDER) {
            break;
        }
    }
}
