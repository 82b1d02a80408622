// SPDX-License-Identifier: GPL-2.0

//! Timers that expire on the CPU that set them, even if it is idle (`TIMER_PINNED`); jiffies.
//!
//! C header: [`include/linux/timer.h`](srctree/include/linux/timer.h)
//!
//! # Context
//!
//! Functions that wait for the handler may sleep.

use super::{
    irq::IrqsOff,
    work::{Handler, Item},
};
use kernel::{bindings, prelude::*};

/// Runs its handler in softirq (on PREEMPT_RT in a thread) of the CPU that set it; on another one
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

    /// Runs the handler on this CPU at `expires`, in jiffies, also if the timer is set already
    /// (`mod_timer()`).
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

    /// Stops the timer and waits for its handler. The timer cannot be set again.
    pub(crate) fn shutdown_sync(&self) {
        // SAFETY: The timer is initialised.
        unsafe { bindings::timer_shutdown_sync(self.raw()) };
    }
}

/// The current time in jiffies. Any context.
#[inline]
pub(crate) fn jiffies() -> c_ulong {
    // SAFETY: A static word, read by a single access as it changes concurrently.
    unsafe { (&raw const bindings::jiffies).read_volatile() }
}
