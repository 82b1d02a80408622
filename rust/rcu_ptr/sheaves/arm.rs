// SPDX-License-Identifier: GPL-2.0

//! When the monitor of a CPU runs, and what a run leaves to the next. No kernel in here: the host tests compile it
//! too.
//!
//! ```text
//!  idle --- a sheaf is installed ---> arming --- tick ---> armed --- drain interval ---> runs
//!   ^                                                                                     |
//!   +--- all was taken off ----------------- armed <--- something is left ----------------+
//! ```
//!
//! What arms it is a lazy irq_work, run by the next tick: it raises no interrupt where the tick runs, and one
//! where it is stopped. The monitor stays armed until each sheaf that it saw has been there for a drain interval
//! since it was installed, and was taken off.

use crate::{platform::LocalWord, sync::AtomicLink};

/// It will not run.
pub(crate) const IDLE: usize = 0;
/// The irq_work will queue it.
const ARMING: usize = 1;
/// It is queued, or will next go back to [`IDLE`].
const ARMED: usize = 2;

/// How the monitor of a CPU is armed.
#[derive(Clone, Copy)]
pub(crate) struct Armed<W>(pub(crate) W);

impl<W: LocalWord> Armed<W> {
    /// Something was put on the CPU. Returns whether the caller has to queue the irq_work.
    #[inline(always)]
    pub(crate) fn arm(self) -> bool {
        self.0.load() == IDLE && self.0.cmpxchg(IDLE, ARMING) == IDLE
    }

    /// The irq_work runs. Returns whether it has to queue the monitor.
    pub(crate) fn set_armed(self) -> bool {
        self.0.cmpxchg(ARMING, ARMED) == ARMING
    }
}

/// A CPU whose monitor runs.
pub(crate) trait Monitored {
    /// How a word of the CPU is accessed.
    type Word: LocalWord;

    /// How its monitor is armed.
    fn armed(&self) -> Armed<Self::Word>;

    /// Closes what has waited for a drain interval. Returns the jiffies until the rcu sheaf has; 0: there is none.
    fn close(&mut self) -> usize;

    /// Takes off what can be allocated and has been there for a drain interval. Returns the jiffies until it has;
    /// 0: it was taken.
    fn take_stock(&mut self) -> usize;

    /// Has the monitor run in `delay` jiffies, where it was queued for later too.
    fn queue(&self, delay: usize);
}

/// A run of the monitor.
///
/// # Context
///
/// A task of the CPU, with preemption disabled. Interrupts may put something on the CPU at any time.
pub(crate) fn run(cpu: &mut impl Monitored) {
    // First: what is put there from now on arms it again, whether it is seen here or not.
    cpu.armed().0.xchg(IDLE);
    let left = [cpu.close(), cpu.take_stock()];
    if let Some(next) = left.into_iter().filter(|&left| left > 0).min() {
        // Whatever armed it meanwhile: its irq_work would add a whole interval to what is left.
        cpu.armed().0.xchg(ARMED);
        cpu.queue(next);
    }
}

/// When the reaper of a cache is due, in jiffies.
pub(crate) struct Deadline(AtomicLink);

impl Deadline {
    pub(crate) fn new() -> Self {
        Self(AtomicLink::new(0))
    }

    /// The reaper is about to be queued for `at`. The caller reads the drain interval again after
    /// that.
    pub(crate) fn set(&self, at: u64) {
        // ORDERING: Full: a context that sets a shorter interval finds this deadline, or the caller
        // finds that interval.
        self.0.xchg_full(at);
    }

    /// Brings the deadline forward to `at`. Returns `false`, with no change, if it is not later.
    pub(crate) fn bring_forward(&self, at: u64) -> bool {
        let mut due = self.0.load_relaxed();
        while (due.wrapping_sub(at) as i64) > 0 {
            // ORDERING: Full, as in `set()`; what is exchanged is the only shared datum.
            match self.0.cmpxchg_full(due, at) {
                Ok(_) => return true,
                Err(now) => due = now,
            }
        }
        false
    }
}
