// SPDX-License-Identifier: GPL-2.0

//! The atomics of the algorithm files, on the host: loom's under `--cfg loom`.

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering};

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
