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

/// The CPU's cycle counter (`get_cycles()`). Under QEMU's -icount it counts executed instructions,
/// and jumps over the time in which every CPU is idle.
///
/// # Context
///
/// Any, NMI included.
#[inline(always)]
pub(crate) fn cycles() -> u64 {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_shim_get_cycles() }
}

/// A number that grows by one with every normal grace period (what rcuscale calls batches).
pub(crate) fn grace_periods() -> i64 {
    // Above two bits of state; it starts below 0.
    (gp::number() as i64) >> 2
}

/// Bytes that could be allocated without swapping (`si_mem_available()`).
pub(crate) fn available_bytes() -> i64 {
    // SAFETY: No requirements.
    (unsafe { bindings::si_mem_available() } as i64) * PAGE_SIZE as i64
}

/// Bytes of the pages of all slabs (`NR_SLAB_UNRECLAIMABLE_B`). Exact to some pages per CPU, where
/// free memory has whole lists of pages per CPU in it.
pub(crate) fn slab_bytes() -> i64 {
    alloc::slab_pages() as i64 * PAGE_SIZE as i64
}

/// Interrupts that `cpu` has raised to itself for irq_work. 0 where it is not x86.
pub(crate) fn irq_work_ipis(cpu: i32) -> u64 {
    // SAFETY: `cpu` is a possible CPU.
    u64::from(unsafe { sys::rcu_ptr_shim_irq_work_ipis(cpu) })
}

const CPUS: usize = 64;

/// Stretches of one kind, of each CPU one at a time: how long the longest was, and all of each CPU.
struct Stretch {
    start: [Atomic<u64>; CPUS],
    total: [Atomic<u64>; CPUS],
    longest: Atomic<u64>,
}

impl Stretch {
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
    fn leave(&self) {
        let now = cycles();
        let cpu = this_cpu() as usize;
        if let (Some(start), Some(total)) = (self.start.get(cpu), self.total.get(cpu)) {
            let began = start.load(Relaxed);
            if began != 0 {
                start.store(0, Relaxed);
                total.store(total.load(Relaxed) + (now - began), Relaxed);
                // Races between CPUs never lose a stretch that is much longer.
                if now - began > self.longest.load(Relaxed) {
                    self.longest.store(now - began, Relaxed);
                }
            }
        }
    }
}

/// Self-interrupts that run irq_works.
static IRQ_WORK: Stretch = Stretch::new();
/// Timer interrupts: the tick, which runs lazy irq_works, and hrtimers.
static TIMER: Stretch = Stretch::new();
static RCU_SOFTIRQ: Stretch = Stretch::new();
static TIMER_SOFTIRQ: Stretch = Stretch::new();
/// Those that [`longest()`] looks at.
static LONGEST: [&Stretch; 4] = [&IRQ_WORK, &TIMER, &RCU_SOFTIRQ, &TIMER_SOFTIRQ];
/// A CPU is idle: from before it halts until the first interrupt is handled.
static IDLE: Stretch = Stretch::new();

/// Cycles for which `cpu` has been idle while there were [`idle_probes()`].
pub(crate) fn idle_cycles(cpu: i32) -> u64 {
    IDLE.total
        .get(cpu as usize)
        .map_or(0, |total| total.load(Relaxed))
}

/// Probes that begin or end a stretch; those with no argument also fit where there are more.
macro_rules! probes {
    ($($name:ident($($argument:ident: $type:ty),*) => $body:expr;)*) => {
        $(
            extern "C" fn $name(_data: *mut c_void, $($argument: $type),*) {
                $body;
            }
        )*
    };
}

fn softirq(number: c_uint, f: fn(&Stretch)) {
    match number {
        bindings::RCU_SOFTIRQ => f(&RCU_SOFTIRQ),
        bindings::TIMER_SOFTIRQ => f(&TIMER_SOFTIRQ),
        _ => (),
    }
}

probes! {
    irq_work_entry() => IRQ_WORK.enter();
    irq_work_exit() => IRQ_WORK.leave();
    timer_entry() => TIMER.enter();
    timer_exit() => TIMER.leave();
    softirq_entry(number: c_uint) => softirq(number, Stretch::enter);
    softirq_exit(number: c_uint) => softirq(number, Stretch::leave);
    // PWR_EVENT_EXIT is the highest number.
    cpu_idle(state: c_uint) => if state == c_uint::MAX { IDLE.leave() } else { IDLE.enter() };
    interrupt_entry() => IDLE.leave();
}

/// Registers probes on tracepoints of the kernel, where it has them.
fn attach<const N: usize>(probes: [(&CStr, *mut c_void); N]) -> Result<Probes<N>> {
    let probes = probes.map(|(name, probe)| (Tracepoint::find(name), probe));
    // SAFETY: The probes below take no more arguments than their tracepoints have.
    unsafe { Probes::register(probes) }
}

/// Cycles of the longest interrupt or softirq while `f` runs.
///
/// # Errors
///
/// `ENOENT` where the architecture lacks a tracepoint.
pub(crate) fn longest(f: impl FnOnce()) -> Result<u64> {
    for stretch in LONGEST {
        for start in &stretch.start {
            start.store(0, Relaxed);
        }
        stretch.longest.store(0, Relaxed);
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
    let longest = LONGEST.iter().map(|stretch| stretch.longest.load(Relaxed));
    Ok(longest.max().unwrap_or(0))
}

/// Measures idle time as long as the result lives. Where an interrupt has no tracepoint its handler
/// counts as idle, until the CPU leaves its idle loop.
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
