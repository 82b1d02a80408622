// SPDX-License-Identifier: GPL-2.0

//! Fault injection for tests: caches ask here before they allocate memory, and engines before they allocate
//! a block. (The kernel's own fault injection reaches tasks only, and few kernels have it.)
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

/// Allocations of a kind, of which some may fail: in the upper half how many there are up to the first that fails,
/// inclusive; in the lower one how many are still to fail.
pub(crate) struct Faults(Atomic<u64>);

/// Allocations of caches.
pub(crate) static CACHES: Faults = Faults(Atomic::new(0));
/// Allocations of blocks.
pub(crate) static BLOCKS: Faults = Faults(Atomic::new(0));

const HALF: u32 = u32::BITS;

impl Faults {
    /// Lets the `nth` allocation from now on fail, and as many as `times` in all; 0: none.
    /// Returns how many allocations the last call's first failure was still away; 0: it has happened.
    #[cfg_attr(not(RCU_PTR_TEST), allow(dead_code))]
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

/// Memory for a cache is about to be allocated.
///
/// # Errors
///
/// `ENOMEM` where a test wants it.
#[inline]
pub(crate) fn point() -> Result {
    CACHES.point()
}

/// A page for a block: [`mem::alloc_page()`], in its context.
pub(crate) fn alloc_page(gfp: u32) -> Option<NonNull<u8>> {
    BLOCKS.point().ok()?;
    mem::alloc_page(gfp)
}

/// A page for a block: [`mem::alloc_page_nolock()`], in its context.
pub(crate) fn alloc_page_nolock() -> Option<NonNull<u8>> {
    BLOCKS.point().ok()?;
    mem::alloc_page_nolock()
}
