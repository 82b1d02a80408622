// SPDX-License-Identifier: GPL-2.0

//! The barrier: everything queued before the call is freed when it returns, on every CPU and from
//! every path (`kvfree_rcu_barrier()`).

use super::{drain, queue, Rfc};
use crate::sys::gp;
use kernel::sync::atomic::Relaxed;

/// Waits for everything queued so far.
///
/// An object is in one of five places, and goes through them in this order only: deferred; queued;
/// taken by a monitor or the shrinker because it was ready; in a batch; taken by the batch's work.
/// The first loop leaves nothing in the first two places on any CPU, so that one grace period is enough
/// for all. (It empties the deferred lists itself, so it needn't wait for an irq_work, and works for a
/// CPU that died with one.) Afterwards batches are freed here, as their callbacks may come later than
/// their grace period. Then the lock that monitors hold while they free, and the works of the batches
/// that run, are waited for. Nothing is cancelled: what comes meanwhile keeps its monitor.
///
/// Barriers take turns. One that began when another was at work has the next one done for it, too.
///
/// # Context
///
/// May sleep.
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
    // ORDERING: Who found the old number has queued by now, as far as the loop below is concerned.
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
        // A monitor detaches objects and frees them with this held; who detached them before the
        // loop above got the spinlock has had it since before.
        drop(krcp.reclaim.lock());
        krcp.settle_batches();
    }
    rfc.turns.store(turn.wrapping_add(2), Relaxed);
}
