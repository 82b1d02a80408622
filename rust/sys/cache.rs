// SPDX-License-Identifier: GPL-2.0

//! Caches of `rcu_ptr.ko`, with untyped objects.
//!
//! # Context
//!
//! That of the C function: include/linux/rcu_ptr.h.

use super::generated as sys;
use ::core::{
    ops::Deref,
    ptr::{self, NonNull},
};
use kernel::{
    alloc::Flags,
    bindings,
    error::{from_err_ptr, to_result},
    prelude::*,
};

/// GFP flags that apply to one allocation only: accounting, reserves, zeroing.
pub(crate) const GFP_SPECIAL: u32 = bindings::GFP_KERNEL_ACCOUNT
    | bindings::GFP_ATOMIC
    | bindings::__GFP_ZERO
    | 1 << bindings::___GFP_MEMALLOC_BIT;

/// A constructor or destructor.
pub(crate) type ObjectFn = sys::ObjectFn;

/// Arguments of `rcu_ptr_cache_create()`; 0 is the default of each.
pub(crate) type Args = sys::rcu_ptr_cache_args;

/// Arguments for a cache that never uses kmalloc_nolock(), because of its alignment.
pub(crate) fn own_memory() -> Args {
    Args {
        align: 64,
        ..Args::default()
    }
}

/// Arguments with a sheaf capacity and a barn limit; 0: the default.
pub(crate) fn sheaves(capacity: u32, barn_limit: u32) -> Args {
    Args {
        sheaf_capacity: capacity,
        barn_limit,
        ..Args::default()
    }
}

/// Limits of `rcu_ptr_cache_set_limits()`; 0 is the default of each.
pub(crate) type Limits = sys::rcu_ptr_cache_limits;

/// `SLAB_ACCOUNT`: the allocating task is charged for an object.
#[cfg(CONFIG_MEMCG)]
pub(crate) const ACCOUNT: u32 = 1 << bindings::_slab_flag_bits__SLAB_ACCOUNT;
/// This kernel does not charge memory.
#[cfg(not(CONFIG_MEMCG))]
pub(crate) const ACCOUNT: u32 = 0;

/// `GFP_KERNEL | __GFP_NOFAIL`
pub(crate) const GFP_NOFAIL: u32 = bindings::GFP_KERNEL | 1 << bindings::___GFP_NOFAIL_BIT;

/// Converts `flags` to a `gfp_t`. The `kernel` crate does not expose the bits, but those that
/// matter for an object of a cache are combinations of these.
#[inline]
pub(crate) fn gfp(flags: Flags) -> u32 {
    const KNOWN: [(Flags, u32); 5] = [
        (GFP_ATOMIC, bindings::GFP_ATOMIC),
        (GFP_KERNEL, bindings::GFP_KERNEL),
        (GFP_KERNEL_ACCOUNT, bindings::GFP_KERNEL_ACCOUNT),
        (GFP_NOWAIT, bindings::GFP_NOWAIT),
        (__GFP_NOWARN, bindings::__GFP_NOWARN),
    ];
    let of = |&(known, bits): &(Flags, u32)| if flags.contains(known) { bits } else { 0 };
    KNOWN.iter().map(of).fold(0, |gfp, bits| gfp | bits)
}

/// Counters of `rcu_ptr_cache_get_stats()`.
pub(crate) type Stats = sys::rcu_ptr_cache_stats;

/// A cache, destroyed on drop.
///
/// # Invariants
///
/// The pointer is from `rcu_ptr_cache_create()`, and owned.
pub(crate) struct SheafCache(NonNull<sys::rcu_ptr_cache>);

// SAFETY: Caches are used from any task.
unsafe impl Send for SheafCache {}
// SAFETY: As above.
unsafe impl Sync for SheafCache {}

impl SheafCache {
    /// Creates a cache.
    pub(crate) fn new(name: &CStr, size: usize, args: Args) -> Result<Self> {
        Self::with_flags(name, size, args, 0)
    }

    /// As [`Self::new()`], with SLAB flags.
    pub(crate) fn with_flags(name: &CStr, size: usize, args: Args, flags: u32) -> Result<Self> {
        // SAFETY: The functions that tests pass accept their objects; their domains outlive the
        // cache.
        unsafe { Self::create(name, size, args, flags) }
    }

