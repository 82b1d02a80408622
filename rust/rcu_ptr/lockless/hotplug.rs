// SPDX-License-Identifier: GPL-2.0

//! CPUs come and go: one that goes down closes its block itself, long before it dies, and opens no other;
//! a dead one leaves nothing behind.

use super::{drain, insert, krcp::Slow, Lockless};
use crate::sys::{hotplug::Callbacks, irq::IrqsOff};
use kernel::sync::atomic::Relaxed;

/// The engine's callbacks.
pub(crate) struct LocklessHotplug;

impl Callbacks for LocklessHotplug {
    fn prepare(_cpu: i32) {}

    fn online(cpu: i32) {
        let krcp = Lockless::get().krc.of(cpu);
        krcp.online.store(true, Relaxed);
        krcp.tick.make_up();
    }

    /// From here on the CPU has no block: what comes is linked. So none has to be closed on a CPU that is
    /// gone, and a barrier need not wait until it is dead.
    fn leave(cpu: i32) {
        let krcp = Lockless::get().krc.of(cpu);
        let irqs = IrqsOff::save();
        // ORDERING: Read on this CPU: what interrupts this from here on opens no block.
        krcp.online.store(false, Relaxed);
        insert::close(&Slow::new(&irqs, &krcp), false);
        drain::start_batch(&krcp, &irqs);
    }

    /// What was queued since it left starts to wait at once, and the monitor, which has been moved to
    /// another CPU or will be, is put to sleep: only this CPU's own objects wake it.
    fn dead(cpu: i32) {
        let krcp = Lockless::get().krc.of(cpu);
        krcp.monitor.cancel_sync();
        krcp.expires.store(0, Relaxed);
        drain::start_batch(&krcp, &IrqsOff::save());
        drain::trim_spares(&krcp, 0);
    }
}
