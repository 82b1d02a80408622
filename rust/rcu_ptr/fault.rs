// SPDX-License-Identifier: GPL-2.0

//! Fault injection for tests, at the allocations of caches and at the engines' allocations of
//! blocks. (The kernel's own fault injection only affects tasks, and few kernels have it.)
//!
//! # Context
//!
//! Any, NMI included.

use crate::sys::mem;
use core::ptr::NonNull;
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// Which allocations fail. Upper 32 bits: allocations up to and including the next failure. Lower
/// 32 bits: failures left.
pub(crate) struct Faults(Atomic<u64>);

/// Allocations of caches.
pub(crate) static CACHES: Faults = Faults(Atomic::new(0));
/// Allocations of blocks.
pub(crate) static BLOCKS: Faults = Faults(Atomic::new(0));

const HALF: u32 = u32::BITS;

impl Faults {
    /// Lets `times` allocations fail, beginning with the `nth` from now on; none if either is 0.
    /// Returns how many allocations were left up to the first failure of the previous call; 0: it
    /// has happened.
    #[cfg_attr(not(RCU_PTR_TEST), allow(dead_code, reason = "for tests"))]
    pub(crate) fn set(&self, nth: u64, times: u64) -> u64 {
        let [nth, times] = [nth, times].map(|n| n.min(u32::MAX.into()));
        let faults = if nth == 0 || times == 0 {
            0
        } else {
            (nth << HALF) | times
        };
        self.0.xchg(faults, Relaxed) >> HALF
    }

    #[inline]
    fn point(&self) -> Result {
        if cfg!(not(RCU_PTR_TEST)) {
            return Ok(());
        }
        match self.0.load(Relaxed) {
            0 => Ok(()),
            faults => self.count(faults),
        }
    }

    #[cold]
    fn count(&self, mut faults: u64) -> Result {
        while faults != 0 {
            let is_next = faults >> HALF <= 1;
            let left = if is_next {
                u64::from(faults as u32 - 1)
            } else {
                faults - (1 << HALF)
            };
            match self.0.cmpxchg(faults, left, Relaxed) {
                Ok(_) if is_next => return Err(ENOMEM),
                Ok(_) => break,
                Err(now) => faults = now,
            }
        }
        Ok(())
    }
}

/// To be called before memory for a cache is allocated.
///
/// # Errors
///
/// `ENOMEM` if the allocation is to fail.
#[inline]
pub(crate) fn point() -> Result {
    CACHES.point()
}

/// Allocates a page for a block, in the context of [`mem::alloc_page()`].
pub(crate) fn alloc_page(gfp: u32) -> Option<NonNull<u8>> {
    BLOCKS.point().ok()?;
    mem::alloc_page(gfp)
}

/// Allocates a page for a block, in the context of [`mem::alloc_page_nolock()`].
pub(crate) fn alloc_page_nolock() -> Option<NonNull<u8>> {
    BLOCKS.point().ok()?;
    mem::alloc_page_nolock()
}
