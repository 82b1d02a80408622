// SPDX-License-Identifier: GPL-2.0

//! kmem_caches, and kmalloc().
//!
//! C header: [`include/linux/slab.h`](srctree/include/linux/slab.h)
//!
//! # Context
//!
//! Allocation: as `gfp` says, and not NMI, unless a function says otherwise. Creation and
//! destruction of a cache may sleep. Checks: any, NMI included.

use super::generated as sys;
use core::ptr::NonNull;
use kernel::{
    bindings,
    prelude::*,
    sync::atomic::{AtomicFlag, Relaxed},
};

/// SLAB flags that do not apply to recycled objects.
pub(crate) const INVALID_FLAGS: u32 = sys::RCU_PTR_SHIM_INVALID_SLAB_FLAGS;

/// SLAB flags of the slab's checks.
pub(crate) const DEBUG_FLAGS: u32 = sys::RCU_PTR_SHIM_SLAB_DEBUG_FLAGS;

/// `SLAB_TYPESAFE_BY_RCU`
pub(crate) const TYPESAFE_BY_RCU: u32 = sys::RCU_PTR_SHIM_SLAB_TYPESAFE_BY_RCU;

/// SLAB flags that request memory which [`kmalloc_nolock()`] cannot provide.
pub(crate) const OWN_MEMORY_FLAGS: u32 = sys::RCU_PTR_SHIM_OWN_MEMORY_FLAGS;

/// A constructor or destructor.
pub(crate) type ObjectFn = sys::ObjectFn;

/// A kmem_cache.
///
/// # Invariants
///
/// The pointer is a live kmem_cache, owned by this value unless it is leaked, and merged with no
/// other.
pub(crate) struct SlabCache {
    pub(super) raw: NonNull<bindings::kmem_cache>,
    leaked: AtomicFlag,
}

// SAFETY: The slab does its own locking.
unsafe impl Send for SlabCache {}
// SAFETY: As above.
unsafe impl Sync for SlabCache {}

impl SlabCache {
    /// Creates a kmem_cache that is not merged with others, so that its destruction finds every
    /// object that is left. `ctor` is called for each object of new memory.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, also for arguments that the slab rejects.
    pub(crate) fn new(
        name: &CStr,
        size: usize,
        align: usize,
        ctor: Option<ObjectFn>,
        flags: u32,
    ) -> Result<Self> {
        let mut args = bindings::kmem_cache_args {
            align: align as c_uint,
            ctor,
            ..Default::default()
        };
        // SAFETY: `name` is copied; `args` is valid for the call.
        let raw = unsafe {
            bindings::__kmem_cache_create_args(
                name.as_char_ptr(),
                size as c_uint,
                &mut args,
                flags | sys::RCU_PTR_SHIM_SLAB_NO_MERGE,
            )
        };
        // INVARIANT: Just made.
        let raw = NonNull::new(raw).ok_or(ENOMEM)?;
        let leaked = AtomicFlag::new(false);
        Ok(Self { raw, leaked })
    }

    /// Never destroys the kmem_cache, because some of its objects are leaked.
    pub(crate) fn leak(&self) {
        self.leaked.store(true, Relaxed);
    }

    /// Allocates an object (`kmem_cache_alloc()`).
    #[inline]
    pub(crate) fn alloc(&self, gfp: u32) -> Option<NonNull<u8>> {
        // SAFETY: By the type invariants.
        NonNull::new(unsafe { bindings::kmem_cache_alloc_noprof(self.raw.as_ptr(), gfp) }.cast())
    }

    /// Allocates an object near `node` (`kmem_cache_alloc_node()`).
    pub(crate) fn alloc_near(&self, gfp: u32, node: usize) -> Option<NonNull<u8>> {
        // SAFETY: By the type invariants.
        let object = unsafe {
            bindings::kmem_cache_alloc_node_noprof(self.raw.as_ptr(), gfp, node as c_int)
        };
        NonNull::new(object.cast())
    }

