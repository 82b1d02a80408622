// SPDX-License-Identifier: GPL-2.0

//! Clocks, the kernel's own counters, and how long interrupts, softirqs and idle periods last:
//! probes on the kernel's tracepoints.
//!
//! # Context
//!
//! Any but NMI, unless a function says otherwise; what registers probes may sleep.

use super::{
    alloc,
    cpu::this as this_cpu,
    generated as sys, gp,
    tracepoint::{Probes, Tracepoint},
};
use kernel::{
    bindings,
    page::PAGE_SIZE,
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// The cycle counter of this CPU (`get_cycles()`). Under QEMU's -icount it counts executed
/// instructions, and jumps over the time in which every CPU is idle.
///
/// # Context
///
/// Any, NMI included.
#[inline(always)]
pub(crate) fn cycles() -> u64 {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_shim_get_cycles() }
}

/// A number that is incremented by every normal grace period (rcuscale: batches).
pub(crate) fn grace_periods() -> i64 {
    // The two lowest bits are the state; the number starts below 0.
    (gp::number() as i64) >> 2
}

/// Bytes that could be allocated without swapping (`si_mem_available()`).
pub(crate) fn available_bytes() -> i64 {
    // SAFETY: No requirements.
    (unsafe { bindings::si_mem_available() } as i64) * PAGE_SIZE as i64
}

/// Bytes of unreclaimable slabs (`NR_SLAB_UNRECLAIMABLE_B`). Exact to some pages per CPU, where the
/// amount of free memory is off by the page lists of the CPUs.
pub(crate) fn slab_bytes() -> i64 {
    alloc::slab_pages() as i64 * PAGE_SIZE as i64
}

/// Self-interrupts of `cpu` for irq_work; 0 if the architecture is not x86.
pub(crate) fn irq_work_ipis(cpu: i32) -> u64 {
    // SAFETY: `cpu` is a possible CPU.
    u64::from(unsafe { sys::rcu_ptr_shim_irq_work_ipis(cpu) })
}

const CPUS: usize = 64;

/// Cycles spent in sections of one kind, which do not nest: per CPU, and the longest section.
struct Section {
    start: [Atomic<u64>; CPUS],
    total: [Atomic<u64>; CPUS],
    longest: Atomic<u64>,
}

impl Section {
    const fn new() -> Self {
        Self {
            start: [const { Atomic::new(0) }; CPUS],
            total: [const { Atomic::new(0) }; CPUS],
            longest: Atomic::new(0),
        }
    }

    #[inline]
    fn enter(&self) {
        if let Some(start) = self.start.get(this_cpu() as usize) {
            start.store(cycles(), Relaxed);
        }
    }

    #[inline]
    fn exit(&self) {
        let now = cycles();
        let cpu = this_cpu() as usize;
        if let (Some(start), Some(total)) = (self.start.get(cpu), self.total.get(cpu)) {
            let began = start.load(Relaxed);
            if began != 0 {
                start.store(0, Relaxed);
                total.store(total.load(Relaxed) + (now - began), Relaxed);
                // Racy: a concurrent section of similar length may be lost.
                if now - began > self.longest.load(Relaxed) {
                    self.longest.store(now - began, Relaxed);
                }
            }
        }
    }
}

/// Self-interrupts that run irq_works.
static IRQ_WORK: Section = Section::new();
/// Timer interrupts: the tick, which runs lazy irq_works, and hrtimers.
static TIMER: Section = Section::new();
static RCU_SOFTIRQ: Section = Section::new();
static TIMER_SOFTIRQ: Section = Section::new();
/// The sections that [`longest()`] measures.
static LONGEST: [&Section; 4] = [&IRQ_WORK, &TIMER, &RCU_SOFTIRQ, &TIMER_SOFTIRQ];
/// Idle time: from before a CPU halts until it handles the first interrupt.
static IDLE: Section = Section::new();

/// Cycles that `cpu` has been idle, while [`idle_probes()`] were registered.
pub(crate) fn idle_cycles(cpu: i32) -> u64 {
    IDLE.total
        .get(cpu as usize)
        .map_or(0, |total| total.load(Relaxed))
}

/// Defines probes that begin or end a section. A probe may take fewer arguments than the event has.
macro_rules! probes {
    ($($name:ident($($argument:ident: $type:ty),*) => $body:expr;)*) => {
        $(
            extern "C" fn $name(_data: *mut c_void, $($argument: $type),*) {
                $body;
            }
        )*
    };
}

fn softirq(number: c_uint, f: fn(&Section)) {
    match number {
        bindings::RCU_SOFTIRQ => f(&RCU_SOFTIRQ),
        bindings::TIMER_SOFTIRQ => f(&TIMER_SOFTIRQ),
        _ => (),
    }
}

probes! {
    irq_work_entry() => IRQ_WORK.enter();
    irq_work_exit() => IRQ_WORK.exit();
    timer_entry() => TIMER.enter();
    timer_exit() => TIMER.exit();
    softirq_entry(number: c_uint) => softirq(number, Section::enter);
    softirq_exit(number: c_uint) => softirq(number, Section::exit);
    // PWR_EVENT_EXIT is (u32)-1.
    cpu_idle(state: c_uint) => if state == c_uint::MAX { IDLE.exit() } else { IDLE.enter() };
    interrupt_entry() => IDLE.exit();
}

/// Registers probes on those tracepoints that the kernel has.
fn attach<const N: usize>(probes: [(&CStr, *mut c_void); N]) -> Result<Probes<N>> {
    let probes = probes.map(|(name, probe)| (Tracepoint::find(name), probe));
    // SAFETY: The probes take no more arguments than their tracepoints have.
    unsafe { Probes::register(probes) }
}

/// Measures the longest interrupt or softirq while `f` runs, in cycles.
///
/// # Errors
///
/// `ENOENT` where the architecture lacks a tracepoint.
pub(crate) fn longest(f: impl FnOnce()) -> Result<u64> {
    for section in LONGEST {
        for start in &section.start {
            start.store(0, Relaxed);
        }
        section.longest.store(0, Relaxed);
    }
    let probes = attach([
        (c"irq_work_entry", irq_work_entry as *mut c_void),
        (c"irq_work_exit", irq_work_exit as *mut c_void),
        (c"local_timer_entry", timer_entry as *mut c_void),
        (c"local_timer_exit", timer_exit as *mut c_void),
        (c"softirq_entry", softirq_entry as *mut c_void),
        (c"softirq_exit", softirq_exit as *mut c_void),
    ])?;
    if !probes.are_all() {
        return Err(ENOENT);
    }
    f();
    drop(probes);
    let longest = LONGEST.iter().map(|section| section.longest.load(Relaxed));
    Ok(longest.max().unwrap_or(0))
}

/// Measures idle time until the result is dropped. The handler of an interrupt that has no
/// tracepoint counts as idle time.
pub(crate) fn idle_probes() -> Result<Probes<7>> {
    let interrupt = interrupt_entry as *mut c_void;
    attach([
        (c"cpu_idle", cpu_idle as *mut c_void),
        (c"local_timer_entry", interrupt),
        (c"irq_work_entry", interrupt),
        (c"reschedule_entry", interrupt),
        (c"call_function_entry", interrupt),
        (c"call_function_single_entry", interrupt),
        (c"irq_handler_entry", interrupt),
    ])
}
