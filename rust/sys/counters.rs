// SPDX-License-Identifier: GPL-2.0

//! Clocks and the kernel's own counters.

use super::{alloc, generated as sys, gp, thread};
use kernel::{bindings, page::PAGE_SIZE};

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

/// Nanoseconds of the monotonic clock.
///
/// # Context
///
/// Any but NMI.
pub(crate) fn nanoseconds() -> u64 {
    thread::now() as u64
}

/// A number that grows by one with every normal grace period (what rcuscale calls batches).
///
/// # Context
///
/// Any.
pub(crate) fn grace_periods() -> i64 {
    // Above two bits of state; it starts below 0.
    (gp::Snapshot::take().number() as i64) >> 2
}

/// Bytes that could be allocated without swapping (`si_mem_available()`).
///
/// # Context
///
/// Any but NMI.
pub(crate) fn available_bytes() -> i64 {
    // SAFETY: No requirements.
    (unsafe { bindings::si_mem_available() } as i64) * PAGE_SIZE as i64
}

/// Bytes of the pages of all slabs (`NR_SLAB_UNRECLAIMABLE_B`). Exact to some pages per CPU, where
/// free memory has whole lists of pages per CPU in it.
///
/// # Context
///
/// Any.
pub(crate) fn slab_bytes() -> i64 {
    alloc::slab_pages() as i64 * PAGE_SIZE as i64
}

/// Interrupts that `cpu` has raised to itself for irq_work. 0 where it is not x86.
///
/// # Context
///
/// Any.
pub(crate) fn irq_work_ipis(cpu: i32) -> u64 {
    // SAFETY: `cpu` is a possible CPU.
    u64::from(unsafe { sys::rcu_ptr_shim_irq_work_ipis(cpu) })
}
