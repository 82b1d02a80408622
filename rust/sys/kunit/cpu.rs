// SPDX-License-Identifier: GPL-2.0

//! CPUs: which there are, taking one down and up, and in which context this is.

use super::generated as sys;
use kernel::{bindings, error::to_result, prelude::*};

/// CPUs that are up, in order.
pub(crate) fn online() -> impl Iterator<Item = i32> + Clone {
    let end = nr_ids();
    ::core::iter::successors(Some(next(-1)), |&cpu| Some(next(cpu)))
        .take_while(move |&cpu| cpu < end)
}

fn next(cpu: i32) -> i32 {
    // SAFETY: No requirements; -1 is where a walk begins.
    unsafe { sys::rcu_ptr_kunit_next_online_cpu(cpu) }
}

/// CPUs have numbers below this.
pub(crate) fn nr_ids() -> i32 {
    // SAFETY: Set at boot and never again.
    unsafe { bindings::nr_cpu_ids as i32 }
}

/// The CPU that this runs on, at this moment.
pub(crate) fn this() -> i32 {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_kunit_this_cpu() }
}

/// Takes `cpu` down.
///
/// # Context
///
/// May sleep.
pub(crate) fn take_down(cpu: i32) -> Result {
    // SAFETY: No requirements.
    to_result(unsafe { bindings::remove_cpu(cpu as c_uint) })
}

/// Brings `cpu` up.
///
/// # Context
///
/// May sleep.
pub(crate) fn bring_up(cpu: i32) -> Result {
    // SAFETY: No requirements.
    to_result(unsafe { bindings::add_cpu(cpu as c_uint) })
}

/// Where code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Context {
    /// A task.
    Task,
    /// A softirq.
    Softirq,
    /// A hard interrupt.
    Hardirq,
    /// A non-maskable interrupt.
    Nmi,
}

/// The context of the caller.
pub(crate) fn context() -> Context {
    // SAFETY: No requirements.
    unsafe {
        if sys::rcu_ptr_kunit_in_nmi() {
            Context::Nmi
        } else if sys::rcu_ptr_kunit_in_hardirq() {
            Context::Hardirq
        } else if sys::rcu_ptr_kunit_in_softirq() {
            Context::Softirq
        } else {
            Context::Task
        }
    }
}

/// Calls `f` with interrupts off.
pub(crate) fn irqs_off<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: Tests call it with interrupts on; they are on again below.
    unsafe { sys::rcu_ptr_kunit_local_irq_disable() };
    let ret = f();
    // SAFETY: Turned off above.
    unsafe { sys::rcu_ptr_kunit_local_irq_enable() };
    ret
}
