// SPDX-License-Identifier: GPL-2.0

//! The shared words of the algorithm files, which the host tests replace.

use core::cell::UnsafeCell;
use kernel::sync::atomic::{Acquire, Atomic, Full, Relaxed, Release};

/// A word that several CPUs change: the head of a list of links, or a part of a ring.
pub(crate) struct AtomicLink(Atomic<u64>);

impl AtomicLink {
    /// A word with this value.
    pub(crate) const fn new(value: u64) -> Self {
        Self(Atomic::new(value))
    }

    /// Reads without ordering.
    #[inline]
    pub(crate) fn load_relaxed(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Writes without ordering.
    #[inline]
    pub(crate) fn store_relaxed(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// Writes; who reads the value with acquire sees what came before.
    #[inline]
    pub(crate) fn store_release(&self, value: u64) {
        self.0.store(value, Release);
    }

    /// Reads; what follows sees what the writer of the value did before.
    #[inline]
    pub(crate) fn load_acquire(&self) -> u64 {
        self.0.load(Acquire)
    }

    /// Exchanges `old` for `new`, fully ordered on success. Otherwise says what is there.
    #[inline]
    pub(crate) fn cmpxchg_full(&self, old: u64, new: u64) -> Result<u64, u64> {
        self.0.cmpxchg(old, new, Full)
    }

    /// Exchanges whatever is there for `new`, fully ordered.
    #[inline]
    pub(crate) fn xchg_full(&self, new: u64) -> u64 {
        self.0.xchg(new, Full)
    }
}

/// A word that is not atomic: only the owner of what it lies in uses it. Under loom it tells when that is
/// not so.
pub(crate) struct Plain<T>(UnsafeCell<T>);

impl<T: Copy> Plain<T> {
    /// A word with this value.
    pub(crate) const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Reads.
    ///
    /// # Safety
    ///
    /// It is not written at the same time.
    #[inline]
    pub(crate) unsafe fn get(&self) -> T {
        // SAFETY: By the safety requirements of this function.
        unsafe { *self.0.get() }
    }

    /// Writes.
    ///
    /// # Safety
    ///
    /// It is not read or written at the same time.
    #[inline]
    pub(crate) unsafe fn set(&self, value: T) {
        // SAFETY: By the safety requirements of this function.
        unsafe { *self.0.get() = value };
    }
}
