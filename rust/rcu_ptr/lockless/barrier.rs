// SPDX-License-Identifier: GPL-2.0

//! The barrier: everything queued before the call is freed when it returns, on every CPU and from
//! every path (`kvfree_rcu_barrier()`).

use super::{
    batch::{self, Start},
    cpu::This,
    insert,
    krcp::Krcp,
    word::Layout,
    Lockless, Page,
};
use crate::sys::{gp, ipi, irq::IrqsOff};
use kernel::sync::atomic::Relaxed;

/// Waits for everything queued so far.
///
/// An object is in one of four places: the current block of its CPU; a closed block or the list; a
/// batch, or aside while none is free; the hands of a worker. Every current block with objects is
/// closed on its own CPU first. A context that had closed a block and was interrupted before it could
/// hand it over has preemption off: a grace period later it has done so. By then batches have been
/// started, so that their grace periods overlap with that one.
///
/// # Context
///
/// May sleep.
pub(super) fn barrier(lockless: &Lockless) {
    for krcp in lockless.krc.iter() {
        while !close_current(&krcp, false) {
            gp::sleep_a_jiffy();
        }
        batch::start(&krcp, &IrqsOff::save());
    }
    gp::synchronize();
    for krcp in lockless.krc.iter() {
        start_all(&krcp);
    }
    for krcp in lockless.krc.iter() {
        krcp.flush_batches();
        // A batch that was freed may have made another of what found none free.
        start_all(&krcp);
        krcp.flush_batches();
    }
}

/// Makes a batch of what is there, whatever it takes.
fn start_all(krcp: &Krcp) {
    if batch::start(krcp, &IrqsOff::save()) == Start::Busy {
        krcp.flush_batches();
        // Busy again means that somebody has filled all since, and with all that was there.
        batch::start(krcp, &IrqsOff::save());
    }
}

/// Has a CPU close its current block, if there are objects in it; or `even_empty`. `false`: the CPU
/// is on its way down, and its hotplug callback will.
///
/// # Context
///
/// Process context, interrupts on.
pub(super) fn close_current(krcp: &Krcp, even_empty: bool) -> bool {
    let word = krcp.current.load(Relaxed);
    if Page::base(word) == 0 || (Page::filled(word) == 0 && !even_empty) {
        return true;
    }
    ipi::call_on(krcp.cpu, krcp, |krcp, irqs| {
        insert::close(&This { on: irqs, krcp }, false);
    })
}
