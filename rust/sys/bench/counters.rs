// SPDX-License-Identifier: GPL-2.0

//! Clocks and the kernel's own counters.

use super::generated as sys;
use kernel::{
    bindings,
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
    unsafe { sys::rcu_ptr_bench_cycles() }
}

/// Nanoseconds of the monotonic clock.
///
/// # Context
///
/// Any but NMI.
pub(crate) fn nanoseconds() -> u64 {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_bench_nanoseconds() }
}

/// A number that grows by one with every normal grace period (what rcuscale calls batches).
///
/// # Context
///
/// Any.
pub(crate) fn grace_periods() -> i64 {
    let mut seq = bindings::rcu_gp_seq::default();
    // SAFETY: `seq` is valid for writes.
    unsafe { bindings::get_state_synchronize_rcu_full(&mut seq) };
    // Above two bits of state; it starts below 0.
    (seq.norm as i64) >> 2
}

/// Bytes that could be allocated without swapping (`si_mem_available()`).
///
/// # Context
///
/// Any but NMI.
pub(crate) fn available_bytes() -> i64 {
    // SAFETY: No requirements.
    (unsafe { sys::si_mem_available() } as i64) * kernel::page::PAGE_SIZE as i64
}

/// Bytes of the pages of all slabs (`NR_SLAB_UNRECLAIMABLE_B`). Exact to some pages per CPU, where
/// free memory has whole lists of pages per CPU in it.
///
/// # Context
///
/// Any.
pub(crate) fn slab_bytes() -> i64 {
    // SAFETY: No requirements.
    (unsafe { sys::rcu_ptr_bench_slab_bytes() }) as i64
}

/// Interrupts that `cpu` has raised to itself for irq_work. 0 where it is not x86.
///
/// # Context
///
/// Any.
pub(crate) fn irq_work_ipis(cpu: i32) -> u64 {
    // SAFETY: `cpu` is a possible CPU.
    u64::from(unsafe { sys::rcu_ptr_bench_irq_work_ipis(cpu) })
}

static HITS: Atomic<u64> = Atomic::new(0);

/// Counts the calls of the function at an address with an execution breakpoint on every CPU. NMIs
/// turn breakpoints off: calls in them don't count.
pub(crate) struct CallCounter(*mut *mut bindings::perf_event);

impl CallCounter {
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// Where there are no breakpoints.
    pub(crate) fn new(address: usize) -> Result<Self> {
        HITS.store(0, Relaxed);
        // SAFETY: No requirements: an address that is never executed counts nothing.
        let events = unsafe { sys::rcu_ptr_bench_breakpoint(address as c_ulong) };
        kernel::error::from_err_ptr(events).map(Self)
    }

    /// Calls so far, of all counters since the last one was made.
    pub(crate) fn count() -> u64 {
        HITS.load(Relaxed)
    }
}

impl Drop for CallCounter {
    fn drop(&mut self) {
        // SAFETY: `new()` got it.
        unsafe { sys::rcu_ptr_bench_breakpoint_remove(self.0) };
    }
}

#[no_mangle]
extern "C" fn rcu_ptr_bench_rs_breakpoint() {
    HITS.add(1, Relaxed);
}
