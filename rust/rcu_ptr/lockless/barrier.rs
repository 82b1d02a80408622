// SPDX-License-Identifier: GPL-2.0

//! The barrier: everything queued before the call is freed when it returns, on every CPU and from
//! every path (`kvfree_rcu_barrier()`).

use super::{
    block::Layout,
    drain::{self, Start},
    insert,
    krcp::{Krcp, Slow},
    Lockless, Page,
};
use crate::sys::{
    gp::{self, Snapshot},
    irq::{self, IrqsOff},
};
use kernel::sync::atomic::{Acquire, Relaxed};

/// Waits for everything queued so far.
///
/// An object is in one of four places: the current block of its CPU; a closed block or the list; a
/// batch, or the overflow while none is free; a worker that frees it. Every current block with objects is
/// closed on its own CPU, and batches are started everywhere, so that all of them and the barrier wait for
/// the same grace period. Then workers free the batches whose snapshot is over; their callbacks, which may
/// run a grace period later, are not waited for.
///
/// A second grace period is needed only where a CPU was found on the slow path, which may have closed a
/// block and been interrupted before it was pushed to the closed list (it has preemption disabled: a grace
/// period later it has been pushed); and where no batch was free.
///
/// # Context
///
/// May sleep. The CPU hotplug lock may be held, and CPU hotplug callbacks may wait for it.
pub(super) fn barrier(lockless: &Lockless) {
    let mut again = false;
    let mut waits = false;
    for krcp in lockless.krc.iter() {
        close_current(&krcp);
        // ORDERING: Before the batch, which has what is handed over by now; pairs with `Slow`.
        again |= krcp.slow.load(Acquire) != 0;
        let irqs = IrqsOff::save();
        again |= drain::start_batch(&krcp, &irqs) == Start::Busy;
        waits |= krcp.with(&irqs, |batches| batches.is_any_waiting());
    }
    if waits || again {
        Snapshot::take().wait();
    }
    free_what_waited(lockless);
    if again {
        for krcp in lockless.krc.iter() {
            start_all(&krcp);
        }
        Snapshot::take().wait();
        free_what_waited(lockless);
    }
}

/// Has workers free the batches whose grace period is over, and waits for them.
fn free_what_waited(lockless: &Lockless) {
    for krcp in lockless.krc.iter() {
        drain::free_polled(&krcp, &IrqsOff::save());
    }
    for krcp in lockless.krc.iter() {
        krcp.flush_running_batches();
    }
}

/// Makes a batch of what is there, and waits for a free place if need be.
fn start_all(krcp: &Krcp) {
    if drain::start_batch(krcp, &IrqsOff::save()) == Start::Busy {
        krcp.flush_batches();
        // Busy again: all places were filled since, and what was there is in them.
        drain::start_batch(krcp, &IrqsOff::save());
    }
}

/// Closes the current block of a CPU, on that CPU, if there are objects in it. A CPU that is offline has
/// closed its block on the way down.
///
/// # Context
///
/// Process context, interrupts on.
pub(super) fn close_current(krcp: &Krcp) {
    // ORDERING: Before `slow` is read; pairs with `Slow`.
    let word = krcp.current.load(Acquire) as usize;
    if Page::base(word) != 0 && Page::filled(word) != 0 {
        close_there(krcp);
    }
}

/// As [`close_current()`], with an object or not.
///
/// # Context
///
/// As there.
pub(super) fn close_any(krcp: &Krcp) {
    if Page::base(krcp.current.load(Relaxed) as usize) != 0 {
        close_there(krcp);
    }
}

fn close_there(krcp: &Krcp) {
    if !irq::call_on(krcp.cpu, krcp, |krcp, irqs| {
        insert::close(&Slow::new(irqs, krcp), false);
    }) {
        // ORDERING: The CPU was seen offline, so what it did before is to be seen.
        gp::mb();
    }
}
