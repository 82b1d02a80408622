// SPDX-License-Identifier: GPL-2.0

//! CPUs by number: the current one, and those that are online.
//!
//! C headers: [`include/linux/smp.h`](srctree/include/linux/smp.h),
//! [`include/linux/cpumask.h`](srctree/include/linux/cpumask.h)
//!
//! # Context
//!
//! Any, NMI included.

use kernel::bindings;

/// The CPU that runs the caller; a caller that can be preempted may have left it by now.
pub(crate) fn this() -> i32 {
    // SAFETY: No requirements.
    unsafe { bindings::raw_smp_processor_id() as i32 }
}

/// CPU numbers are below this (`nr_cpu_ids`).
pub(crate) fn nr_ids() -> i32 {
    kernel::cpu::nr_cpu_ids() as i32
}

/// Whether `cpu` is online.
pub(crate) fn is_online(cpu: i32) -> bool {
    // SAFETY: The mask is static; it is read atomically, as it may change concurrently.
    unsafe { bindings::cpumask_test_cpu(cpu, &raw mut bindings::__cpu_online_mask) }
}

/// The CPUs that are online, in order.
pub(crate) fn online() -> impl Iterator<Item = i32> + Clone {
    (0..nr_ids()).filter(|&cpu| is_online(cpu))
}
