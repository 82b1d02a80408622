// SPDX-License-Identifier: GPL-2.0

//! Objects of the benchmark, and the functions that it measures. Each function is a type, so that
//! loops are compiled with direct calls.
//!
//! # Context
//!
//! A task that may sleep, unless a function says otherwise.

use super::{
    alloc::{self, Checks, RawCache},
    cache::{Args, SheafCache, Stats},
    generated as sys,
    slab::{self, SlabCache},
};
use ::core::ptr::{self, NonNull};
use kernel::{
    bindings,
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// The start of every object. All measured functions share the head: its first 8 bytes are the
/// `struct rcu_ptr` or `struct kvfree_rcu_head`, all 16 the `struct rcu_head`.
#[repr(C)]
pub(crate) struct Object {
    payload: u64,
    head: bindings::callback_head,
}

impl Object {
    /// The head of `object`.
    ///
    /// # Safety
    ///
    /// `object` is valid.
    #[inline(always)]
    unsafe fn head(object: NonNull<Object>) -> *mut bindings::callback_head {
        // SAFETY: By the safety requirements of this function.
        unsafe { &raw mut (*object.as_ptr()).head }
    }
}

/// An allocator, and the size of its objects.
pub(crate) enum ObjectKind {
    /// kmalloc(), large sizes too.
    Kmalloc(usize),
    /// vmalloc().
    Vmalloc(usize),
    /// A kmem_cache of this benchmark.
    Cache(RawCache, usize),
}

impl ObjectKind {
    /// Reads `kmalloc-N`, `cache-N` or `vmalloc-N`.
    ///
    /// # Errors
    ///
    /// `EINVAL` for another text or a size that does not hold an [`Object`], `ENOMEM`.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let (kind, size) = name.split_once('-').ok_or(EINVAL)?;
        let size: usize = size.parse().map_err(|_| EINVAL)?;
        if size < size_of::<Object>() {
            return Err(EINVAL);
        }
        match kind {
            "kmalloc" => Ok(Self::Kmalloc(size)),
            "vmalloc" => Ok(Self::Vmalloc(size)),
            "cache" => {
                let cache = RawCache::new("rcu_ptr_bench", size, Checks::None)?;
                Ok(Self::Cache(cache, size))
            }
            _ => Err(EINVAL),
        }
    }

    /// Bytes of an object.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Kmalloc(size) | Self::Vmalloc(size) | Self::Cache(_, size) => *size,
        }
    }

    /// Whether kfree() takes its objects.
    pub(crate) fn is_slab(&self) -> bool {
        !matches!(self, Self::Vmalloc(_))
    }

    /// An object.
    #[inline]
    pub(crate) fn alloc(&self) -> Result<NonNull<Object>> {
        let raw = match self {
            Self::Kmalloc(size) => alloc::kmalloc(*size, bindings::GFP_KERNEL),
            Self::Vmalloc(size) => alloc::vmalloc(*size, bindings::GFP_KERNEL),
            Self::Cache(cache, _) => cache.alloc(),
        };
        raw.map(NonNull::cast).ok_or(ENOMEM)
    }
}

/// Bytes of an object of [`Alloc`].
pub(crate) const SIZE: usize = 64;

/// Caches that the functions use; null while there are no [`Caches`].
static KERNEL: Atomic<*mut bindings::kmem_cache> = Atomic::new(ptr::null_mut());
static RCU_PTR: Atomic<*mut sys::rcu_ptr_cache> = Atomic::new(ptr::null_mut());

/// Owns the caches. At most one exists.
pub(crate) struct Caches {
    _kernel: SlabCache,
    ours: SheafCache,
}

impl Caches {
    /// Makes them.
    pub(crate) fn new() -> Result<Self> {
        let kernel = SlabCache::new(c"rcu_ptr_bench_kernel", SIZE, 8, None, 0)?;
        let ours = SheafCache::new(c"rcu_ptr_bench_sheaf", SIZE, Args::default())?;
        KERNEL.store(kernel.raw.as_ptr(), Relaxed);
        RCU_PTR.store(ours.raw(), Relaxed);
        let _kernel = kernel;
        Ok(Self { _kernel, ours })
    }

    /// Counters of rcu_ptr's cache.
    pub(crate) fn stats(&self) -> Stats {
        self.ours.stats()
    }
}

impl Drop for Caches {
    fn drop(&mut self) {
        kernel_settle();
        KERNEL.store(ptr::null_mut(), Relaxed);
        RCU_PTR.store(ptr::null_mut(), Relaxed);
    }
}

/// A function that frees an object.
pub(crate) trait Free {
    /// Frees `object`, or returns `false` and leaves it to the caller.
    ///
    /// # Context
    ///
    /// That of the function.
    ///
    /// # Safety
    ///
    /// `object` is live, owned by the caller, and of a kind that the function accepts.
    unsafe fn free(object: NonNull<Object>) -> bool;
}

/// A function that allocates an object of [`SIZE`] bytes.
pub(crate) trait Alloc {
    /// An object.
    ///
    /// # Context
    ///
    /// That of the function; there are [`Caches`].
    fn alloc() -> Option<NonNull<Object>>;
}

