// SPDX-License-Identifier: GPL-2.0

//! Histograms of the time from call to free, one of the engine and one of each cache, in
//! /sys/kernel/debug/rcu_ptr/delays.
//!
//! Objects carry no timestamp, which would cost every call. Their container does: a block or a
//! sheaf is stamped when it is opened, a list when its first object is linked. When its objects are
//! reclaimed they all count with the age of the container, which is the upper bound. A block that
//! the monitor has opened may be up to a drain interval older than its first object.

use crate::{params, sheaves::stats, sys::pinned_timer::jiffies};
use kernel::{
    fmt,
    sync::atomic::{Atomic, Relaxed},
};

/// The last bucket has waits of 2^14 jiffies and more, which is a minute at 250 Hz.
const BUCKETS: usize = 16;

/// A histogram: bucket `i` counts the objects that waited for less than 2^i jiffies, and not less
/// than half of that.
pub(crate) struct Delays([Atomic<u64>; BUCKETS]);

/// The histogram of the engine.
pub(crate) static ENGINE: Delays = Delays::new();

impl Delays {
    pub(crate) const fn new() -> Self {
        Self([const { Atomic::new(0) }; BUCKETS])
    }

    /// Counts `objects` that have waited since `since`, the low 32 bits of jiffies.
    pub(crate) fn add(&self, since: u32, objects: usize) {
        let age = (jiffies() as u32).wrapping_sub(since);
        let bucket = (u32::BITS - age.leading_zeros()) as usize;
        self.0[bucket.min(BUCKETS - 1)].add(objects as u64, Relaxed);
    }

    /// Shows all buckets, and ends the line.
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

/// Shows the file `delays`. May sleep.
pub(crate) fn show(_: &(), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "engine={}", params::engine().name())?;
    ENGINE.show_buckets(f)?;
    stats::show_delays(f)
}
