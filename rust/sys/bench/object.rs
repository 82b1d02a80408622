// SPDX-License-Identifier: GPL-2.0

//! The objects that are freed: where they come from and what they hold.

use super::generated as sys;
use core::ptr::NonNull;
use kernel::{
    bindings,
    prelude::*,
    str::CString,
    sync::atomic::{Atomic, Relaxed},
};

/// What every object begins with. The head serves every function that is measured: its first 8
/// bytes are the `struct rcu_ptr` or `struct kvfree_rcu_head`, all 16 the `struct rcu_head`.
#[repr(C)]
pub(crate) struct Object {
    payload: u64,
    pub(super) head: bindings::callback_head,
}

impl Object {
    /// The head of `object`.
    ///
    /// # Safety
    ///
    /// `object` is valid.
    #[inline(always)]
    pub(super) unsafe fn head(object: NonNull<Object>) -> *mut bindings::callback_head {
        // SAFETY: By the safety requirements of this function.
        unsafe { &raw mut (*object.as_ptr()).head }
    }
}

/// An allocator, and the size asked of it.
pub(crate) enum Source {
    /// kmalloc(), large sizes too.
    Kmalloc(usize),
    /// vmalloc().
    Vmalloc(usize),
    /// A kmem_cache of this benchmark's own.
    Cache(Cache, usize),
}

/// Caches made so far.
static CACHES: Atomic<u32> = Atomic::new(0);

/// A kmem_cache, destroyed on drop: the kernel complains if an object of it was never freed.
pub(crate) struct Cache(NonNull<bindings::kmem_cache>);

// SAFETY: A kmem_cache may be used by any task.
unsafe impl Send for Cache {}
// SAFETY: As above.
unsafe impl Sync for Cache {}

impl Drop for Cache {
    fn drop(&mut self) {
        // SAFETY: Made by `Source::new()`, and no longer in use.
        unsafe { bindings::kmem_cache_destroy(self.0.as_ptr()) };
    }
}

impl Source {
    /// Reads `kmalloc-N`, `cache-N` or `vmalloc-N`.
    ///
    /// # Context
    ///
    /// May sleep.
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
                // The kernel complains about two of the same name.
                let number = CACHES.fetch_add(1, Relaxed);
                let name = CString::try_from_fmt(fmt!("rcu_ptr_bench-{number}"))?;
                // SAFETY: The kernel copies the name.
                let cache = unsafe { sys::rcu_ptr_bench_cache_create(name.as_char_ptr(), size) };
                Ok(Self::Cache(Cache(NonNull::new(cache).ok_or(ENOMEM)?), size))
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
    ///
    /// # Context
    ///
    /// May sleep.
    #[inline]
    pub(crate) fn alloc(&self) -> Result<NonNull<Object>> {
        let raw = match self {
            // SAFETY: No requirements.
            Self::Kmalloc(size) => unsafe { sys::rcu_ptr_bench_kmalloc(*size) },
            // SAFETY: No requirements.
            Self::Vmalloc(size) => unsafe { sys::rcu_ptr_bench_vmalloc(*size) },
            // SAFETY: The cache is live.
            Self::Cache(cache, _) => unsafe {
                bindings::kmem_cache_alloc_noprof(cache.0.as_ptr(), bindings::GFP_KERNEL)
            },
        };
        NonNull::new(raw.cast()).ok_or(ENOMEM)
    }
}
