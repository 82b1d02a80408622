// SPDX-License-Identifier: GPL-2.0

//! irq_work: runs a handler in a context that may take locks, queued from NMI.
//!
//! C header: [`include/linux/irq_work.h`](srctree/include/linux/irq_work.h)

use super::{
    generated as sys,
    preempt::{OnCpu, PreemptOff},
    work::{Handler, Item},
};
use kernel::{
    bindings,
    prelude::*,
    sync::atomic::{AtomicFlag, Relaxed},
};

/// When the handler of an [`IrqWork`] runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// As soon as interrupts are enabled, by a self-interrupt. In hardirq, on PREEMPT_RT as well.
    Hard,
    /// As `Hard`; on PREEMPT_RT in a thread of this CPU.
    Now,
    /// With the next tick; by a self-interrupt if the tick is stopped or may be just stopping.
    Lazy,
}

/// Runs its handler on the CPU that queued it: in hardirq, on PREEMPT_RT in a thread of that CPU
/// unless it is [`Urgency::Hard`].
#[pin_data]
pub(crate) struct IrqWork<H> {
    #[pin]
    item: Item<bindings::irq_work, H>,
    /// Raises an interrupt, in which lazy items run as well.
    #[pin]
    raise: Item<bindings::irq_work, Nothing>,
    is_lazy: bool,
    /// Not queued because the CPU is going down; has to be queued if it stays up.
    due: AtomicFlag,
}

fn idle<H: Handler>(flags: u32, handler: H) -> impl PinInit<Item<bindings::irq_work, H>> {
    // SAFETY: The shim initialises it; `entry` fits its type.
    let init = move |slot| unsafe {
        let entry = Item::<bindings::irq_work, H>::entry;
        sys::rcu_ptr_shim_init_irq_work(slot, Some(entry), flags as c_int)
    };
    // SAFETY: As above.
    unsafe { Item::with(init, handler) }
}

impl<H: Handler> IrqWork<H> {
    /// An idle item.
    pub(crate) fn new(urgency: Urgency, handler: H) -> impl PinInit<Self> {
        let flags = match urgency {
            Urgency::Hard => bindings::IRQ_WORK_HARD_IRQ,
            Urgency::Now => 0,
            Urgency::Lazy => bindings::IRQ_WORK_LAZY,
        };
        pin_init!(Self {
            item <- idle(flags, handler),
            raise <- idle(bindings::IRQ_WORK_HARD_IRQ, Nothing),
            is_lazy: urgency == Urgency::Lazy,
            due: AtomicFlag::new(false),
        })
    }

    /// Queues the item on this CPU unless it is queued already. On a CPU that is going down it is
    /// only marked as due: queued late it would stay so until the CPU is up again, and
    /// [`Self::sync()`] would wait. Hotplug callbacks for dead CPUs have to do the work of the
    /// handler, and those for online CPUs call [`Self::queue_if_due()`].
    ///
    /// # Context
    ///
    /// Any, NMI included.
    #[inline]
    pub(crate) fn queue(&self, _on: &impl OnCpu) {
        // SAFETY: No requirements; preemption is off.
        if !unsafe { sys::rcu_ptr_shim_irq_works_run() } {
            // ORDERING: Read on this CPU, after it has enabled irq_works again.
            self.due.store(true, Relaxed);
            return;
        }
        self.queue_anyway();
    }

    fn queue_anyway(&self) {
        // SAFETY: The item is initialised.
        let queued = unsafe { bindings::irq_work_queue(self.item.raw()) };
        // In the idle task, and at the end of an interrupt of a nohz_full CPU, the kernel checks
        // for lazy irq_works before it stops the tick. One that an NMI or a tracepoint queues in
        // between would wait for the next interrupt.
        // SAFETY: No requirements but for the item, which is initialised.
        if queued && self.is_lazy && unsafe { sys::rcu_ptr_shim_may_stop_tick() } {
            // SAFETY: As above.
            unsafe { bindings::irq_work_queue(self.raise.raw()) };
        }
    }

    /// Queues the item if [`Self::queue()`] has only marked it as due.
    ///
    /// # Context
    ///
    /// As for [`Callbacks::online()`](super::hotplug::Callbacks::online), for an item of that CPU.
    pub(crate) fn queue_if_due(&self) {
        if self.due.load(Relaxed) {
            // A later queue() queues the item itself.
            self.due.store(false, Relaxed);
            self.queue(&PreemptOff::new());
        }
    }

    /// Waits until the item is neither queued nor running (`irq_work_sync()`).
    ///
    /// # Context
    ///
    /// May sleep. One caller at a time: on PREEMPT_RT only one task can wait.
    pub(crate) fn sync(&self) {
        // SAFETY: Both are initialised.
        unsafe {
            bindings::irq_work_sync(self.item.raw());
            bindings::irq_work_sync(self.raise.raw());
        }
    }
}

/// Enables irq_works on this CPU.
///
/// # Context
///
/// Process context on a CPU that has been brought up.
pub(super) fn enable() {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_shim_set_irq_works_run(true) };
}

/// Disables irq_works on this CPU, and waits for those that are queued.
///
/// # Context
///
/// Process context on a CPU that is about to go down, before its threads are parked.
pub(super) fn disable() {
    // SAFETY: No requirements. A context that saw the old value on this CPU has queued its item by
    // now, as it had preemption disabled.
    unsafe { sys::rcu_ptr_shim_set_irq_works_run(false) };
    // Without PREEMPT_RT the kernel itself runs them, as late as possible.
    if cfg!(CONFIG_PREEMPT_RT) {
        pin_init::stack_pin_init!(let last = IrqWork::new(Urgency::Now, Nothing));
        last.queue_anyway();
        // One thread runs them all, and stays in an RCU read-side critical section while it runs
        // what it found at once: this waits for a grace period, too.
        last.sync();
    }
}

struct Nothing;

impl Handler for Nothing {
    fn run(&self) {}
}