    /// Fills `out` with objects, or allocates none (`kmem_cache_alloc_bulk()`).
    ///
    /// # Context
    ///
    /// Interrupts enabled, otherwise as `gfp` says.
    pub(crate) fn alloc_bulk(&self, gfp: u32, out: &mut [*mut u8]) -> bool {
        let (count, out) = (out.len(), out.as_mut_ptr().cast());
        // SAFETY: By the type invariants; `out` has room for that many.
        unsafe { bindings::kmem_cache_alloc_bulk_noprof(self.raw.as_ptr(), gfp, count, out) }
    }

    /// Frees objects of this cache (`kmem_cache_free_bulk()`).
    ///
    /// # Context
    ///
    /// Softirq or task, interrupts on, no raw spinlock held.
    ///
    /// # Safety
    ///
    /// Each is a live object of this cache that is no longer in use.
    pub(crate) unsafe fn free_bulk(&self, objects: &mut [*mut u8]) {
        let (count, objects) = (objects.len(), objects.as_mut_ptr().cast());
        // SAFETY: By the safety requirements of this function and the type invariants.
        unsafe { bindings::kmem_cache_free_bulk(self.raw.as_ptr(), count, objects) };
    }
}

impl Drop for SlabCache {
    /// `kmem_cache_destroy()`, which warns if objects are left.
    fn drop(&mut self) {
        if self.leaked.load(Relaxed) {
            return;
        }
        // SAFETY: By the type invariants; the cache is no longer in use.
        unsafe { bindings::kmem_cache_destroy(self.raw.as_ptr()) };
    }
}

/// Allocates `size` bytes in any context (`kmalloc_nolock()`), to be freed by kfree(). May fail
/// often.
///
/// # Context
///
/// Any, NMI included.
pub(crate) fn kmalloc_nolock(size: usize) -> Option<NonNull<u8>> {
    // SAFETY: No requirements.
    NonNull::new(unsafe { sys::rcu_ptr_shim_kmalloc_nolock(size) }.cast())
}

/// Allocates `size` bytes; aligned to `size` if that is a power of two.
pub(crate) fn kmalloc(size: usize, gfp: u32) -> Option<NonNull<u8>> {
    // SAFETY: No requirements.
    NonNull::new(unsafe { sys::rcu_ptr_shim_kmalloc(size, gfp) }.cast())
}

/// Frees memory of [`kmalloc()`] or [`kmalloc_nolock()`], or an object of any kmem_cache.
///
/// # Context
///
/// Any but NMI, no raw spinlock held.
///
/// # Safety
///
/// It is no longer in use.
pub(crate) unsafe fn kfree(memory: NonNull<u8>) {
    // SAFETY: By the safety requirements of this function.
    unsafe { bindings::kfree(memory.as_ptr().cast()) };
}

/// Frees an object of kmalloc(), vmalloc() or any kmem_cache (`kvfree()`).
///
/// # Context
///
/// Any but NMI, no raw spinlock held.
///
/// # Safety
///
/// `object` is the start of a live object that is no longer in use.
pub(crate) unsafe fn kvfree(object: NonNull<u8>) {
    // SAFETY: By the safety requirements of this function.
    unsafe { bindings::kvfree(object.as_ptr().cast()) };
}

/// Frees objects of kmalloc(), large ones too, and of any kmem_caches (`kfree_bulk()`).
///
/// # Context
///
/// Softirq or task, interrupts on, no raw spinlock held.
///
/// # Safety
///
/// Each is the start of a live object that is no longer in use.
pub(crate) unsafe fn kfree_bulk(objects: &mut [*mut u8]) {
    let (count, objects) = (objects.len(), objects.as_mut_ptr().cast());
    // SAFETY: By the safety requirements of this function; without a cache the slab finds that of
    // each object.
    unsafe { bindings::kmem_cache_free_bulk(core::ptr::null_mut(), count, objects) };
}