/// No function, to measure the loop. The caller keeps the object.
pub(crate) struct Nothing;

impl Free for Nothing {
    #[inline(always)]
    unsafe fn free(object: NonNull<Object>) -> bool {
        // Not black_box(), which would store the pointer in memory.
        // SAFETY: An empty statement; it keeps the load of the pointer in the loop.
        unsafe { ::core::arch::asm!("/* {0} */", in(reg) object.as_ptr(), options(nostack)) };
        true
    }
}

impl Alloc for Nothing {
    #[inline(always)]
    fn alloc() -> Option<NonNull<Object>> {
        let mut object = NonNull::<Object>::dangling().as_ptr();
        // SAFETY: An empty statement: the value is not known to the compiler after it.
        unsafe { ::core::arch::asm!("/* {0} */", inout(reg) object, options(nostack)) };
        NonNull::new(object)
    }
}

/// # Safety
///
/// `head` is that of an [`Object`] whose grace period is over.
unsafe extern "C" fn free_callback(head: *mut bindings::callback_head) {
    // SAFETY: By the safety requirements of this function.
    unsafe {
        let object = head.byte_sub(::core::mem::offset_of!(Object, head));
        slab::kvfree(NonNull::new_unchecked(object.cast()));
    }
}

/// Defines a type for each function that frees: the expansion of a macro, or a call with a callback
/// that frees.
macro_rules! free {
    ($($name:ident => |$head:ident, $object:ident| $call:expr;)*) => {
        $(
            pub(crate) struct $name;

            impl Free for $name {
                #[inline(always)]
                unsafe fn free(object: NonNull<Object>) -> bool {
                    // SAFETY: By the safety requirements of this function. `settle()` waits for
                    // callbacks, and there is a cache, by the context of `Alloc::alloc()`.
                    unsafe {
                        let $head = Object::head(object);
                        let $object = object.as_ptr().cast::<c_void>();
                        $call
                    };
                    true
                }
            }
        )*
    };
}

free! {
    Kfree => |_head, object| bindings::kfree(object);
    CallRcu => |head, _object| bindings::call_rcu(head, Some(free_callback));
    KfreeRcu => |head, object| bindings::kvfree_call_rcu(head.cast(), object);
    KfreeRcuNolock => |head, object| bindings::kfree_call_rcu_nolock(head.cast(), object);
    RcuPtrKvfree => |head, object| sys::__rcu_ptr_kvfree(head.cast(), object);
    RcuPtrKfreeNolock => |head, object| sys::__rcu_ptr_kfree_nolock(head.cast(), object);
    RcuPtrCall => |head, _object| sys::rcu_ptr_call(head, Some(free_callback));
    RcuPtrCallSleepable => |head, _object| sys::rcu_ptr_call_sleepable(head, Some(free_callback));
    CacheFreeRcu => |_head, object| sys::rcu_ptr_cache_free_rcu(RCU_PTR.load(Relaxed), object);
}

pub(crate) struct RcuPtrTryKfreeNolock;

impl Free for RcuPtrTryKfreeNolock {
    #[inline(always)]
    unsafe fn free(object: NonNull<Object>) -> bool {
        // SAFETY: By the safety requirements of this function.
        unsafe { sys::__rcu_ptr_try_kfree_nolock(object.as_ptr().cast()) }
    }
}

/// Defines a type for each function that allocates.
macro_rules! alloc {
    ($($name:ident => $call:expr;)*) => {
        $(
            pub(crate) struct $name;

            impl Alloc for $name {
                #[inline(always)]
                fn alloc() -> Option<NonNull<Object>> {
                    // SAFETY: There are caches, by the context of `Alloc::alloc()`.
                    NonNull::new(unsafe { $call }.cast())
                }
            }
        )*
    };
}

alloc! {
    KernelCache => bindings::kmem_cache_alloc_noprof(KERNEL.load(Relaxed), bindings::GFP_KERNEL);
    KmallocNolock => sys::rcu_ptr_shim_kmalloc_nolock(SIZE);
    Sheaf => sys::__rcu_ptr_cache_alloc(RCU_PTR.load(Relaxed), bindings::GFP_KERNEL);
    SheafNolock => sys::rcu_ptr_cache_alloc_nolock(RCU_PTR.load(Relaxed));
}

/// Frees `objects` without a grace period, as the engines do after one (`kfree_bulk()`).
///
/// # Safety
///
/// Each is live, owned by the caller, and not a vmalloc object.
pub(crate) unsafe fn kfree_bulk(objects: &mut [NonNull<Object>]) {
    let (start, count) = (objects.as_mut_ptr().cast(), objects.len());
    // SAFETY: By the safety requirements of this function; the same words, as pointers to bytes.
    unsafe { slab::kfree_bulk(::core::slice::from_raw_parts_mut(start, count)) };
}

/// Waits for the callbacks of the kernel's own functions (`rcu_barrier()`).
pub(crate) use super::gp::barrier as kernel_settle;

/// `rcu_ptr_barrier()`
pub(crate) fn rcu_ptr_settle() {
    // SAFETY: In process context.
    unsafe { sys::rcu_ptr_barrier() };
}
