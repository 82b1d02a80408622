// SPDX-License-Identifier: GPL-2.0

//! How long objects waited, as histograms in /sys/kernel/debug/rcu_ptr/delays: one of the engine, and one of
//! each cache.
//!
//! Objects are not stamped, as a call would pay for that. Stamped is what holds them: a block or sheaf when it
//! is taken into use, a list when it gets its first object. All objects count with its age when they are
//! reclaimed, so with the longest that any of them can have waited. A block that the
//! monitor installed may be there before its first object, for a drain interval at most.

use crate::{params, sheaves::stats, sys::pinned_timer::jiffies};
use kernel::{
    fmt,
    sync::atomic::{Atomic, Relaxed},
};

/// The last bucket has all that waited for 2^14 jiffies or more, a minute at 250 Hz.
const BUCKETS: usize = 16;

/// Objects by the time that they waited: bucket `i` has those with less than 2^i jiffies, and no less than
/// half of that.
pub(crate) struct Delays([Atomic<u64>; BUCKETS]);

/// Those of the engine.
pub(crate) static ENGINE: Delays = Delays::new();

impl Delays {
    /// No objects.
    pub(crate) const fn new() -> Self {
        Self([const { Atomic::new(0) }; BUCKETS])
    }

    /// Counts `objects` that have waited since `since`, in jiffies, of which the low 32 bits matter.
    pub(crate) fn add(&self, since: u32, objects: usize) {
        let age = (jiffies() as u32).wrapping_sub(since);
        let bucket = (u32::BITS - age.leading_zeros()) as usize;
        self.0[bucket.min(BUCKETS - 1)].add(objects as u64, Relaxed);
    }

    /// The rest of a line.
    pub(crate) fn show_buckets(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let buckets = self.0.iter().enumerate();
        for (i, bucket) in buckets.clone().take(BUCKETS - 1) {
            let bound = (1000 << i) / params::second_jiffies().max(1);
            write!(f, " lt{bound}ms={}", bucket.load(Relaxed))?;
        }
        if let Some((_, rest)) = buckets.last() {
            write!(f, " longer={}", rest.load(Relaxed))?;
        }
        writeln!(f)
    }
}

/// The text of the file. May sleep.
pub(crate) fn show(_: &(), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "engine={}", params::engine().name())?;
    ENGINE.show_buckets(f)?;
    stats::show_delays(f)
}
