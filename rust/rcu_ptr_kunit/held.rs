// SPDX-License-Identifier: GPL-2.0

//! Objects of a cache with sheaves that are freed when the test case drops them.

use crate::sys::{cache::SheafCache, cpu};
use ::core::{mem::ManuallyDrop, ptr::NonNull};
use kernel::prelude::*;

/// Exclusive ownership of a live object. It may be dropped in any context, and is then freed after
/// a grace period.
///
/// # Invariants
///
/// `object` is a live object of `cache`, and freed by this value only.
pub(crate) struct Held<'a> {
    cache: &'a SheafCache,
    object: NonNull<u8>,
}

// SAFETY: Objects may be freed on any CPU.
unsafe impl Send for Held<'_> {}
// SAFETY: A shared reference gives access to the address only.
unsafe impl Sync for Held<'_> {}

impl Held<'_> {
    /// The address of the object.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.object
    }

    /// Frees the object without a grace period.
    pub(crate) fn free(self) {
        let this = ManuallyDrop::new(self);
        // SAFETY: By the type invariants; no reader has the object.
        unsafe { this.cache.free(this.object) };
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { self.cache.free_rcu(self.object) };
    }
}

impl SheafCache {
    fn held(&self, object: Option<NonNull<u8>>) -> Option<Held<'_>> {
        // INVARIANT: Just allocated.
        object.map(|object| Held {
            cache: self,
            object,
        })
    }

    /// [`Self::alloc()`] with `GFP_KERNEL`.
    pub(crate) fn hold(&self) -> Result<Held<'_>> {
        self.held(self.alloc(false)).ok_or(ENOMEM)
    }

    /// [`Self::alloc_with()`].
    pub(crate) fn hold_with(&self, gfp: u32) -> Option<Held<'_>> {
        self.held(self.alloc_with(gfp))
    }

    /// [`Self::alloc_nolock()`].
    pub(crate) fn hold_nolock(&self) -> Option<Held<'_>> {
        self.held(self.alloc_nolock())
    }

    /// Allocates `n` objects with `GFP_KERNEL`.
    pub(crate) fn hold_many(&self, n: usize) -> Result<KVVec<Held<'_>>> {
        let mut held = KVVec::with_capacity(n, GFP_KERNEL)?;
        for _ in 0..n {
            held.push(self.hold()?, GFP_KERNEL)?;
        }
        Ok(held)
    }

    /// Allocates `n` objects, and frees them after a grace period.
    pub(crate) fn alloc_then_free(&self, n: usize) -> Result {
        self.hold_many(n).map(drop)
    }

    /// Allocates up to `n` objects with interrupts off, so that no refill runs on this CPU in
    /// between.
    pub(crate) fn hold_irqs_off(&self, n: usize) -> Result<KVVec<Held<'_>>> {
        let mut held = KVVec::with_capacity(n, GFP_KERNEL)?;
        cpu::irqs_off(|| {
            for object in (0..n).map_while(|_| self.hold_nolock()) {
                // Can't fail: there is capacity.
                let _ = held.push_within_capacity(object);
            }
        });
        Ok(held)
    }
}
