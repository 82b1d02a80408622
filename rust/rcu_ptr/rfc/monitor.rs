// SPDX-License-Identifier: GPL-2.0

//! The monitor: drains what is queued, 5 s after the first object came, or a jiffy after a block's
//! worth of them was there (`kfree_rcu_monitor()`).

use super::{
    batch,
    krcp::{Krcp, KrcpRef},
    state::{Monitor, State},
    Rcu,
};
use crate::{
    params,
    sys::{pinned_timer::jiffies, work::Handler},
};

/// Arms the monitor for what is queued, unless it will run that soon anyway.
///
/// `Slow` and `Fast` mean that the work item is pending, or has been taken off its queue and will
/// next reset the state; `Arming` that an irq_work will come here. So objects are never forgotten.
///
/// # Context
///
/// Any but NMI, with the lock held: the delay is never 0, so that only a timer is set and no worker
/// is woken.
#[inline]
pub(super) fn arm(krcp: &Krcp, state: &mut State<Rcu>) {
    match (state.monitor, state.wanted_monitor()) {
        (Monitor::Idle | Monitor::Arming, Monitor::Slow) => {
            let delay = params::drain_jiffies();
            krcp.monitor.queue(&krcp.wq, delay);
            state.drain_at = jiffies().wrapping_add(delay);
            state.monitor = Monitor::Slow;
        }
        (Monitor::Idle | Monitor::Arming | Monitor::Slow, Monitor::Fast) => {
            krcp.monitor.modify(&krcp.wq, 1);
            state.monitor = Monitor::Fast;
        }
        _ => {}
    }
}

/// Heeds a drain interval that was set just now: what is queued waits for no longer than that.
///
/// # Context
///
/// Any but NMI.
pub(super) fn heed_interval(krcp: &Krcp) {
    krcp.with(|state| {
        let delay = params::drain_jiffies();
        let at = jiffies().wrapping_add(delay);
        // `Arming`: it may have been `Slow` before.
        if matches!(state.monitor, Monitor::Slow | Monitor::Arming)
            && state.drain_at.wrapping_sub(at) as isize > 0
        {
            krcp.monitor.modify(&krcp.wq, delay);
            state.drain_at = at;
        }
    });
}

/// Whether the monitor has to be armed, or armed sooner, and nobody is about to.
#[inline]
pub(super) fn is_late(state: &State<Rcu>) -> bool {
    matches!(
        (state.monitor, state.wanted_monitor()),
        (Monitor::Idle, Monitor::Slow | Monitor::Fast) | (Monitor::Slow, Monitor::Fast)
    )
}

/// Frees what is ready, makes a batch of the rest, and comes back when both batches are busy.
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
    krcp.with(|state| arm(krcp, state));
    freed
}

/// The work item.
pub(super) struct MonitorWork(pub(super) KrcpRef);

impl Handler for MonitorWork {
    fn run(&self) {
        // Objects that come from now on arm it again.
        self.0.with(|state| state.monitor = Monitor::Idle);
        run(&self.0);
    }
}
