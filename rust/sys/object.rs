// SPDX-License-Identifier: GPL-2.0

//! The objects that are freed: where they come from and what they hold.

use super::alloc::{self, Checks, RawCache};
use ::core::ptr::NonNull;
use kernel::{bindings, prelude::*};

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
    Cache(RawCache, usize),
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
    ///
    /// # Context
    ///
    /// May sleep.
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
