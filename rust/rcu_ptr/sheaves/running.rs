// SPDX-License-Identifier: GPL-2.0

//! Counts the RCU callbacks of a cache that are running. A callback drops its last pending count before it is
//! done with the cache, so `destroy()` reads this counter after the pending counts, which are in many words.

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
