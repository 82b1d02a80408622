// SPDX-License-Identifier: GPL-2.0

//! Sheaves that wait for a grace period are counted, per cache and CPU and in one of a few epochs. A barrier
//! begins the next epoch, and waits until nothing is counted in older ones: it depends neither on callbacks of
//! others nor on sheaves that are closed meanwhile.

use super::sheaf::Stamp;
use crate::sys::wait;
use kernel::sync::atomic::{Acquire, Atomic, Full, Relaxed};

/// Epochs that can be counted at a time: one more than barriers that run at a time.
const EPOCHS: u32 = 4;

/// The current epoch. All waiters of this file wait on its address.
static EPOCH: Atomic<u32> = Atomic::new(0);

/// The counts of a CPU.
pub(super) struct Pending([Atomic<u32>; EPOCHS as usize]);

impl Pending {
    pub(super) fn new() -> Self {
        Self([const { Atomic::new(0) }; EPOCHS as usize])
    }

    /// Counts one more of `cpu`, whose counts these are.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    pub(super) fn count(&self, cpu: i32) -> Stamp {
        let i = EPOCH.load(Relaxed) % EPOCHS;
        // ORDERING: Full, so that whoever sees that the sheaf is off the CPU sees it counted.
        self.0[i as usize].fetch_add(1, Full);
        Stamp::of(cpu as u32 * EPOCHS + i)
    }

    /// Takes one off `i`, from [`place()`]. Returns whether it was the last.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    pub(super) fn uncount(&self, i: usize) -> bool {
        // ORDERING: Full pairs with the acquire of those who wait: what was done is seen.
        self.0[i].fetch_sub(1, Full) == 1
    }

    /// Whether nothing is counted.
    pub(super) fn is_none(&self) -> bool {
        self.0.iter().all(|n| n.load(Acquire) == 0)
    }

    /// Whether nothing is counted in the epoch after `epoch`, so that it may begin.
    pub(super) fn may_follow(&self, epoch: u32) -> bool {
        self.0[(epoch.wrapping_add(1) % EPOCHS) as usize].load(Acquire) == 0
    }

    /// Whether nothing is left that was counted in `epoch` or before.
    pub(super) fn is_over(&self, epoch: u32) -> bool {
        (0..EPOCHS - 1).all(|back| {
            let old = epoch.wrapping_sub(back);
            // A place is not used again before it was empty.
            self.0[(old % EPOCHS) as usize].load(Acquire) == 0
                || EPOCH.load(Acquire).wrapping_sub(old) >= EPOCHS
        })
    }
}

/// The CPU and the index that a stamp stands for.
pub(super) fn place(stamp: &Stamp) -> (i32, usize) {
    let number = stamp.number() - 1;
    ((number / EPOCHS) as i32, (number % EPOCHS) as usize)
}

/// The epoch.
pub(super) fn epoch() -> u32 {
    // ORDERING: Acquire pairs with `begin_after()`.
    EPOCH.load(Acquire)
}

/// Begins the epoch after `epoch`, where all agree ([`Pending::may_follow()`]). `false`: somebody else
/// did.
pub(super) fn begin_after(epoch: u32) -> bool {
    // ORDERING: Full, for what is counted from here on.
    EPOCH.cmpxchg(epoch, epoch.wrapping_add(1), Full).is_ok()
}

/// Wakes those who wait for a count, the last user or the end of a cache.
///
/// # Context
///
/// Softirq or task. What they wait for was done by a full barrier.
pub(super) fn wake() {
    wait::wake(&EPOCH);
}

/// Waits until `done` says so.
///
/// # Context
///
/// May sleep; `done` may not.
pub(super) fn wait_until(done: impl Fn() -> bool) {
    wait::until(&EPOCH, &done);
}
