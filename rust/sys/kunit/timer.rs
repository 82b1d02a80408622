// SPDX-License-Identifier: GPL-2.0

//! Running something in hard or soft interrupt context on this CPU, again and again.

use kernel::{bindings, prelude::*, types::Opaque};

/// Where the handler runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Where {
    /// In the timer interrupt, on PREEMPT_RT too.
    Hardirq,
    /// In softirq context (a thread on PREEMPT_RT).
    Softirq,
}

/// A periodic timer on the CPU where it was started.
#[pin_data]
#[repr(C)]
pub(crate) struct Periodic<'a> {
    #[pin]
    timer: Opaque<bindings::hrtimer>,
    body: &'a (dyn Fn() + Sync),
    nsecs: i64,
    mode: bindings::hrtimer_mode,
}

impl<'a> Periodic<'a> {
    /// Runs `body` every `nsecs` nanoseconds while `meanwhile` runs.
    ///
    /// # Context
    ///
    /// May sleep, in a thread bound to its CPU.
    pub(crate) fn run<R>(
        place: Where,
        nsecs: i64,
        body: &'a (dyn Fn() + Sync),
        meanwhile: impl FnOnce() -> R,
    ) -> Result<R> {
        let mode = match place {
            Where::Hardirq => bindings::hrtimer_mode_HRTIMER_MODE_REL_PINNED_HARD,
            Where::Softirq => bindings::hrtimer_mode_HRTIMER_MODE_REL_PINNED_SOFT,
        };
        let timer = KBox::pin_init::<Error>(
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
                nsecs,
                mode,
            }),
            GFP_KERNEL,
        )?;
        timer.start();
        let ret = meanwhile();
        // SAFETY: The timer is initialised; waits for its handler.
        unsafe { bindings::hrtimer_cancel(timer.timer.get()) };
        Ok(ret)
    }

    fn start(&self) {
        // SAFETY: The timer is initialised.
        unsafe { bindings::hrtimer_start_range_ns(self.timer.get(), self.nsecs, 0, self.mode) };
    }

    /// # Safety
    ///
    /// `timer` is that of a live `Self`.
    unsafe extern "C" fn entry(timer: *mut bindings::hrtimer) -> bindings::hrtimer_restart {
        // SAFETY: By the safety requirements of this function: `run()` cancels the timer before it
        // goes; `timer` is the first member (`repr(C)`).
        let this = unsafe { &*timer.cast::<Self>() };
        (this.body)();
        // From now, not from when it was due: the test's own work must get its share.
        this.start();
        bindings::hrtimer_restart::HRTIMER_NORESTART
    }
}
