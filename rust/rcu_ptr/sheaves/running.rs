// SPDX-License-Identifier: GPL-2.0

//! The callbacks of a cache that run: each begins while something that it is to take in is counted, and still
//! looks at the cache when it has taken that off the count.
//!
//! Counts are in many words, and are not all read at one moment. So these have a word of their own, which
//! is read after the others: a context that has found the last count gone finds the one that took it off.

use crate::sync::AtomicLink;

/// Callbacks that run.
pub(crate) struct Running(AtomicLink);

impl Running {
    /// No callback runs.
    pub(crate) fn new() -> Self {
        Self(AtomicLink::new(0))
    }

    /// One begins: what it has to do is counted, and will be until after this.
    pub(crate) fn enter(&self) {
        self.add(1);
    }

    /// One ends. Returns whether it was the last; the cache may be gone, unless something else is counted.
    pub(crate) fn leave(&self) -> bool {
        self.add(u64::MAX) == 1
    }

    fn add(&self, n: u64) -> u64 {
        let mut now = self.0.load_relaxed();
        loop {
            // ORDERING: Full: before what it takes off the counts, or after all that it did.
            match self.0.cmpxchg_full(now, now.wrapping_add(n)) {
                Ok(_) => return now,
                Err(other) => now = other,
            }
        }
    }

    /// Whether `nothing_is_counted` says so, and none runs after that.
    pub(crate) fn are_none_after(&self, nothing_is_counted: impl FnOnce() -> bool) -> bool {
        // ORDERING: Acquire of the counts, before this is read: a context that took one off had entered.
        nothing_is_counted() && self.0.load_acquire() == 0
    }
}
