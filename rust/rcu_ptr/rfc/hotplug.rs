// SPDX-License-Identifier: GPL-2.0

//! CPUs come and go: a dead one leaves nothing behind.

use super::{drain, queue, refill, Rfc};
use crate::sys::hotplug::Callbacks;

/// The engine's callbacks.
pub(crate) struct KrcHotplug;

impl Callbacks for KrcHotplug {
    fn prepare(cpu: i32) {
        Rfc::get().krc.of(cpu).with(|state| state.online = true);
    }

    fn online(cpu: i32) {
        let krcp = Rfc::get().krc.of(cpu);
        krcp.defer_work.make_up();
        krcp.arm_work.make_up();
    }

    /// Deferred objects are taken over (its irq_work may never run again), blocks go back, and what
    /// was queued starts to wait at once: nobody waits for the monitor. Other timers and work items of
    /// the CPU have moved to others by themselves.
    fn dead(cpu: i32) {
        let krcp = Rfc::get().krc.of(cpu);
        krcp.monitor.cancel_sync();
        krcp.with(|state| {
            state.online = false;
            // Nor may the irq_work have been queued that was to arm it.
            state.arming.died();
        });
        queue::take_over(&krcp);
        refill::drop_cached(&krcp);
        drain::run(&krcp);
    }
}