/// The largest size that [`kmalloc_nolock()`] supports.
pub(crate) const MAX_NOLOCK_SIZE: usize = sys::RCU_PTR_SHIM_KMALLOC_MAX_CACHE_SIZE as usize;

/// `might_alloc()`: checks, in debug kernels, that the caller may allocate with `gfp`.
#[inline(always)]
pub(crate) fn might_alloc(gfp: u32) {
    if cfg!(any(CONFIG_LOCKDEP, CONFIG_DEBUG_ATOMIC_SLEEP)) {
        // SAFETY: No requirements.
        unsafe { sys::rcu_ptr_shim_might_alloc(gfp) };
    }
}

/// Whether `object` is guarded by KFENCE, so it has to be freed after each use.
#[inline]
pub(crate) fn is_kfence(object: NonNull<u8>) -> bool {
    // SAFETY: Only the address is looked at.
    cfg!(CONFIG_KFENCE) && unsafe { sys::rcu_ptr_shim_is_kfence(object.as_ptr().cast()) }
}

/// Hooks of this kernel at allocation and free.
pub(crate) struct SlabChecks {
    /// A checker has to see each free: KASAN, KMSAN, KCSAN, debugobjects, the checks of SLUB for
    /// all caches.
    pub(crate) objects: bool,
    /// Objects are zeroed at allocation (`init_on_alloc=1`).
    pub(crate) init_on_alloc: bool,
    /// Objects are zeroed when they are freed (`init_on_free=1`).
    pub(crate) init_on_free: bool,
}

/// Reads the configuration, which is constant after boot.
pub(crate) fn checks() -> SlabChecks {
    // SAFETY: No requirements.
    let bits = unsafe { sys::rcu_ptr_shim_checks() };
    SlabChecks {
        objects: bits & sys::RCU_PTR_CHECKS_OBJECTS != 0,
        init_on_alloc: bits & sys::RCU_PTR_CHECKS_INIT_ON_ALLOC != 0,
        init_on_free: bits & sys::RCU_PTR_CHECKS_INIT_ON_FREE != 0,
    }
}

/// Whether an allocation with `gfp` may sleep, which also means that interrupts are on.
pub(crate) fn may_block(gfp: u32) -> bool {
    gfp & sys::RCU_PTR_SHIM_GFP_MAY_BLOCK != 0
}

/// Whether an allocation with `gfp` must not fail (`__GFP_NOFAIL`).
pub(crate) fn may_not_fail(gfp: u32) -> bool {
    gfp & sys::RCU_PTR_SHIM_GFP_NOFAIL != 0
}

/// GFP flags for the allocation of a recycled object: without those that would apply to later
/// owners (accounting, zones), and without zeroing, which the caller does.
pub(crate) fn for_object(gfp: u32) -> u32 {
    gfp & !sys::RCU_PTR_SHIM_GFP_OF_CALLER
}

/// GFP flags for an allocation that also fills a sheaf: as [`for_object()`], and without memory
/// reserves and retries, which are for the caller's own object.
pub(crate) fn for_sheaf(gfp: u32) -> u32 {
    for_object(gfp) & !sys::RCU_PTR_SHIM_GFP_HARD | GFP_TRY
}

/// For a caller that may sleep and has a fallback: no retries of reclaim.
pub(crate) const GFP_TASK: u32 = bindings::GFP_KERNEL | GFP_TRY;
/// For a refill, which the next miss retries. Direct reclaim may wait for a slow device, so reclaim
/// is left to kswapd.
pub(crate) const GFP_REFILL: u32 = GFP_ATOMIC;
/// Flags of an attempt that may fail: no retries, no memory reserves, no warning.
const GFP_TRY: u32 = sys::RCU_PTR_SHIM_GFP_TRY;
/// For an attempt that may not sleep, and may fail.
pub(crate) const GFP_ATOMIC: u32 = bindings::GFP_NOWAIT | GFP_TRY;
