// SPDX-License-Identifier: GPL-2.0

//! The barrier: everything queued before the call is freed when it returns, on every CPU and from
//! every path (`kvfree_rcu_barrier()`).

use super::{batch, nolock, state::Fill, Rfc};

/// Waits for everything queued so far.
///
/// An object is in one of five places, and goes through them in this order only: deferred; queued;
/// taken by a monitor or the shrinker because it was ready; in a batch; taken by the batch's work.
/// The first loop leaves nothing in the first two places on any CPU, having started all batches at
/// once, so that they share grace periods. (It empties the deferred lists itself, so it needn't wait
/// for an irq_work, and works for a CPU that died with one.) Then the lock that monitors hold while they free, and the flush of the
/// batches, wait for the others. Nothing is cancelled: what comes meanwhile keeps its monitor.
///
/// # Context
///
/// May sleep.
pub(super) fn barrier(rfc: &Rfc) {
    for krcp in rfc.krc.iter() {
        nolock::drain(&krcp);
        if batch::start(&krcp) == Fill::Busy {
            krcp.flush_batches();
            // Busy again means that somebody has filled both since, and with all that was queued.
            batch::start(&krcp);
        }
    }
    for krcp in rfc.krc.iter() {
        // A monitor detaches objects and frees them with this held; who detached them before the
        // loop above got the spinlock has had it since before.
        drop(krcp.reclaim.lock());
        krcp.flush_batches();
    }
}