    /// `rcu_ptr_cache_create()`.
    ///
    /// # Safety
    ///
    /// The functions of `args` may be called for all objects of the cache, as the header says;
    /// their code is in a module that depends on rcu_ptr.ko, or is never freed. The domain outlives
    /// the cache.
    pub(crate) unsafe fn create(name: &CStr, size: usize, args: Args, flags: u32) -> Result<Self> {
        // SAFETY: `name` and `args` are valid for the call, and by the safety requirements of this
        // function.
        let cache = from_err_ptr(unsafe {
            sys::rcu_ptr_cache_create(name.as_char_ptr(), size as c_uint, &args, flags)
        })?;
        // INVARIANT: Just made.
        NonNull::new(cache).map(Self).ok_or(ENOMEM)
    }

    /// `rcu_ptr_cache_alloc()` with `GFP_KERNEL` or `GFP_ATOMIC`.
    #[inline]
    pub(crate) fn alloc(&self, atomic: bool) -> Option<NonNull<u8>> {
        self.alloc_with(if atomic {
            bindings::GFP_ATOMIC
        } else {
            bindings::GFP_KERNEL
        })
    }

    /// Allocates `n` objects with `GFP_KERNEL`.
    pub(crate) fn alloc_many(&self, n: usize) -> Result<CacheObjects> {
        let mut objects = KVVec::with_capacity(n, GFP_KERNEL)?;
        for _ in 0..n {
            objects.push(self.alloc(false).ok_or(ENOMEM)?, GFP_KERNEL)?;
        }
        Ok(CacheObjects(objects))
    }

    /// `rcu_ptr_cache_alloc()` with any flags.
    #[inline]
    pub(crate) fn alloc_with(&self, gfp: u32) -> Option<NonNull<u8>> {
        // SAFETY: By the type invariants.
        NonNull::new(unsafe { sys::__rcu_ptr_cache_alloc(self.0.as_ptr(), gfp) }.cast())
    }

    /// `rcu_ptr_cache_alloc_nolock()`.
    #[inline]
    pub(crate) fn alloc_nolock(&self) -> Option<NonNull<u8>> {
        // SAFETY: By the type invariants.
        NonNull::new(unsafe { sys::rcu_ptr_cache_alloc_nolock(self.0.as_ptr()) }.cast())
    }

    /// `rcu_ptr_cache_free()`.
    ///
    /// # Safety
    ///
    /// `object` is a live object of this cache that the caller owns; for `free()`, without readers.
    #[inline]
    pub(crate) unsafe fn free(&self, object: NonNull<u8>) {
        // SAFETY: By the safety requirements of this function.
        unsafe { sys::rcu_ptr_cache_free(self.0.as_ptr(), object.as_ptr().cast()) };
    }

    /// `rcu_ptr_cache_free_rcu()`.
    ///
    /// # Safety
    ///
    /// As for [`Self::free()`].
    #[inline]
    pub(crate) unsafe fn free_rcu(&self, object: NonNull<u8>) {
        // SAFETY: By the safety requirements of this function.
        unsafe { sys::rcu_ptr_cache_free_rcu(self.0.as_ptr(), object.as_ptr().cast()) };
    }

    /// [`Self::free_rcu()`] of each of `objects`.
    ///
    /// # Safety
    ///
    /// As there, for each.
    pub(crate) unsafe fn free_rcu_all(&self, objects: &[NonNull<u8>]) {
        for &object in objects {
            // SAFETY: By the safety requirements of this function.
            unsafe { self.free_rcu(object) };
        }
    }

    /// `rcu_ptr_cache_get_stats()`.
    pub(crate) fn stats(&self) -> Stats {
        let mut stats = Default::default();
        // SAFETY: By the type invariants.
        unsafe { sys::rcu_ptr_cache_get_stats(self.0.as_ptr(), &mut stats) };
        stats
    }

    /// `rcu_ptr_cache_size()`.
    pub(crate) fn size(&self) -> usize {
        // SAFETY: By the type invariants.
        unsafe { sys::rcu_ptr_cache_size(self.0.as_ptr()) as usize }
    }

    /// `rcu_ptr_cache_prefill()` with `GFP_KERNEL`.
    pub(crate) fn prefill(&self, objects: usize) -> Result {
        self.prefill_with(objects, bindings::GFP_KERNEL)
    }

