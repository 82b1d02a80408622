// SPDX-License-Identifier: GPL-2.0

//! Allocation and freeing of objects that go round, each pair as a type, so that the loops around
//! them hold direct calls: the kernel's caches, kmalloc_nolock(), and rcu_ptr's caches.

use super::{
    alloc,
    cache::{Args, SheafCache, Stats},
    free::{self, CallRcu, Free, KfreeRcu, KfreeRcuNolock},
    generated as sys,
    object::Object,
    slab::SlabCache,
};
use ::core::ptr::{self, NonNull};
use kernel::{
    bindings,
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// Bytes of an object.
pub(crate) const SIZE: usize = 64;

/// The caches that the functions use; null: not measured now.
static KERNEL: Atomic<*mut bindings::kmem_cache> = Atomic::new(ptr::null_mut());
static RCU_PTR: Atomic<*mut sys::rcu_ptr_cache> = Atomic::new(ptr::null_mut());

/// The caches, as long as it lives. One at a time.
pub(crate) struct Caches {
    _kernel: SlabCache,
    ours: SheafCache,
}

impl Caches {
    /// Makes them.
    ///
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        let kernel = SlabCache::new(c"rcu_ptr_bench_kernel", SIZE, 8, None, 0)?;
        let ours = SheafCache::new(c"rcu_ptr_bench_sheaf", SIZE, Args::default())?;
        KERNEL.store(kernel.raw(), Relaxed);
        RCU_PTR.store(ours.raw(), Relaxed);
        let _kernel = kernel;
        Ok(Self { _kernel, ours })
    }

    /// What rcu_ptr's cache did so far.
    pub(crate) fn stats(&self) -> Stats {
        self.ours.stats()
    }
}

impl Drop for Caches {
    fn drop(&mut self) {
        free::kernel_settle();
        KERNEL.store(ptr::null_mut(), Relaxed);
        RCU_PTR.store(ptr::null_mut(), Relaxed);
    }
}

/// A way to allocate and to free.
///
/// # Safety
///
/// `alloc()` gives fresh objects that `free()` takes.
pub(crate) unsafe trait Pair {
    /// An object.
    ///
    /// # Context
    ///
    /// That of the functions; there are [`Caches`].
    fn alloc() -> Option<NonNull<Object>>;

    /// Frees it after a grace period.
    ///
    /// # Context
    ///
    /// That of the functions; there are [`Caches`].
    ///
    /// # Safety
    ///
    /// `object` is from [`Pair::alloc()`] and the caller's.
    unsafe fn free(object: NonNull<Object>);
}

/// Nothing at all: what the loops cost.
pub(crate) struct Nothing;

// SAFETY: The object has no readers.
unsafe impl Pair for Nothing {
    #[inline(always)]
    fn alloc() -> Option<NonNull<Object>> {
        let mut object = NonNull::<Object>::dangling().as_ptr();
        // SAFETY: An empty statement: the value is not known to the compiler after it.
        unsafe { ::core::arch::asm!("/* {0} */", inout(reg) object, options(nostack)) };
        NonNull::new(object)
    }

    #[inline(always)]
    unsafe fn free(object: NonNull<Object>) {
        // SAFETY: An empty statement; it keeps the load of the pointer in the loop.
        unsafe { ::core::arch::asm!("/* {0} */", in(reg) object.as_ptr(), options(nostack)) };
    }
}

#[inline(always)]
fn kernel_alloc() -> Option<NonNull<Object>> {
    // SAFETY: There is a cache, by the context of `Pair::alloc()`.
    let object =
        unsafe { bindings::kmem_cache_alloc_noprof(KERNEL.load(Relaxed), bindings::GFP_KERNEL) };
    NonNull::new(object.cast())
}

/// `kmem_cache_alloc()` and `kfree_rcu()`: the slab's own sheaves.
pub(crate) struct KernelCache;

// SAFETY: kfree_rcu() takes objects of any kmem_cache.
unsafe impl Pair for KernelCache {
    #[inline(always)]
    fn alloc() -> Option<NonNull<Object>> {
        kernel_alloc()
    }

    #[inline(always)]
    unsafe fn free(object: NonNull<Object>) {
        // SAFETY: By the safety requirements of this function.
        unsafe { KfreeRcu::free(object) };
    }
}

/// `kmem_cache_alloc()` and `call_rcu()` with a callback that frees.
pub(crate) struct CallRcuCache;

// SAFETY: The callback's kvfree() takes objects of any kmem_cache.
unsafe impl Pair for CallRcuCache {
    #[inline(always)]
    fn alloc() -> Option<NonNull<Object>> {
        kernel_alloc()
    }

    #[inline(always)]
    unsafe fn free(object: NonNull<Object>) {
        // SAFETY: By the safety requirements of this function.
        unsafe { CallRcu::free(object) };
    }
}

/// `kmalloc_nolock()` and `kfree_rcu_nolock()`.
pub(crate) struct KmallocNolock;

// SAFETY: kfree_rcu_nolock() takes objects of kmalloc_nolock().
unsafe impl Pair for KmallocNolock {
    #[inline(always)]
    fn alloc() -> Option<NonNull<Object>> {
        alloc::kmalloc_nolock(SIZE).map(NonNull::cast)
    }

    #[inline(always)]
    unsafe fn free(object: NonNull<Object>) {
        // SAFETY: By the safety requirements of this function.
        unsafe { KfreeRcuNolock::free(object) };
    }
}

/// `rcu_ptr_cache_alloc()` and `rcu_ptr_cache_free_rcu()`.
pub(crate) struct Sheaf;

// SAFETY: Of the same cache.
unsafe impl Pair for Sheaf {
    #[inline(always)]
    fn alloc() -> Option<NonNull<Object>> {
        // SAFETY: There is a cache, by the context of `Pair::alloc()`.
        let object =
            unsafe { sys::__rcu_ptr_cache_alloc(RCU_PTR.load(Relaxed), bindings::GFP_KERNEL) };
        NonNull::new(object.cast())
    }

    #[inline(always)]
    unsafe fn free(object: NonNull<Object>) {
        // SAFETY: By the safety requirements of this function.
        unsafe { sys::rcu_ptr_cache_free_rcu(RCU_PTR.load(Relaxed), object.as_ptr().cast()) };
    }
}

/// `rcu_ptr_cache_alloc_nolock()` and `rcu_ptr_cache_free_rcu()`.
pub(crate) struct SheafNolock;

// SAFETY: Of the same cache.
unsafe impl Pair for SheafNolock {
    #[inline(always)]
    fn alloc() -> Option<NonNull<Object>> {
        // SAFETY: There is a cache, by the context of `Pair::alloc()`.
        let object = unsafe { sys::rcu_ptr_cache_alloc_nolock(RCU_PTR.load(Relaxed)) };
        NonNull::new(object.cast())
    }

    #[inline(always)]
    unsafe fn free(object: NonNull<Object>) {
        // SAFETY: By the safety requirements of this function.
        unsafe { Sheaf::free(object) };
    }
}
