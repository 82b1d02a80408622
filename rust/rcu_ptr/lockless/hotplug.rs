// SPDX-License-Identifier: GPL-2.0

//! CPU hotplug: a CPU that goes down closes its block itself, long before it dies, and opens no other. What
//! is queued on it after that is linked, and becomes a batch when it is dead.
//!
//! | what a CPU has | taken by | when |
//! |---|---|---|
//! | the current block | `leave()`, on the CPU itself | before it goes down |
//! | objects linked since | `dead()` makes a batch of them | once it is dead |
//! | batches | their work items, on any CPU | after their grace periods |
//! | ready callbacks | their workers, on any CPU | at any time |
//! | spare blocks | `dead()` frees them | once it is dead |
//! | an irq_work that was not queued | `online()` queues it | when the CPU is back |

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

    /// From here on the CPU has no block, and objects are linked. So no block has to be closed on a CPU that
    /// is gone, and a barrier need not wait until it is dead.
    fn leave(cpu: i32) {
        let krcp = Lockless::get().krc.of(cpu);
        let irqs = IrqsOff::save();
        // ORDERING: Read on this CPU: what interrupts this from here on opens no block.
        krcp.online.store(false, Relaxed);
        insert::close(&Slow::new(&irqs, &krcp), false);
        drain::start_batch(&krcp, &irqs);
    }

    /// What was queued since `leave()` becomes a batch at once. The monitor's timer is stopped, on
    /// whichever CPU it is by now; nothing arms it again, as only frees on this CPU do.
    fn dead(cpu: i32) {
        let krcp = Lockless::get().krc.of(cpu);
        krcp.monitor.cancel_sync();
        krcp.expires.store(0, Relaxed);
        drain::start_batch(&krcp, &IrqsOff::save());
        drain::trim_spares(&krcp, 0);
    }
}
