// SPDX-License-Identifier: GPL-2.0

//! CPU hotplug: a dead CPU's objects are taken over, a batch is made of them, and its cached blocks are
//! freed. Nothing runs on the way down.
//!
//! | what is left when the CPU is dead | taken by | when |
//! |---|---|---|
//! | deferred objects | `dead()` queues them | once it is dead |
//! | queued objects | `dead()` frees what is ready and makes a batch of the rest | once it is dead |
//! | batches | their work items, on any CPU | after their grace periods |
//! | callbacks whose grace period is over | their workers, on any CPU | at any time |
//! | cached blocks | `dead()` frees them | once it is dead |
//! | an irq_work that could not be queued on the way down | `online()` queues it | when the CPU is back |

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

    /// The irq_work that takes over deferred objects may never run again, and the monitor is not waited
    /// for. Other timers and work items of the CPU migrate by themselves.
    fn dead(cpu: i32) {
        let krcp = Rfc::get().krc.of(cpu);
        krcp.monitor.cancel_sync();
        krcp.with(|state| {
            state.online = false;
            // The irq_work that was to arm the monitor may not have been queued.
            state.arming.died();
        });
        queue::take_over(&krcp);
        refill::drop_cached(&krcp);
        drain::run(&krcp);
    }
}
