// SPDX-License-Identifier: GPL-2.0

//! How long interrupts, softirqs and idle periods last: probes on the kernel's tracepoints.

use super::{
    counters::cycles,
    cpu::this as this_cpu,
    tracepoint::{self, Tracepoint},
};
use kernel::{
    bindings,
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

const CPUS: usize = 64;
const SOFTIRQS: usize = bindings::NR_SOFTIRQS as usize;

/// The longest stretch of one kind.
pub(crate) struct Stretch {
    start: [Atomic<u64>; CPUS],
    longest: Atomic<u64>,
}

impl Stretch {
    const fn new() -> Self {
        Self {
            start: [const { Atomic::new(0) }; CPUS],
            longest: Atomic::new(0),
        }
    }

    fn reset(&self) {
        self.start.iter().for_each(|s| s.store(0, Relaxed));
        self.longest.store(0, Relaxed);
    }

    #[inline]
    fn enter(&self) {
        if let Some(start) = self.start.get(this_cpu() as usize) {
            start.store(cycles(), Relaxed);
        }
    }

    #[inline]
    fn leave(&self) {
        let now = cycles();
        if let Some(start) = self.start.get(this_cpu() as usize) {
            let began = start.load(Relaxed);
            if began != 0 {
                // Races between CPUs never lose a stretch that is much longer.
                let lasted = now - began;
                if lasted > self.longest.load(Relaxed) {
                    self.longest.store(lasted, Relaxed);
                }
            }
            start.store(0, Relaxed);
        }
    }

    /// Cycles of the longest one.
    pub(crate) fn longest(&self) -> u64 {
        self.longest.load(Relaxed)
    }
}

/// Self-interrupts that run irq_works.
pub(crate) static IRQ_WORK: Stretch = Stretch::new();
/// Timer interrupts: the tick, which runs lazy irq_works, and hrtimers.
pub(crate) static TIMER: Stretch = Stretch::new();
/// Softirqs by their number.
pub(crate) static SOFTIRQ: [Stretch; SOFTIRQS] = [const { Stretch::new() }; SOFTIRQS];
/// The number of RCU's softirq.
pub(crate) const RCU_SOFTIRQ: usize = bindings::RCU_SOFTIRQ as usize;
/// The number of the softirq of timers.
pub(crate) const TIMER_SOFTIRQ: usize = bindings::TIMER_SOFTIRQ as usize;

extern "C" fn irq_work_entry(_data: *mut c_void, _vector: c_int) {
    IRQ_WORK.enter();
}

extern "C" fn irq_work_exit(_data: *mut c_void, _vector: c_int) {
    IRQ_WORK.leave();
}

extern "C" fn timer_entry(_data: *mut c_void, _vector: c_int) {
    TIMER.enter();
}

extern "C" fn timer_exit(_data: *mut c_void, _vector: c_int) {
    TIMER.leave();
}

extern "C" fn softirq_entry(_data: *mut c_void, number: c_uint) {
    if let Some(softirq) = SOFTIRQ.get(number as usize) {
        softirq.enter();
    }
}

extern "C" fn softirq_exit(_data: *mut c_void, number: c_uint) {
    if let Some(softirq) = SOFTIRQ.get(number as usize) {
        softirq.leave();
    }
}

/// How long each CPU was idle: from before it halts until the first interrupt is handled.
struct Idle {
    start: [Atomic<u64>; CPUS],
    total: [Atomic<u64>; CPUS],
}

static IDLE: Idle = Idle {
    start: [const { Atomic::new(0) }; CPUS],
    total: [const { Atomic::new(0) }; CPUS],
};

impl Idle {
    #[inline]
    fn begin(&self) {
        if let Some(start) = self.start.get(this_cpu() as usize) {
            start.store(cycles(), Relaxed);
        }
    }

    #[inline]
    fn end(&self) {
        let now = cycles();
        let cpu = this_cpu() as usize;
        if let (Some(start), Some(total)) = (self.start.get(cpu), self.total.get(cpu)) {
            let began = start.load(Relaxed);
            if began != 0 {
                start.store(0, Relaxed);
                total.store(total.load(Relaxed) + (now - began), Relaxed);
            }
        }
    }
}

/// Cycles for which `cpu` has been idle while an [`IdleProbes`] lived.
pub(crate) fn idle_cycles(cpu: i32) -> u64 {
    IDLE.total
        .get(cpu as usize)
        .map_or(0, |total| total.load(Relaxed))
}

extern "C" fn cpu_idle(_data: *mut c_void, state: c_uint, _cpu: c_uint) {
    // PWR_EVENT_EXIT.
    if state == c_uint::MAX {
        IDLE.end();
    } else {
        IDLE.begin();
    }
}

/// Also for probes with more arguments, which this ignores.
extern "C" fn interrupt_entry(_data: *mut c_void) {
    IDLE.end();
}

/// A probe, and the tracepoint if the kernel has it.
struct Probe {
    probe: *mut c_void,
    tracepoint: Option<Tracepoint>,
}

impl Probe {
    fn new(name: &'static CStr, probe: *mut c_void) -> Self {
        Self {
            probe,
            tracepoint: Tracepoint::find(name),
        }
    }
}

/// Probes that are attached as long as it lives. Those whose tracepoint the kernel lacks are not.
struct Attached<const N: usize>([Probe; N]);

impl<const N: usize> Attached<N> {
    /// # Context
    ///
    /// May sleep.
    fn new(probes: [Probe; N]) -> Self {
        for Probe { probe, tracepoint } in &probes {
            let Some(tracepoint) = tracepoint else {
                continue;
            };
            // SAFETY: The probe takes no more arguments than it has, and is taken off in `drop()`.
            let _ = unsafe { tracepoint.register(*probe, tracepoint::NONE) };
        }
        Self(probes)
    }

    /// Whether the kernel has all of them.
    fn is_complete(&self) -> bool {
        self.0.iter().all(|p| p.tracepoint.is_some())
    }
}

impl<const N: usize> Drop for Attached<N> {
    fn drop(&mut self) {
        for Probe { probe, tracepoint } in &self.0 {
            if let Some(tracepoint) = tracepoint {
                tracepoint.unregister(*probe, tracepoint::NONE);
            }
        }
        tracepoint::synchronize();
    }
}

/// Measures stretches as long as it lives.
pub(crate) struct Probes {
    _attached: Attached<6>,
}

impl Probes {
    /// Forgets earlier stretches and attaches the probes.
    ///
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT` where the architecture lacks a tracepoint.
    pub(crate) fn attach() -> Result<Self> {
        IRQ_WORK.reset();
        TIMER.reset();
        SOFTIRQ.iter().for_each(Stretch::reset);
        let attached = Attached::new([
            Probe::new(c"irq_work_entry", irq_work_entry as *mut c_void),
            Probe::new(c"irq_work_exit", irq_work_exit as *mut c_void),
            Probe::new(c"local_timer_entry", timer_entry as *mut c_void),
            Probe::new(c"local_timer_exit", timer_exit as *mut c_void),
            Probe::new(c"softirq_entry", softirq_entry as *mut c_void),
            Probe::new(c"softirq_exit", softirq_exit as *mut c_void),
        ]);
        if !attached.is_complete() {
            return Err(ENOENT);
        }
        Ok(Self {
            _attached: attached,
        })
    }
}

/// Measures idle time as long as it lives.
pub(crate) struct IdleProbes {
    _attached: Attached<7>,
}

impl IdleProbes {
    /// Attaches the probes. Where an interrupt has no tracepoint its handler counts as idle, until
    /// the CPU leaves its idle loop.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn attach() -> Self {
        let interrupt = interrupt_entry as *mut c_void;
        Self {
            _attached: Attached::new([
                Probe::new(c"cpu_idle", cpu_idle as *mut c_void),
                Probe::new(c"local_timer_entry", interrupt),
                Probe::new(c"irq_work_entry", interrupt),
                Probe::new(c"reschedule_entry", interrupt),
                Probe::new(c"call_function_entry", interrupt),
                Probe::new(c"call_function_single_entry", interrupt),
                Probe::new(c"irq_handler_entry", interrupt),
            ]),
        }
    }
}
