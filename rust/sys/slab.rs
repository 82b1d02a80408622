// SPDX-License-Identifier: GPL-2.0

//! kmem_caches, and kmalloc().
//!
//! C header: [`include/linux/slab.h`](srctree/include/linux/slab.h)
//!
//! # Context
//!
//! What allocates: as `gfp` says, never NMI, unless a function says otherwise. What makes or
//! destroys a cache may sleep; what only looks is for any context, NMI included.

use super::generated as sys;
use core::ptr::NonNull;
use kernel::{
    bindings,
    prelude::*,
    sync::atomic::{AtomicFlag, Relaxed},
};

/// Flags that make no sense for objects that are allocated again without the slab's knowledge.
pub(crate) const INVALID_FLAGS: u32 = sys::rcu_ptr_shim_constants_RCU_PTR_SHIM_INVALID_SLAB_FLAGS;

/// Flags of the slab's own checks.
pub(crate) const DEBUG_FLAGS: u32 = sys::rcu_ptr_shim_constants_RCU_PTR_SHIM_SLAB_DEBUG_FLAGS;

/// Readers may look at objects that are in use again.
pub(crate) const TYPESAFE_BY_RCU: u32 =
    sys::rcu_ptr_shim_constants_RCU_PTR_SHIM_SLAB_TYPESAFE_BY_RCU;

/// Flags that ask for memory of a kind that [`kmalloc_nolock()`] doesn't give.
pub(crate) const OWN_MEMORY_FLAGS: u32 = sys::rcu_ptr_shim_constants_RCU_PTR_SHIM_OWN_MEMORY_FLAGS;

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

// SAFETY: The slab locks what it has to.
unsafe impl Send for SlabCache {}
// SAFETY: As above.
unsafe impl Sync for SlabCache {}

impl SlabCache {
    /// Makes a cache (`kmem_cache_create()`) that is never merged with another, so that destroying
    /// it sees every object that is left. `ctor` is called for each object of fresh memory.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, and whatever the slab refuses as well.
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
                flags | sys::rcu_ptr_shim_constants_RCU_PTR_SHIM_SLAB_NO_MERGE,
            )
        };
        // INVARIANT: Just made.
        let raw = NonNull::new(raw).ok_or(ENOMEM)?;
        let leaked = AtomicFlag::new(false);
        Ok(Self { raw, leaked })
    }

    /// Lets the kmem_cache live for ever, for objects that are.
    pub(crate) fn leak(&self) {
        self.leaked.store(true, Relaxed);
    }

    /// An object (`kmem_cache_alloc()`).
    #[inline]
    pub(crate) fn alloc(&self, gfp: u32) -> Option<NonNull<u8>> {
        // SAFETY: By the type invariants.
        NonNull::new(unsafe { bindings::kmem_cache_alloc_noprof(self.raw.as_ptr(), gfp) }.cast())
    }

    /// An object near `node` (`kmem_cache_alloc_node()`).
    pub(crate) fn alloc_near(&self, gfp: u32, node: usize) -> Option<NonNull<u8>> {
        // SAFETY: By the type invariants.
        let object = unsafe {
            bindings::kmem_cache_alloc_node_noprof(self.raw.as_ptr(), gfp, node as c_int)
        };
        NonNull::new(object.cast())
    }

    /// Fills `out` with objects, or does nothing (`kmem_cache_alloc_bulk()`).
    ///
    /// # Context
    ///
    /// Interrupts are on, otherwise as `gfp` says.
    pub(crate) fn alloc_bulk(&self, gfp: u32, out: &mut [*mut u8]) -> bool {
        // SAFETY: By the type invariants; `out` has room for that many.
        unsafe {
            bindings::kmem_cache_alloc_bulk_noprof(
                self.raw.as_ptr(),
                gfp,
                out.len(),
                out.as_mut_ptr().cast(),
            )
        }
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
        // SAFETY: By the safety requirements of this function and the type invariants.
        unsafe {
            bindings::kmem_cache_free_bulk(
                self.raw.as_ptr(),
                objects.len(),
                objects.as_mut_ptr().cast(),
            )
        };
    }
}

impl Drop for SlabCache {
    /// `kmem_cache_destroy()`: complains where objects are left.
    fn drop(&mut self) {
        if self.leaked.load(Relaxed) {
            return;
        }
        // SAFETY: By the type invariants; the cache is no longer in use.
        unsafe { bindings::kmem_cache_destroy(self.raw.as_ptr()) };
    }
}

/// An object of `size` bytes from any context (`kmalloc_nolock()`), for `kfree()`. Often there is
/// none.
///
/// # Context
///
/// Any, NMI included.
pub(crate) fn kmalloc_nolock(size: usize) -> Option<NonNull<u8>> {
    // SAFETY: No requirements.
    NonNull::new(unsafe { sys::rcu_ptr_shim_kmalloc_nolock(size) }.cast())
}

