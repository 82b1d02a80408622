// SPDX-License-Identifier: GPL-2.0

//! The barrier (`kvfree_rcu_barrier()`): what is queued anywhere moves into batches that share one grace
//! period, and these are freed here.

use super::{drain, queue, Rfc};
use crate::sys::gp;
use kernel::sync::atomic::Relaxed;

/// Waits for everything queued so far.
///
/// An object is in one of five places, and goes through them in this order only: deferred; queued;
/// taken by a monitor or the shrinker because it was ready; in a batch; taken by the batch's work.
/// The first loop empties the first two places on every CPU, so that one grace period is enough. (It
/// empties the deferred lists itself, so it needn't wait for an irq_work, which may never run on a CPU that
/// died.) Afterwards batches are freed here, as their callbacks may run later than their grace period. Then
/// it waits for the lock that monitors hold while they free, and for work items that run. Nothing is
/// cancelled: objects that are queued meanwhile keep their monitor.
///
/// Barriers take turns. Those that begin while one runs share the next one.
///
/// # Context
///
/// May sleep. No CPU is waited for, so the hotplug lock may be held, and a hotplug callback may wait.
pub(super) fn barrier(rfc: &Rfc) {
    // ORDERING: What was queued before is seen by a turn that begins after this: pairs with the barrier
    // after its beginning.
    gp::mb();
    let done = rfc.turns.load(Relaxed).wrapping_add(3) & !1;
    let _turn = rfc.barrier.lock();
    let turn = rfc.turns.load(Relaxed);
    if turn.wrapping_sub(done) as isize >= 0 {
        // ORDERING: By the mutex: what that turn did is seen.
        return;
    }
    rfc.turns.store(turn.wrapping_add(1), Relaxed);
    // ORDERING: What a barrier that read the old number covers was queued before the loop below.
    gp::mb();
    let mut waits = false;
    for krcp in rfc.krc.iter() {
        queue::take_over(&krcp);
        waits |= drain::start_for_barrier(&krcp);
    }
    if waits {
        gp::synchronize();
    }
    for krcp in rfc.krc.iter() {
        drain::free_what_waited(&krcp);
    }
    for krcp in rfc.krc.iter() {
        // A monitor detaches objects and frees them with this held; one that detached them before the
        // loop above got the spinlock has had it since before.
        drop(krcp.reclaim.lock());
        krcp.flush_running_batches();
    }
    rfc.turns.store(turn.wrapping_add(2), Relaxed);
}
