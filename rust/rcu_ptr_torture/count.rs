// SPDX-License-Identifier: GPL-2.0

//! Counts that any context adds to.

use kernel::sync::atomic::{Atomic, Relaxed};

/// A count.
pub(crate) struct Count(Atomic<u64>);

impl Default for Count {
    fn default() -> Self {
        Self(Atomic::new(0))
    }
}

impl Count {
    /// One more. Returns how many there are now.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    pub(crate) fn up(&self) -> u64 {
        self.0.fetch_add(1, Relaxed) + 1
    }

    /// One less.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    pub(crate) fn down(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    /// At least `value` from here on. Races can lose a little: it is for people to look at.
    pub(crate) fn raise(&self, value: u64) {
        if value > self.get() {
            self.set(value);
        }
    }

    /// What it is now.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Another number.
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }
}
