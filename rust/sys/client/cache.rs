// SPDX-License-Identifier: GPL-2.0

//! Caches with sheaves, as a Rust client calls them.

use super::generated as sys;
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::{from_err_ptr, to_result},
    prelude::*,
};

/// `dtor` of `struct rcu_ptr_cache_args`
pub(crate) type Destructor = unsafe extern "C" fn(*mut c_void);

/// `struct rcu_ptr_cache_limits`
pub(crate) type RawLimits = sys::rcu_ptr_cache_limits;

/// A cache, destroyed on drop.
///
/// # Invariants
///
/// The pointer is from `rcu_ptr_cache_create()`, and owned.
pub(crate) struct RawCache(NonNull<sys::rcu_ptr_cache>);

// SAFETY: Caches are used from any context.
unsafe impl Send for RawCache {}
// SAFETY: As above.
unsafe impl Sync for RawCache {}

impl RawCache {
    /// `rcu_ptr_cache_create()`
    ///
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Safety
    ///
    /// `dtor` may be called for what is freed into the cache, as the header says; its code is in a module
    /// that depends on rcu_ptr.ko, or stays for other reasons.
    pub(crate) unsafe fn new(
        name: &CStr,
        size: usize,
        align: usize,
        dtor: Option<Destructor>,
    ) -> Result<Self> {
        let args = sys::rcu_ptr_cache_args {
            align: align as c_uint,
            dtor,
            ..Default::default()
        };
        // SAFETY: `name` and `args` are valid for the call.
        let cache = from_err_ptr(unsafe {
            sys::rcu_ptr_cache_create(name.as_char_ptr(), size as c_uint, &args, 0)
        })?;
        // INVARIANT: Just made.
        NonNull::new(cache).map(Self).ok_or(ENOMEM)
    }

    /// `rcu_ptr_cache_alloc()` with `GFP_KERNEL`
    ///
    /// # Context
    ///
    /// May sleep.
    #[inline]
    pub(crate) fn alloc(&self) -> *mut u8 {
        // SAFETY: By the type invariants.
        unsafe { sys::__rcu_ptr_cache_alloc(self.0.as_ptr(), bindings::GFP_KERNEL) }.cast()
    }

    /// `rcu_ptr_cache_alloc()` with `GFP_ATOMIC`
    ///
    /// # Context
    ///
    /// That of `GFP_ATOMIC`.
    #[inline]
    pub(crate) fn alloc_atomic(&self) -> *mut u8 {
        // SAFETY: By the type invariants.
        unsafe { sys::__rcu_ptr_cache_alloc(self.0.as_ptr(), bindings::GFP_ATOMIC) }.cast()
    }

    /// `rcu_ptr_cache_alloc_nolock()`
    ///
    /// # Context
    ///
    /// Any, NMI included.
    #[inline]
    pub(crate) fn alloc_nolock(&self) -> *mut u8 {
        // SAFETY: By the type invariants.
        unsafe { sys::rcu_ptr_cache_alloc_nolock(self.0.as_ptr()) }.cast()
    }

    /// `rcu_ptr_cache_free()`
    ///
    /// # Context
    ///
    /// Any, NMI included.
    ///
    /// # Safety
    ///
    /// `object` is a live object of this cache that is the caller's alone.
    #[inline]
    pub(crate) unsafe fn free(&self, object: *mut u8) {
        // SAFETY: By the safety requirements of this function.
        unsafe { sys::rcu_ptr_cache_free(self.0.as_ptr(), object.cast()) };
    }

    /// `rcu_ptr_cache_free_rcu()`
    ///
    /// # Context
    ///
    /// Any, NMI included.
    ///
    /// # Safety
    ///
    /// `object` is a live object of this cache that is the caller's.
    #[inline]
    pub(crate) unsafe fn free_rcu(&self, object: *mut u8) {
        // SAFETY: By the safety requirements of this function.
        unsafe { sys::rcu_ptr_cache_free_rcu(self.0.as_ptr(), object.cast()) };
    }

    /// `rcu_ptr_cache_barrier()`
    ///
    /// # Context
    ///
    /// May sleep; not in a destructor.
    pub(crate) fn barrier(&self) {
        // SAFETY: By the type invariants.
        unsafe { sys::rcu_ptr_cache_barrier(self.0.as_ptr()) };
    }

    /// `rcu_ptr_cache_set_limits()`
    ///
    /// # Context
    ///
    /// Task or softirq.
    pub(crate) fn set_limits(&self, limits: &RawLimits) -> Result {
        // SAFETY: By the type invariants; `limits` is valid for the call.
        to_result(unsafe { sys::rcu_ptr_cache_set_limits(self.0.as_ptr(), limits) })
    }

    /// `rcu_ptr_cache_prefill()`
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn prefill(&self, objects: u32) -> Result {
        // SAFETY: By the type invariants.
        to_result(unsafe {
            sys::rcu_ptr_cache_prefill(self.0.as_ptr(), objects, bindings::GFP_KERNEL)
        })
    }
}

impl Drop for RawCache {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; no longer in use.
        unsafe { sys::rcu_ptr_cache_destroy(self.0.as_ptr()) };
    }
}
