// SPDX-License-Identifier: GPL-2.0

//! When the monitor of a CPU and the reaper of a cache run. No kernel dependencies: compiled by the
//! host tests.
//!
//! ```text
//!  idle --- a sheaf is installed ---> arming --- tick ---> armed --- drain interval ---> runs
//!   ^                                                                                     |
//!   +--- all was taken off ----------------- armed <--- something is left ----------------+
//! ```
//!
//! The monitor is armed by a lazy irq_work, which the next tick runs: it raises an interrupt only
//! if the tick is stopped. The monitor stays armed while sheaves are installed. A run takes a sheaf
//! off the CPU once it has been installed for a drain interval.

use crate::{platform::LocalWord, sync::AtomicLink};

/// Not queued.
pub(crate) const IDLE: usize = 0;
/// The irq_work will queue it.
const ARMING: usize = 1;
/// Queued, and its run has not begun.
const ARMED: usize = 2;

/// State of a CPU's monitor: one of the constants above.
#[derive(Clone, Copy)]
pub(crate) struct Armed<W>(pub(crate) W);

impl<W: LocalWord> Armed<W> {
    /// Arms the monitor. Returns whether the caller has to queue the irq_work.
    #[inline(always)]
    pub(crate) fn arm(self) -> bool {
        self.0.load() == IDLE && self.0.cmpxchg(IDLE, ARMING) == IDLE
    }

    /// Called by the irq_work. Returns whether it has to queue the monitor.
    pub(crate) fn set_armed(self) -> bool {
        self.0.cmpxchg(ARMING, ARMED) == ARMING
    }
}

/// A CPU for [`run()`].
pub(crate) trait Monitored {
    /// Access to a word of the CPU.
    type Word: LocalWord;

    /// The monitor's state.
    fn armed(&self) -> Armed<Self::Word>;

    /// Closes the rcu sheaf if it has been installed for a drain interval. Returns the jiffies
    /// until then; 0 if no rcu sheaf is installed.
    fn close(&mut self) -> usize;

    /// Takes the stock off the CPU if it has been there for a drain interval. Returns the jiffies
    /// until then; 0 if it was taken off.
    fn take_stock(&mut self) -> usize;

    /// Queues the monitor to run in `delay` jiffies, even if it is queued for later.
    fn queue(&self, delay: usize);
}

/// Runs the monitor.
///
/// # Context
///
/// A task of the CPU, with preemption disabled. Interrupts may install sheaves at any time.
pub(crate) fn run(cpu: &mut impl Monitored) {
    // Before the checks: what an interrupt installs from here on arms the monitor again.
    cpu.armed().0.xchg(IDLE);
    let left = [cpu.close(), cpu.take_stock()];
    if let Some(next) = left.into_iter().filter(|&left| left > 0).min() {
        // Even if it was armed meanwhile: the irq_work would wait for a full interval instead of
        // what is left.
        cpu.armed().0.xchg(ARMED);
        cpu.queue(next);
    }
}

/// The work item of a cache's reaper. Times are in jiffies.
pub(crate) trait Reaper {
    fn now(&self) -> u64;
    /// The drain interval.
    fn interval(&self) -> u64;
    /// Queues the item, unless it is queued.
    fn queue(&self, delay: u64);
    /// Queues the item, or changes its delay.
    fn modify(&self, delay: u64);
}

/// When the reaper is due. Setting the drain interval only brings it forward: otherwise setting it
/// often would put the reaper off for ever.
pub(crate) struct Deadline(AtomicLink);

impl Deadline {
    pub(crate) fn new() -> Self {
        Self(AtomicLink::new(0))
    }

    /// Queues the reaper.
    pub(crate) fn start(&self, reaper: &impl Reaper) {
        let interval = reaper.interval();
        self.set(reaper.now().wrapping_add(interval));
        reaper.queue(interval);
        self.shorten(reaper, interval);
    }

    /// Applies the drain interval to a reaper that is queued.
    pub(crate) fn bring_forward(&self, reaper: &impl Reaper) {
        let interval = reaper.interval();
        let at = reaper.now().wrapping_add(interval);
        let mut due = self.0.load_relaxed();
        while (due.wrapping_sub(at) as i64) > 0 {
            // ORDERING: Full, as in `set()`.
            match self.0.cmpxchg_full(due, at) {
                Ok(_) => {
                    reaper.modify(interval);
                    return self.shorten(reaper, interval);
                }
                Err(now) => due = now,
            }
        }
    }

    /// Applies a shorter interval that was set since `interval` was read: its setter may have
    /// found this deadline and changed the timer before the caller did.
    fn shorten(&self, reaper: &impl Reaper, mut interval: u64) {
        loop {
            let now = reaper.interval();
            if now >= interval {
                return;
            }
            interval = now;
            self.set(reaper.now().wrapping_add(interval));
            reaper.modify(interval);
        }
    }

    fn set(&self, at: u64) {
        // ORDERING: Full: a context that sets a shorter interval sees this deadline, or the caller
        // sees that interval.
        self.0.xchg_full(at);
    }
}
