// SPDX-License-Identifier: GPL-2.0

//! A timer that stays on the CPU that set it, idle or not.
//!
//! C header: [`include/linux/timer.h`](srctree/include/linux/timer.h)
//!
//! # Context
//!
//! What waits for the handler may sleep.

use super::{
    irq::IrqsOff,
    work::{Handler, Item},
};
use kernel::{bindings, prelude::*};

/// Runs its handler in softirq (in a thread on PREEMPT_RT) of the CPU that set it; on another one
/// only after that CPU has died.
pub(crate) type PinnedTimer<H> = Item<bindings::timer_list, H>;

impl<H: Handler> PinnedTimer<H> {
    /// An idle timer; `name` and `key` are what lockdep shows.
    pub(crate) fn new(
        name: &'static CStr,
        key: Pin<&'static kernel::sync::LockClassKey>,
        handler: H,
    ) -> impl PinInit<Self> {
        // SAFETY: The function initialises it; `entry` fits its type.
        let init = move |slot| unsafe {
            bindings::timer_init_key(
                slot,
                Some(Self::entry),
                bindings::TIMER_PINNED,
                name.as_char_ptr(),
                key.as_ptr(),
            )
        };
        // SAFETY: As above.
        unsafe { Self::with(init, handler) }
    }

    /// Lets the handler run on this CPU at `expires`, in jiffies, whether the timer was set or not.
    ///
    /// # Context
    ///
    /// Any but NMI; raw spinlocks may be held. Always on the same CPU.
    pub(crate) fn set(&self, expires: c_ulong, _irqs: &IrqsOff) {
        // SAFETY: The timer is initialised.
        unsafe { bindings::mod_timer(self.raw(), expires) };
    }

    /// Stops the timer and waits for its handler.
    pub(crate) fn cancel_sync(&self) {
        // SAFETY: The timer is initialised.
        unsafe { bindings::timer_delete_sync(self.raw()) };
    }

    /// Stops the timer for good and waits for its handler: it can't be set any more.
    pub(crate) fn shutdown_sync(&self) {
        // SAFETY: The timer is initialised.
        unsafe { bindings::timer_shutdown_sync(self.raw()) };
    }
}

/// Now, in jiffies, in any context.
#[inline]
pub(crate) fn jiffies() -> c_ulong {
    // SAFETY: A word that is always there; the kernel counts it up while we read.
    unsafe { (&raw const bindings::jiffies).read_volatile() }
}