    /// `rcu_ptr_cache_prefill()` with any flags.
    pub(crate) fn prefill_with(&self, objects: usize, gfp: u32) -> Result {
        // SAFETY: By the type invariants.
        to_result(unsafe { sys::rcu_ptr_cache_prefill(self.0.as_ptr(), objects as c_uint, gfp) })
    }

    /// Objects in rcu sheaves, plus the number of sheaves that wait for a grace period.
    pub(crate) fn waiting(&self) -> u64 {
        let stats = self.stats();
        stats.now_rcu + stats.now_closed + stats.now_waiting
    }

    /// The C cache, for direct calls of its functions.
    pub(crate) fn raw(&self) -> *mut sys::rcu_ptr_cache {
        self.0.as_ptr()
    }

    /// A handle that does not destroy the cache.
    pub(crate) fn handle(&self) -> Handle {
        Handle(self.0)
    }

    /// `rcu_ptr_cache_set_limits()`.
    pub(crate) fn set_limits(&self, limits: &Limits) -> Result {
        // SAFETY: By the type invariants; `limits` is valid for the call.
        to_result(unsafe { sys::rcu_ptr_cache_set_limits(self.0.as_ptr(), limits) })
    }

    /// `rcu_ptr_cache_get_limits()`.
    pub(crate) fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        // SAFETY: By the type invariants.
        unsafe { sys::rcu_ptr_cache_get_limits(self.0.as_ptr(), &mut limits) };
        limits
    }

    /// Zeroes an object, as `rcu_ptr_cache_alloc()` does for `__GFP_ZERO`.
    ///
    /// # Safety
    ///
    /// `object` is a live object of this cache that the caller owns.
    pub(crate) unsafe fn zero(&self, object: NonNull<u8>) {
        // SAFETY: By the safety requirements of this function.
        unsafe { sys::__rcu_ptr_cache_zero(self.0.as_ptr(), object.as_ptr().cast()) };
    }

    /// `rcu_ptr_cache_barrier()`.
    pub(crate) fn barrier(&self) {
        // SAFETY: By the type invariants.
        unsafe { sys::rcu_ptr_cache_barrier(self.0.as_ptr()) };
    }
}

/// Allocated objects, which other CPUs may free.
pub(crate) struct CacheObjects(pub(crate) KVVec<NonNull<u8>>);

// SAFETY: Shares the addresses only.
unsafe impl Sync for CacheObjects {}

impl Deref for CacheObjects {
    type Target = [NonNull<u8>];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// A cache, for use by the destructor of its objects.
#[derive(Clone, Copy)]
pub(crate) struct Handle(NonNull<sys::rcu_ptr_cache>);

// SAFETY: As for the cache.
unsafe impl Send for Handle {}
// SAFETY: As for the cache.
unsafe impl Sync for Handle {}

impl Handle {
    /// `rcu_ptr_cache_free_rcu()`.
    ///
    /// # Safety
    ///
    /// `object` is a live object of this cache that the caller owns; the cache is not destroyed
    /// yet.
    pub(crate) unsafe fn free_rcu(self, object: NonNull<u8>) {
        // SAFETY: By the safety requirements of this function.
        unsafe { sys::rcu_ptr_cache_free_rcu(self.0.as_ptr(), object.as_ptr().cast()) };
    }
}

impl Drop for SheafCache {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; no longer in use.
        unsafe { sys::rcu_ptr_cache_destroy(self.0.as_ptr()) };
    }
}

/// Calls every function that accepts NULL.
pub(crate) fn null(cache: &SheafCache) {
    // SAFETY: NULL is allowed.
    unsafe {
        sys::rcu_ptr_cache_free(cache.0.as_ptr(), ptr::null_mut());
        sys::rcu_ptr_cache_free_rcu(cache.0.as_ptr(), ptr::null_mut());
        sys::rcu_ptr_cache_destroy(ptr::null_mut());
    }
}

/// Addresses of the functions that allocate and free.
pub(crate) fn functions() -> [usize; 4] {
    [
        sys::__rcu_ptr_cache_alloc as *const () as usize,
        sys::rcu_ptr_cache_alloc_nolock as *const () as usize,
        sys::rcu_ptr_cache_free as *const () as usize,
        sys::rcu_ptr_cache_free_rcu as *const () as usize,
    ]
}