/// `size` bytes, aligned to as much: `size` is a power of two.
pub(crate) fn kmalloc(size: usize, gfp: u32) -> Option<NonNull<u8>> {
    // SAFETY: No requirements.
    NonNull::new(unsafe { sys::rcu_ptr_shim_kmalloc(size, gfp) }.cast())
}

/// Gives memory of [`kmalloc()`] or [`kmalloc_nolock()`], or an object of any kmem_cache, back.
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
    // SAFETY: By the safety requirements of this function; without a cache the slab finds that of
    // each object.
    unsafe {
        bindings::kmem_cache_free_bulk(
            core::ptr::null_mut(),
            objects.len(),
            objects.as_mut_ptr().cast(),
        )
    };
}

/// The largest object that [`kmalloc_nolock()`] knows.
pub(crate) const MAX_NOLOCK_SIZE: usize =
    sys::rcu_ptr_shim_constants_RCU_PTR_SHIM_KMALLOC_MAX_CACHE_SIZE as usize;

/// Tells debug kernels that this may allocate with `gfp` (`might_alloc()`), whether it does or not.
#[inline(always)]
pub(crate) fn might_alloc(gfp: u32) {
    if cfg!(any(CONFIG_LOCKDEP, CONFIG_DEBUG_ATOMIC_SLEEP)) {
        // SAFETY: No requirements.
        unsafe { sys::rcu_ptr_shim_might_alloc(gfp) };
    }
}

/// Whether `object` is one of those that KFENCE watches: each is to be freed after each use.
#[inline]
pub(crate) fn is_kfence(object: NonNull<u8>) -> bool {
    // SAFETY: Only the address is looked at.
    cfg!(CONFIG_KFENCE) && unsafe { sys::rcu_ptr_shim_is_kfence(object.as_ptr().cast()) }
}

/// What this kernel does when objects are allocated and freed.
pub(crate) struct Checks {
    /// Something looks at them that has to know when they are freed: KASAN, KMSAN, KCSAN,
    /// debugobjects, SLUB's checks of all caches.
    pub(crate) objects: bool,
    /// They are zeroed when they are allocated (`init_on_alloc=1`).
    pub(crate) init_on_alloc: bool,
    /// They are zeroed when they are freed (`init_on_free=1`).
    pub(crate) init_on_free: bool,
}

/// Looks; nothing of it changes later.
pub(crate) fn checks() -> Checks {
    // SAFETY: No requirements.
    let bits = unsafe { sys::rcu_ptr_shim_checks() };
    Checks {
        objects: bits & sys::rcu_ptr_checks_RCU_PTR_CHECKS_OBJECTS != 0,
        init_on_alloc: bits & sys::rcu_ptr_checks_RCU_PTR_CHECKS_INIT_ON_ALLOC != 0,
        init_on_free: bits & sys::rcu_ptr_checks_RCU_PTR_CHECKS_INIT_ON_FREE != 0,
    }
}

/// Whether an allocation with `gfp` may sleep, which also means that interrupts are on.
pub(crate) fn may_block(gfp: u32) -> bool {
    gfp & sys::rcu_ptr_shim_constants_RCU_PTR_SHIM_GFP_MAY_BLOCK != 0
}

/// Whether an allocation with `gfp` has to succeed.
pub(crate) fn may_not_fail(gfp: u32) -> bool {
    gfp & sys::rcu_ptr_shim_constants_RCU_PTR_SHIM_GFP_NOFAIL != 0
}

/// The flags of an allocation for one object: without those that later owners of the object would
/// inherit (accounting, zones), and without zeroing, which is done by the caller.
pub(crate) fn for_object(gfp: u32) -> u32 {
    gfp & !sys::rcu_ptr_shim_constants_RCU_PTR_SHIM_GFP_OF_CALLER
}

/// The flags of an allocation that fills a sheaf on the way: also without memory reserves and
/// without retries, which are for the one object of the caller.
pub(crate) fn for_sheaf(gfp: u32) -> u32 {
    for_object(gfp) & !sys::rcu_ptr_shim_constants_RCU_PTR_SHIM_GFP_HARD | GFP_TRY
}

/// Of a caller that may sleep and can do without: light on reclaim.
pub(crate) const GFP_TASK: u32 = bindings::GFP_KERNEL | GFP_TRY;
/// Of a refill, which the next miss retries: reclaim, which may wait for a slow device, is left to
/// kswapd.
pub(crate) const GFP_REFILL: u32 = GFP_ATOMIC;
/// Flags of an attempt that may fail: no retries, no memory reserves, no warning.
const GFP_TRY: u32 = sys::rcu_ptr_shim_constants_RCU_PTR_SHIM_GFP_TRY;
/// Flags of an attempt that may not sleep, and may fail.
pub(crate) const GFP_ATOMIC: u32 = bindings::GFP_NOWAIT | GFP_TRY;
