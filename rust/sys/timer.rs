// SPDX-License-Identifier: GPL-2.0

//! Timers that run a closure in hardirq or softirq, which returns when to run again. (A timer of
//! the `kernel` crate is a field of a type that owns its handler, so it cannot borrow one.)
//!
//! C header: [`include/linux/hrtimer.h`](srctree/include/linux/hrtimer.h)
//!
//! # Context
//!
//! A task that may sleep.

use kernel::{bindings, prelude::*, types::Opaque};

/// The context of the closure.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Where {
    /// In the timer interrupt, on PREEMPT_RT too.
    Hardirq,
    /// In softirq context (a thread on PREEMPT_RT).
    Softirq,
}

/// Returns the nanoseconds until it is to run again, or 0.
type Body<'a> = dyn Fn() -> u64 + Sync + 'a;

/// An hrtimer with a closure.
#[pin_data(PinnedDrop)]
#[repr(C)]
pub(crate) struct Timer<'a> {
    #[pin]
    timer: Opaque<bindings::hrtimer>,
    body: &'a Body<'a>,
    mode: bindings::hrtimer_mode,
}

impl<'a> Timer<'a> {
    /// Creates an idle timer.
    pub(crate) fn new(place: Where, body: &'a Body<'a>) -> Result<Pin<KBox<Self>>> {
        let mode = match place {
            Where::Hardirq => bindings::hrtimer_mode_HRTIMER_MODE_REL_PINNED_HARD,
            Where::Softirq => bindings::hrtimer_mode_HRTIMER_MODE_REL_PINNED_SOFT,
        };
        KBox::pin_init::<Error>(
            try_pin_init!(Self {
                // SAFETY: `slot` is the pinned memory of the timer; `entry` fits its type.
                timer <- Opaque::ffi_init(|slot| unsafe {
                    bindings::hrtimer_setup(
                        slot,
                        Some(Self::entry),
                        bindings::CLOCK_MONOTONIC as c_int,
                        mode,
                    )
                }),
                body,
                mode,
            }),
            GFP_KERNEL,
        )
    }

    /// Runs the closure on this CPU in `nsecs` nanoseconds, unless the timer is active.
    pub(crate) fn start(&self, nsecs: u64) {
        // SAFETY: The timer is initialised. If its closure runs, it restarts the timer itself.
        if !unsafe { bindings::hrtimer_active(self.timer.get()) } {
            self.restart(nsecs);
        }
    }

    /// Stops the timer, and waits until the closure has returned.
    pub(crate) fn cancel(&self) {
        // SAFETY: The timer is initialised.
        unsafe { bindings::hrtimer_cancel(self.timer.get()) };
    }

    fn restart(&self, nsecs: u64) {
        // SAFETY: The timer is initialised.
        unsafe {
            bindings::hrtimer_start_range_ns(self.timer.get(), nsecs as i64, 0, self.mode);
        }
    }

    /// # Safety
    ///
    /// `timer` is a field of a live `Self`.
    unsafe extern "C" fn entry(timer: *mut bindings::hrtimer) -> bindings::hrtimer_restart {
        // SAFETY: By the safety requirements of this function: dropping cancels the timer; `timer`
        // is the first member (`repr(C)`).
        let this = unsafe { &*timer.cast::<Self>() };
        let again = (this.body)();
        if again != 0 {
            this.restart(again);
        }
        bindings::hrtimer_restart::HRTIMER_NORESTART
    }
}

#[pinned_drop]
impl PinnedDrop for Timer<'_> {
    /// Stops the timer.
    fn drop(self: Pin<&mut Self>) {
        self.cancel();
    }
}

/// Runs `meanwhile`, and during it `body` on this CPU, which the caller is bound to, `nsecs`
/// nanoseconds after each return.
pub(crate) fn every<R>(
    place: Where,
    nsecs: u64,
    body: &(dyn Fn() + Sync),
    meanwhile: impl FnOnce() -> R,
) -> Result<R> {
    let body = || {
        body();
        nsecs
    };
    let timer = Timer::new(place, &body)?;
    timer.start(nsecs);
    Ok(meanwhile())
}
