// SPDX-License-Identifier: GPL-2.0

//! The shared words of the algorithm files, on the host: loom's under `--cfg loom`.

#[cfg(loom)]
use loom::{
    cell::UnsafeCell,
    sync::atomic::{AtomicU64, Ordering},
};
#[cfg(not(loom))]
use std::{
    cell::UnsafeCell,
    sync::atomic::{AtomicU64, Ordering},
};

pub(crate) struct AtomicLink(AtomicU64);

impl AtomicLink {
    #[cfg(not(loom))]
    pub(crate) const fn new(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }

    #[cfg(loom)]
    pub(crate) fn new(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }

    pub(crate) fn load_relaxed(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn store_relaxed(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn store_release(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }

    pub(crate) fn load_acquire(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn cmpxchg_full(&self, old: u64, new: u64) -> Result<u64, u64> {
        self.0
            .compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed)
    }

    pub(crate) fn xchg_full(&self, new: u64) -> u64 {
        self.0.swap(new, Ordering::AcqRel)
    }
}

pub(crate) struct Plain<T>(UnsafeCell<T>);

impl<T: Copy> Plain<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    #[cfg(not(loom))]
    pub(crate) unsafe fn get(&self) -> T {
        // SAFETY: By the contract of this function.
        unsafe { *self.0.get() }
    }

    #[cfg(loom)]
    pub(crate) unsafe fn get(&self) -> T {
        // SAFETY: loom says if not.
        self.0.with(|p| unsafe { *p })
    }

    #[cfg(not(loom))]
    pub(crate) unsafe fn set(&self, value: T) {
        // SAFETY: By the contract of this function.
        unsafe { *self.0.get() = value };
    }

    #[cfg(loom)]
    pub(crate) unsafe fn set(&self, value: T) {
        // SAFETY: loom says if not.
        self.0.with_mut(|p| unsafe { *p = value });
    }
}
