// SPDX-License-Identifier: GPL-2.0

//! CPUs come and go: a dead one leaves nothing behind.

use super::{batch, cpu::Dead, insert, krcp::Krcp, Lockless};
use crate::sys::{hotplug::Callbacks, irq::IrqsOff};
use kernel::sync::atomic::Relaxed;

/// The engine's callbacks.
pub(super) struct LocklessHotplug;

impl Callbacks for LocklessHotplug {
    fn prepare(cpu: i32) {
        Lockless::get().krc.of(cpu).online.store(true, Relaxed);
    }

    fn online(cpu: i32) {
        Lockless::get().krc.of(cpu).tick.make_up();
    }

    /// The one time that a block is closed on another CPU than its own: nothing runs there any more.
    /// What was queued starts to wait at once, and the monitor, which has been moved to another CPU
    /// or will be, is put to sleep: nobody but this CPU's own objects wakes it.
    fn dead(cpu: i32) {
        let krcp = Lockless::get().krc.of(cpu);
        krcp.online.store(false, Relaxed);
        krcp.monitor.cancel_sync();
        krcp.expires.store(0, Relaxed);
        close_dead(&krcp);
        batch::start(&krcp, &IrqsOff::save());
        batch::drop_spares(&krcp);
    }
}

/// Closes the current block of a CPU that is dead, or was never up.
///
/// # Context
///
/// Any but NMI.
pub(super) fn close_dead(krcp: &Krcp) {
    let irqs = IrqsOff::save();
    insert::close(&Dead { _on: &irqs, krcp }, false);
}
