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

/// Allocations of a kind, of which some may fail.
pub(crate) struct Faults {
    /// Allocations up to the first that fails, inclusive; 0: none fails.
    nth: Atomic<u64>,
    /// Allocations that are still to fail.
    times: Atomic<u64>,
}

/// In `nth`: the first allocation has failed.
const FAILING: u64 = u64::MAX;

/// Allocations of caches.
pub(crate) static CACHES: Faults = Faults::none();
/// Allocations of blocks.
pub(crate) static BLOCKS: Faults = Faults::none();

impl Faults {
    const fn none() -> Self {
        Self {
            nth: Atomic::new(0),
            times: Atomic::new(0),
        }
    }

    /// Lets the `nth` allocation from now on fail, and as many as `times` in all; 0: none.
    /// Returns how many allocations the last call's first failure was still away; 0: it has happened.
    #[cfg_attr(not(RCU_PTR_TEST), allow(dead_code))]
    pub(crate) fn set(&self, nth: u64, times: u64) -> u64 {
        self.times.store(times, Relaxed);
        match self.nth.xchg(nth.min(FAILING - 1), Relaxed) {
            FAILING => 0,
            nth => nth,
        }
    }

    #[inline]
    fn point(&self) -> Result {
        if cfg!(not(RCU_PTR_TEST)) {
            return Ok(());
        }
        match self.nth.load(Relaxed) {
            0 => Ok(()),
            n => self.count(n),
        }
    }

    #[cold]
    fn count(&self, mut nth: u64) -> Result {
        while nth != FAILING {
            let next = match nth {
                0 => return Ok(()),
                1 => FAILING,
                n => n - 1,
            };
            match self.nth.cmpxchg(nth, next, Relaxed) {
                Ok(_) if next != FAILING => return Ok(()),
                Ok(_) => break,
                Err(was) => nth = was,
            }
        }
        let mut times = self.times.load(Relaxed);
        while times > 0 {
            if let Err(was) = self.times.cmpxchg(times, times - 1, Relaxed) {
                times = was;
                continue;
            }
            if times == 1 {
                let _ = self.nth.cmpxchg(FAILING, 0, Relaxed);
            }
            return Err(ENOMEM);
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
