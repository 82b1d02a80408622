// SPDX-License-Identifier: GPL-2.0

//! Counting trace events of `rcu_ptr.ko`.

use crate::sys::probes::{Counters, Probes, COUNTERS};
use kernel::prelude::*;

/// Counts events from its creation on.
pub(crate) struct EventCounter {
    counter: fn(&Counters) -> u64,
    before: u64,
    _probes: Probes,
}

impl EventCounter {
    /// Starts counting. There can be one counter at a time.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn start(counter: fn(&Counters) -> u64) -> Result<Self> {
        Ok(Self {
            counter,
            _probes: Probes::register()?,
            before: counter(&COUNTERS),
        })
    }

    /// Events since the start.
    pub(crate) fn count(&self) -> u64 {
        (self.counter)(&COUNTERS) - self.before
    }
}
