// SPDX-License-Identifier: GPL-2.0

//! irq_work: the way from NMI to a context that may take locks.
//!
//! C header: [`include/linux/irq_work.h`](srctree/include/linux/irq_work.h)

use super::{context, generated as sys, preempt::OnCpu, work::Handler};
use kernel::{bindings, prelude::*, types::Opaque};

/// When the handler of an [`IrqWork`] runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// As soon as interrupts are on: raises an interrupt to this CPU.
    Now,
    /// With the next tick, and only where the tick is stopped with an interrupt of its own.
    Lazy,
}

/// Runs its handler on the CPU that queued it, in hardirq (in a thread of that CPU on PREEMPT_RT).
#[pin_data]
#[repr(C)]
pub(crate) struct IrqWork<H> {
    #[pin]
    work: Opaque<bindings::irq_work>,
    handler: H,
}

// SAFETY: The C side claims the work atomically; `handler` is only shared.
unsafe impl<H: Sync> Sync for IrqWork<H> {}
// SAFETY: As above.
unsafe impl<H: Send> Send for IrqWork<H> {}

impl<H: Handler> IrqWork<H> {
    /// An idle item.
    pub(crate) fn new(urgency: Urgency, handler: H) -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: `slot` is the pinned memory of the item; `entry` fits its type.
            work <- Opaque::ffi_init(|slot| unsafe {
                sys::rcu_ptr_shim_init_irq_work(slot, Some(Self::entry), urgency == Urgency::Lazy)
            }),
            handler,
        })
    }

    /// # Safety
    ///
    /// `work` is that of a live `Self`.
    unsafe extern "C" fn entry(work: *mut bindings::irq_work) {
        // SAFETY: By the safety requirements of this function, as the owner waits for the item
        // before it goes; `work` is the first member (`repr(C)`).
        let this = unsafe { &*work.cast::<Self>() };
        this.handler.run();
    }

    /// Queues the item on this CPU unless it is queued already. Not so where the CPU is on its way
    /// down: it has run its last item, and one that is queued now stays so until the CPU is back,
    /// with [`Self::sync()`] waiting. The callbacks for dead CPUs have to do what it would have done.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    #[inline]
    pub(crate) fn queue(&self, on: &impl OnCpu) {
        if context::is_going(context::this_cpu(on)) {
            return;
        }
        // SAFETY: The item is initialised.
        unsafe { bindings::irq_work_queue(self.work.get()) };
    }

    /// Waits until the item is neither queued nor running.
    ///
    /// # Context
    ///
    /// May sleep. One caller at a time: on PREEMPT_RT there is room for one sleeper.
    pub(crate) fn sync(&self) {
        // SAFETY: The item is initialised.
        unsafe { bindings::irq_work_sync(self.work.get()) };
    }
}
