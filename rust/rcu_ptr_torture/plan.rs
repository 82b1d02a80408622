// SPDX-License-Identifier: GPL-2.0

//! The parameters of a run.

use kernel::prelude::*;

/// The parameters; rcu_ptr_torture_main.rs describes them. Times are in nanoseconds, those of
/// hotplug, disturb and stutter in milliseconds.
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) nsecs: u64,
    pub(crate) objects: u64,
    pub(crate) writers: usize,
    pub(crate) readers: usize,
    /// Real-time threads, which preempt the others at any moment.
    pub(crate) urgent: usize,
    pub(crate) slots: usize,
    pub(crate) records: usize,
    pub(crate) sources: u32,
    pub(crate) large: u64,
    pub(crate) span: u64,
    /// The average interval of timers.
    pub(crate) timer: u64,
    pub(crate) nmis: u64,
    pub(crate) hotplug: u32,
    pub(crate) disturb: u32,
    pub(crate) fail: u64,
    pub(crate) squeeze: usize,
    pub(crate) stutter: u32,
}

/// The factor by which sanitizers slow the guest down.
pub(crate) const SLOW: u64 = if cfg!(any(CONFIG_KASAN, CONFIG_PROVE_LOCKING)) {
    8
} else {
    1
};

impl Plan {
    /// Reads the module parameters.
    ///
    /// # Errors
    ///
    /// `EINVAL` if a parameter is out of range.
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
