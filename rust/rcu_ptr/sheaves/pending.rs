// SPDX-License-Identifier: GPL-2.0

//! Sheaves that wait for a grace period are counted, per cache and CPU and by when they began to wait
//! ([`epochs`](super::epochs)): a barrier depends neither on callbacks of others nor on sheaves that are
//! closed meanwhile.

use super::{epochs::PLACES, sheaf::Stamp};
use crate::sys::wait;
use kernel::sync::atomic::{Acquire, Atomic, Full};

/// The number of barriers so far, which is their time. All waiters of this file wait on its address.
static TIME: Atomic<u64> = Atomic::new(0);

/// The counts of a CPU, one for each place.
pub(super) struct Pending([Atomic<u32>; PLACES]);

impl Pending {
    pub(super) fn new() -> Self {
        Self([const { Atomic::new(0) }; PLACES])
    }

    /// Counts one more in `place`.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    pub(super) fn count(&self, place: usize) {
        // ORDERING: Full, so that a context that sees that the sheaf is off the CPU sees it counted.
        self.0[place].fetch_add(1, Full);
    }

    /// Takes one off `place`. Returns whether it was the last.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    pub(super) fn uncount(&self, place: usize) -> bool {
        // ORDERING: Full pairs with the acquire of waiters: what was done is seen.
        self.0[place].fetch_sub(1, Full) == 1
    }

    /// Whether nothing is counted in `place`.
    pub(super) fn is_empty(&self, place: usize) -> bool {
        self.0[place].load(Acquire) == 0
    }

    /// How much is counted.
    pub(super) fn total(&self) -> usize {
        self.0.iter().map(|n| n.load(Acquire) as usize).sum()
    }
}

/// A stamp for what `cpu` counts in `place`.
pub(super) fn stamp(cpu: i32, place: usize) -> Stamp {
    Stamp::of(cpu as u32 * PLACES as u32 + place as u32)
}

/// The CPU and the place that a stamp stands for.
pub(super) fn place(stamp: &Stamp) -> (i32, usize) {
    let number = stamp.number() as usize - 1;
    ((number / PLACES) as i32, number % PLACES)
}

/// The time of a barrier: what is counted before the call is older.
pub(super) fn now() -> u64 {
    // ORDERING: Full: what the barrier has seen to be off a CPU was counted before.
    TIME.fetch_add(1, Full) + 1
}

/// Wakes the waiters for a count, the last user or the destruction of a cache.
///
/// # Context
///
/// Softirq or task. What they wait for was done by a full barrier.
pub(super) fn wake() {
    wait::wake(&TIME);
}

/// Waits until `done` says so.
///
/// # Context
///
/// May sleep; `done` may not.
pub(super) fn wait_until(done: impl Fn() -> bool) {
    wait::until(&TIME, &done);
}
