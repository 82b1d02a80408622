// SPDX-License-Identifier: GPL-2.0

//! Events of `rcu_ptr.ko` from some moment on.

use crate::sys::probes::{Counters, Probes, COUNTERS};
use kernel::prelude::*;

/// Counts what `counter` says, from when it was made.
pub(crate) struct Events {
    counter: fn(&Counters) -> u64,
    before: u64,
    _probes: Probes,
}

impl Events {
    /// Begins. One at a time.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn count(counter: fn(&Counters) -> u64) -> Result<Self> {
        Ok(Self {
            counter,
            _probes: Probes::register()?,
            before: counter(&COUNTERS),
        })
    }

    /// How many there were so far.
    pub(crate) fn so_far(&self) -> u64 {
        (self.counter)(&COUNTERS) - self.before
    }
}
