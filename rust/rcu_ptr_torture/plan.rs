// SPDX-License-Identifier: GPL-2.0

//! The parameters of a run.

use kernel::prelude::*;

/// The parameters.
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Duration, in nanoseconds.
    pub(crate) nsecs: u64,
    /// Stops after as many freed objects; 0: no limit.
    pub(crate) objects: u64,
    pub(crate) writers: usize,
    pub(crate) readers: usize,
    /// Writers of real-time priority, which preempt the others at any moment.
    pub(crate) urgent: usize,
    /// Slots for objects.
    pub(crate) slots: usize,
    /// Most objects at a time: the number of records.
    pub(crate) records: usize,
    /// A bit for each source of objects.
    pub(crate) sources: u32,
    /// The largest object, in bytes.
    pub(crate) large: u64,
    /// Longest read-side critical section of a task, in nanoseconds.
    pub(crate) span: u64,
    /// Nanoseconds between timers of a thread, on average, and so between NMIs.
    pub(crate) timer: u64,
    /// NMIs for each 8 hard interrupts.
    pub(crate) nmis: u64,
    /// Interval of CPU hotplug, in milliseconds; 0: none.
    pub(crate) hotplug: u32,
    /// Interval of barriers, short-lived caches, reserves and the like, in milliseconds; 0: none.
    pub(crate) disturb: u32,
    /// Allocations until some fail; 0: none does.
    pub(crate) fail: u64,
    /// Pages that are allocated now and then, so that shrinkers run.
    pub(crate) squeeze: usize,
    /// Longest pause of all threads, and longest time between two, in milliseconds.
    pub(crate) stutter: u32,
}

/// Sanitizers make everything an order of magnitude slower.
pub(crate) const SLOW: u64 = if cfg!(any(CONFIG_KASAN, CONFIG_PROVE_LOCKING)) {
    8
} else {
    1
};

impl Plan {
    /// From the parameters.
    ///
    /// # Errors
    ///
    /// `EINVAL`.
    pub(crate) fn get() -> Result<Self> {
        use crate::module_parameters as p;
        let cpus = crate::sys::cpu::online().count();
        let or_cpus = |n: i32| usize::try_from(n).unwrap_or(cpus);
        let this = Self {
            seed: p::seed.value(),
            nsecs: u64::from(p::msecs.value()) * 1_000_000,
            objects: p::objects.value(),
            writers: or_cpus(p::writers.value()),
            readers: or_cpus(p::readers.value()),
            urgent: or_cpus(p::urgent.value()),
            slots: p::slots.value() as usize,
            records: p::records.value() as usize,
            sources: p::sources.value(),
            large: u64::from(p::large.value()),
            span: u64::from(p::span_us.value()) * 1000,
            timer: u64::from(p::timer_us.value()) * 1000 * SLOW,
            nmis: u64::from(p::nmis.value()) / SLOW.min(4),
            hotplug: p::hotplug_ms.value(),
            disturb: p::disturb_ms.value(),
            fail: u64::from(p::fail.value()),
            squeeze: p::squeeze.value() as usize,
            stutter: p::stutter_ms.value(),
        };
        let fits = (1..=1 << 20).contains(&this.slots)
            && (this.slots * 4..=1 << 24).contains(&this.records)
            && (64..=100_000).contains(&this.large)
            && this.writers + this.readers + this.urgent <= 256
            && this.timer > 0
            && this.sources != 0;
        fits.then_some(this).ok_or(EINVAL)
    }
}
