// SPDX-License-Identifier: GPL-2.0

//! The cost of a function: time, and grace periods that end meanwhile.

use crate::sys::{gp, thread};

/// Returns how long `f` takes, in nanoseconds.
pub(crate) fn time<R>(f: impl FnOnce() -> R) -> i64 {
    let start = thread::now();
    f();
    thread::now() - start
}

/// The cost of one call.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) nsecs: i64,
    /// The increase of the grace-period sequence number.
    pub(crate) gp_seq: usize,
}

impl Cost {
    pub(crate) fn of<R>(f: impl FnOnce() -> R) -> Self {
        let start = gp::number();
        let nsecs = time(f);
        Self {
            nsecs,
            gp_seq: gp::number() - start,
        }
    }

    /// Grace periods: each adds 4 to the sequence number.
    pub(crate) fn grace_periods(&self) -> usize {
        self.gp_seq / 4
    }
}

/// The median of `values`, which are sorted in place and not empty.
pub(crate) fn median(values: &mut [i64]) -> i64 {
    values.sort_unstable();
    values[values.len() / 2]
}
