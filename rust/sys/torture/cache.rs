// SPDX-License-Identifier: GPL-2.0

//! Caches with sheaves, by address.

use super::generated as sys;
use ::core::ptr::{self, NonNull};
use kernel::{
    bindings,
    error::from_err_ptr,
    prelude::*,
    sync::atomic::{Acquire, Atomic, Full},
};

/// What looks at the addresses of objects whose destructor runs.
type Body<'a> = dyn Fn(usize) + Sync + 'a;

static BODY: Atomic<*mut c_void> = Atomic::new(ptr::null_mut());

/// Calls `f`, and meanwhile `body` for each object that is destructed: caches with a destructor come and go
/// within. One caller at a time.
///
/// # Context
///
/// May sleep; `body` runs in a task.
pub(crate) fn during<R>(body: &Body<'_>, f: impl FnOnce() -> R) -> R {
    let mut wide = body;
    // ORDERING: Full: what the body refers to is there before a destructor finds it.
    BODY.xchg((&raw mut wide).cast(), Full);
    let ret = f();
    // ORDERING: Full; no destructor runs any more.
    BODY.xchg(ptr::null_mut(), Full);
    ret
}

/// # Safety
///
/// A cache with a destructor calls it, in [`during()`].
unsafe extern "C" fn destructed(object: *mut c_void) {
    // ORDERING: Pairs with the exchange in `during()`.
    let body = BODY.load(Acquire).cast::<&Body<'_>>();
    if !body.is_null() {
        // SAFETY: `during()` keeps both.
        unsafe { (*body)(object.expose_provenance()) };
    }
}

/// What a cache has besides its objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct With {
    /// A destructor, which [`during()`] hears of.
    pub(crate) destructor: bool,
    /// Readers that sleep (`gp::read_domain()`).
    pub(crate) domain: bool,
}

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
    /// Makes a cache; `capacity` 0 and `limit` 0 are the usual ones.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn new(
        name: &CStr,
        size: usize,
        capacity: u32,
        limit: u32,
        with: With,
    ) -> Result<Self> {
        let args = sys::rcu_ptr_cache_args {
            sheaf_capacity: capacity,
            barn_limit: limit,
            dtor: with.destructor.then_some(destructed),
            srcu: if with.domain {
                // SAFETY: No requirements.
                unsafe { sys::rcu_ptr_torture_domain() }
            } else {
                ptr::null_mut()
            },
            ..Default::default()
        };
        // SAFETY: `name` and `args` are valid for the call.
        let cache = from_err_ptr(unsafe {
            sys::rcu_ptr_cache_create(name.as_char_ptr(), size as c_uint, &args, 0)
        })?;
        // INVARIANT: Just made.
        NonNull::new(cache).map(Self).ok_or(ENOMEM)
    }

    /// `rcu_ptr_cache_alloc()`.
    ///
    /// # Context
    ///
    /// Any but NMI, and on PREEMPT_RT no hard interrupt; may sleep without `atomic`.
    pub(crate) fn alloc(&self, atomic: bool) -> Option<NonNull<u8>> {
        let gfp = if atomic {
            bindings::GFP_NOWAIT
        } else {
            bindings::GFP_KERNEL | 1 << bindings::___GFP_NORETRY_BIT
        };
        // SAFETY: By the type invariants.
        let object =
            unsafe { sys::__rcu_ptr_cache_alloc(self.0.as_ptr(), gfp | bindings::__GFP_NOWARN) };
        NonNull::new(object.cast())
    }

    /// `rcu_ptr_cache_alloc_nolock()`.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    pub(crate) fn alloc_nolock(&self) -> Option<NonNull<u8>> {
        // SAFETY: By the type invariants.
        NonNull::new(unsafe { sys::rcu_ptr_cache_alloc_nolock(self.0.as_ptr()) }.cast())
    }

    /// `rcu_ptr_cache_free()`.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    ///
    /// # Safety
    ///
    /// `object` is a live object of this cache that is the caller's, and no reader has it.
    pub(crate) unsafe fn free(&self, object: NonNull<u8>) {
        // SAFETY: By the safety requirements of this function.
        unsafe { sys::rcu_ptr_cache_free(self.0.as_ptr(), object.as_ptr().cast()) };
    }

    /// `rcu_ptr_cache_free_rcu()`.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    ///
    /// # Safety
    ///
    /// `object` is a live object of this cache that is the caller's.
    pub(crate) unsafe fn free_rcu(&self, object: NonNull<u8>) {
        // SAFETY: By the safety requirements of this function.
        unsafe { sys::rcu_ptr_cache_free_rcu(self.0.as_ptr(), object.as_ptr().cast()) };
    }

    /// `rcu_ptr_cache_barrier()`.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn barrier(&self) {
        // SAFETY: By the type invariants.
        unsafe { sys::rcu_ptr_cache_barrier(self.0.as_ptr()) };
    }

    /// `rcu_ptr_cache_prefill()`.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn prefill(&self, objects: usize) -> Result {
        // SAFETY: By the type invariants.
        kernel::error::to_result(unsafe {
            sys::rcu_ptr_cache_prefill(self.0.as_ptr(), objects as c_uint, bindings::GFP_KERNEL)
        })
    }
}

impl Drop for SheafCache {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; no longer in use.
        unsafe { sys::rcu_ptr_cache_destroy(self.0.as_ptr()) };
    }
}
