// SPDX-License-Identifier: GPL-2.0

//! The atomic and per-CPU words of the algorithm files. The host tests have their own.

use crate::{
    platform::LocalWord,
    sys::{
        preempt::{OnCpu, Pinned},
        this_cpu::ThisCpuPtr,
    },
};
use core::cell::UnsafeCell;
use kernel::sync::atomic::{Acquire, Atomic, Full, Relaxed, Release};

/// A word that several CPUs change.
pub(crate) struct AtomicLink(Atomic<u64>);

impl AtomicLink {
    pub(crate) const fn new(value: u64) -> Self {
        Self(Atomic::new(value))
    }

    #[inline]
    pub(crate) fn load_relaxed(&self) -> u64 {
        self.0.load(Relaxed)
    }

    #[inline]
    pub(crate) fn store_relaxed(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    #[inline]
    pub(crate) fn store_release(&self, value: u64) {
        self.0.store(value, Release);
    }

    #[inline]
    pub(crate) fn load_acquire(&self) -> u64 {
        self.0.load(Acquire)
    }

    /// Stores `new` if the value is `old`, fully ordered on success. Otherwise returns the value.
    #[inline]
    pub(crate) fn cmpxchg_full(&self, old: u64, new: u64) -> Result<u64, u64> {
        self.0.cmpxchg(old, new, Full)
    }

    #[inline]
    pub(crate) fn xchg_full(&self, new: u64) -> u64 {
        self.0.xchg(new, Full)
    }
}

/// A plain word, which only the owner of the memory accesses. loom reports concurrent accesses.
#[repr(transparent)]
pub(crate) struct Plain<T>(UnsafeCell<T>);

impl<T: Copy> Plain<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Reads the word.
    ///
    /// # Safety
    ///
    /// It is not written concurrently.
    #[inline]
    pub(crate) unsafe fn get(&self) -> T {
        // SAFETY: By the safety requirements of this function.
        unsafe { *self.0.get() }
    }

    /// Writes the word.
    ///
    /// # Safety
    ///
    /// It is not read or written concurrently.
    #[inline]
    pub(crate) unsafe fn set(&self, value: T) {
        // SAFETY: By the safety requirements of this function.
        unsafe { *self.0.get() = value };
    }
}

/// A word of this CPU, in memory of the per-CPU allocator.
#[derive(Clone, Copy)]
pub(crate) struct Mine<'a, const AT: usize = 0>(ThisCpuPtr<AT>, Pinned<'a>);

impl<'a, const AT: usize> Mine<'a, AT> {
    /// The word at `at`, as long as the caller stays on this CPU.
    #[inline(always)]
    pub(crate) fn new(at: ThisCpuPtr<AT>, on: &'a impl OnCpu) -> Self {
        Self(at, on.pinned())
    }
}

impl<const AT: usize> LocalWord for Mine<'_, AT> {
    #[inline(always)]
    fn load(self) -> usize {
        self.0.read(&self.1) as usize
    }

    #[inline(always)]
    fn is_zero(self) -> bool {
        self.0.is_zero(&self.1)
    }

    #[inline(always)]
    fn fetch_add(self, n: usize) -> usize {
        self.0.fetch_add(n as u64, &self.1) as usize
    }

    #[inline(always)]
    fn cmpxchg(self, old: usize, new: usize) -> usize {
        self.0.cmpxchg(old as u64, new as u64, &self.1) as usize
    }
}

/// A word of a CPU that no longer accesses it, as the CPU is dead or the owner of the word is being
/// destroyed. The caller is ordered after the last access of that CPU.
#[derive(Clone, Copy)]
pub(crate) struct Quiet<'a>(&'a Atomic<u64>);

impl<'a> Quiet<'a> {
    /// The word at `at`.
    pub(crate) fn new(at: &'a Atomic<u64>) -> Self {
        Self(at)
    }
}

impl LocalWord for Quiet<'_> {
    #[inline]
    fn load(self) -> usize {
        self.0.load(Relaxed) as usize
    }

    #[inline]
    fn fetch_add(self, n: usize) -> usize {
        self.0.fetch_add(n as u64, Relaxed) as usize
    }

    #[inline]
    fn cmpxchg(self, old: usize, new: usize) -> usize {
        match self.0.cmpxchg(old as u64, new as u64, Relaxed) {
            Ok(was) | Err(was) => was as usize,
        }
    }
}
