// SPDX-License-Identifier: GPL-2.0

//! The monitor: drains what is queued, 5 s after the first object came, or a jiffy after a block's
//! worth of them was there (`kfree_rcu_monitor()`).

use super::{
    arm::{self, Arming, Monitor, Timed},
    batch,
    krcp::{Krcp, KrcpRef},
    state::State,
};
use crate::{
    params,
    sys::{irq::IrqsOff, pinned_timer::jiffies, work::Handler},
};

impl Timed for Krcp {
    fn with<R>(&self, f: impl FnOnce(&mut Arming, Monitor) -> R) -> R {
        self.with(|state| {
            let wanted = state.wanted_monitor();
            f(&mut state.arming, wanted)
        })
    }

    fn now(&self) -> usize {
        jiffies()
    }

    fn interval(&self) -> usize {
        params::drain_jiffies()
    }

    fn set(&self, delay: usize) {
        self.monitor.modify(&self.wq, delay);
    }
}

/// Arms the monitor for what is queued, unless it will run that soon anyway. Where a block's worth is
/// there it runs in `fast` jiffies.
///
/// # Context
///
/// Any but NMI; no lock is held that a timer takes or, with `fast` 0, a wakeup.
pub(super) fn arm(krcp: &Krcp, fast: usize) {
    let _irqs = IrqsOff::save();
    arm::arm(krcp, fast);
}

/// Frees what is ready, makes a batch of the rest, and comes back a jiffy later when both batches are busy.
/// Returns how many objects were freed at once.
///
/// # Context
///
/// May sleep. Allocates nothing: memory reclaim gets here too.
pub(super) fn run(krcp: &Krcp) -> usize {
    let mut freed = 0;
    loop {
        // Held while objects are in nobody's account but ours: see `barrier()`.
        let _reclaim = krcp.reclaim.lock();
        let ready = krcp.with(State::take_ready);
        if ready.is_empty() {
            break;
        }
        freed += batch::free_objects(krcp, ready, None);
    }
    batch::start(krcp);
    arm(krcp, 1);
    freed
}

/// The work item.
pub(super) struct MonitorWork(pub(super) KrcpRef);

impl Handler for MonitorWork {
    fn run(&self) {
        // Objects that come from now on arm it again.
        self.0.with(|state| state.arming.fired());
        run(&self.0);
    }
}
