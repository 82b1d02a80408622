// SPDX-License-Identifier: GPL-2.0

//! A one-shot timer that fires at once: the way from a context that may hold any lock (the
//! scheduler's included) to one that may wake a worker.

use super::work::Handler;
use kernel::{bindings, prelude::*, types::Opaque};

/// An hrtimer whose handler runs in hardirq (a thread on PREEMPT_RT).
#[pin_data]
#[repr(C)]
pub(crate) struct KickTimer<H> {
    #[pin]
    timer: Opaque<bindings::hrtimer>,
    handler: H,
}

// SAFETY: The C side locks the timer itself; `handler` is only shared.
unsafe impl<H: Sync> Sync for KickTimer<H> {}
// SAFETY: As above.
unsafe impl<H: Send> Send for KickTimer<H> {}

impl<H: Handler> KickTimer<H> {
    /// An idle timer.
    pub(crate) fn new(handler: H) -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: `slot` is the pinned memory of the timer; `entry` fits its type.
            timer <- Opaque::ffi_init(|slot| unsafe {
                bindings::hrtimer_setup(
                    slot,
                    Some(Self::entry),
                    bindings::CLOCK_MONOTONIC as c_int,
                    bindings::hrtimer_mode_HRTIMER_MODE_REL,
                )
            }),
            handler,
        })
    }

    /// # Safety
    ///
    /// `timer` is that of a live `Self`.
    unsafe extern "C" fn entry(timer: *mut bindings::hrtimer) -> bindings::hrtimer_restart {
        // SAFETY: By the safety requirements of this function, as the owner cancels the timer
        // before it goes; `timer` is the first member (`repr(C)`).
        let this = unsafe { &*timer.cast::<Self>() };
        this.handler.run();
        bindings::hrtimer_restart::HRTIMER_NORESTART
    }

    /// Lets the handler run as soon as interrupts are on.
    ///
    /// # Context
    ///
    /// Any but NMI; raw spinlocks may be held.
    pub(crate) fn kick(&self) {
        // SAFETY: The timer is initialised.
        unsafe {
            bindings::hrtimer_start_range_ns(
                self.timer.get(),
                0,
                0,
                bindings::hrtimer_mode_HRTIMER_MODE_REL,
            )
        };
    }

    /// Stops the timer and waits for its handler.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn cancel_sync(&self) {
        // SAFETY: The timer is initialised.
        unsafe { bindings::hrtimer_cancel(self.timer.get()) };
    }
}
