// SPDX-License-Identifier: GPL-2.0

//! The shared words of the algorithm files on the host: those of loom with `--cfg loom`.

#[cfg(loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    sync::{Mutex, MutexGuard, RwLock},
};
use std::sync::atomic::Ordering;
#[cfg(not(loom))]
pub(crate) use std::sync::{atomic::AtomicUsize, Mutex, MutexGuard, RwLock};
#[cfg(loom)]
pub(crate) use tracked::AtomicUsize;

/// With loom's interface.
#[cfg(not(loom))]
#[repr(transparent)]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

#[cfg(loom)]
mod tracked {
    use loom::sync::atomic::{self, Ordering};

    /// loom records only the last access to a word: a context that reads and then changes a word
    /// hides an earlier read by another, and loom does not try the change before that read. So each
    /// read also modifies a second word, of which loom tries every order.
    pub(crate) struct AtomicUsize {
        word: atomic::AtomicUsize,
        reads: atomic::AtomicUsize,
    }

    impl AtomicUsize {
        pub(crate) fn new(value: usize) -> Self {
            Self {
                word: atomic::AtomicUsize::new(value),
                reads: atomic::AtomicUsize::new(0),
            }
        }

        pub(crate) fn load(&self, order: Ordering) -> usize {
            // Relaxed: it adds no ordering to the model.
            self.reads.fetch_add(0, Ordering::Relaxed);
            self.word.load(order)
        }

        pub(crate) fn store(&self, value: usize, order: Ordering) {
            self.word.store(value, order);
        }

        pub(crate) fn swap(&self, value: usize, order: Ordering) -> usize {
            self.word.swap(value, order)
        }

        pub(crate) fn fetch_add(&self, n: usize, order: Ordering) -> usize {
            self.word.fetch_add(n, order)
        }

        pub(crate) fn compare_exchange(
            &self,
            old: usize,
            new: usize,
            success: Ordering,
            failure: Ordering,
        ) -> Result<usize, usize> {
            self.word.compare_exchange(old, new, success, failure)
        }
    }
}

pub(crate) struct AtomicLink(AtomicUsize);

impl AtomicLink {
    pub(crate) fn new(value: u64) -> Self {
        Self(AtomicUsize::new(value as usize))
    }

    pub(crate) fn load_relaxed(&self) -> u64 {
        self.0.load(Ordering::Relaxed) as u64
    }

    pub(crate) fn store_relaxed(&self, value: u64) {
        self.0.store(value as usize, Ordering::Relaxed);
    }

    pub(crate) fn store_release(&self, value: u64) {
        self.0.store(value as usize, Ordering::Release);
    }

    pub(crate) fn load_acquire(&self) -> u64 {
        self.0.load(Ordering::Acquire) as u64
    }

    pub(crate) fn cmpxchg_full(&self, old: u64, new: u64) -> Result<u64, u64> {
        let (old, new) = (old as usize, new as usize);
        self.0
            .compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed)
            .map(|was| was as u64)
            .map_err(|was| was as u64)
    }

    pub(crate) fn xchg_full(&self, new: u64) -> u64 {
        self.0.swap(new as usize, Ordering::AcqRel) as u64
    }
}

#[repr(transparent)]
pub(crate) struct Plain<T>(UnsafeCell<T>);

impl<T: Copy> Plain<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    pub(crate) unsafe fn get(&self) -> T {
        // SAFETY: By the contract of this function, which loom checks.
        self.0.with(|p| unsafe { *p })
    }

    pub(crate) unsafe fn set(&self, value: T) {
        // SAFETY: As above.
        self.0.with_mut(|p| unsafe { *p = value });
    }
}
