// SPDX-License-Identifier: GPL-2.0

//! Objects of a cache with sheaves that a case holds, and that are given back when it drops them.

use crate::sys::{cache::SheafCache, cpu};
use ::core::{mem::ManuallyDrop, ptr::NonNull};
use kernel::prelude::*;

/// A live object, its owner's alone. Dropped, in any context, it waits for a grace period.
///
/// # Invariants
///
/// `object` is a live object of `cache` that is given back by this value only.
pub(crate) struct Held<'a> {
    cache: &'a SheafCache,
    object: NonNull<u8>,
}

// SAFETY: Objects are given back on any CPU.
unsafe impl Send for Held<'_> {}
// SAFETY: Only the address is shared.
unsafe impl Sync for Held<'_> {}

impl Held<'_> {
    /// Where it is.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.object
    }

    /// Gives it back to be allocated again at once.
    pub(crate) fn free(self) {
        let this = ManuallyDrop::new(self);
        // SAFETY: By the type invariants; what holds it does not share it.
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

    /// `n` objects, with `GFP_KERNEL`.
    pub(crate) fn hold_many(&self, n: usize) -> Result<KVVec<Held<'_>>> {
        let mut held = KVVec::with_capacity(n, GFP_KERNEL)?;
        for _ in 0..n {
            held.push(self.hold()?, GFP_KERNEL)?;
        }
        Ok(held)
    }

    /// Up to `n` objects with interrupts off, in which no worker brings more.
    pub(crate) fn hold_at_hand(&self, n: usize) -> Result<KVVec<Held<'_>>> {
        let mut held = KVVec::with_capacity(n, GFP_KERNEL)?;
        cpu::irqs_off(|| {
            for object in (0..n).map_while(|_| self.hold_nolock()) {
                // There is room.
                let _ = held.push_within_capacity(object);
            }
        });
        Ok(held)
    }
}
