// SPDX-License-Identifier: GPL-2.0

//! CPUs: which there are, taking one down and up, and in which context this is.

use super::generated as sys;
use kernel::{bindings, error::to_result, prelude::*};

/// CPUs that are up, in order.
pub(crate) fn online() -> impl Iterator<Item = i32> + Clone {
    // SAFETY: No requirements; -1 is where a walk begins.
    let next = |cpu| unsafe { sys::rcu_ptr_torture_next_online_cpu(cpu) };
    let end = kernel::cpu::nr_cpu_ids() as i32;
    ::core::iter::successors(Some(next(-1)), move |&cpu| Some(next(cpu)))
        .take_while(move |&cpu| cpu < end)
}

/// The CPU that this runs on, at this moment.
pub(crate) fn this() -> i32 {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_torture_this_cpu() }
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
        if sys::rcu_ptr_torture_in_nmi() {
            Context::Nmi
        } else if sys::rcu_ptr_torture_in_hardirq() {
            Context::Hardirq
        } else if sys::rcu_ptr_torture_in_softirq() {
            Context::Softirq
        } else {
            Context::Task
        }
    }
}

/// Whether softirqs are off, or this is one.
pub(crate) fn is_bh_disabled() -> bool {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_torture_bh_disabled() }
}

/// Whether the caller may sleep, as far as the kernel counts that.
pub(crate) fn may_sleep() -> bool {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_torture_may_sleep() }
}

/// Calls `f` with softirqs off.
///
/// # Context
///
/// A task with softirqs on.
pub(crate) fn bh_off<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: On again below.
    unsafe { sys::rcu_ptr_torture_bh_disable() };
    let ret = f();
    // SAFETY: Turned off above.
    unsafe { sys::rcu_ptr_torture_bh_enable() };
    ret
}

/// Calls `f` with a raw spinlock held, the same for all, and interrupts off.
///
/// # Context
///
/// Any but NMI; not from `f`.
pub(crate) fn raw_locked<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: Released below.
    let flags = unsafe { sys::rcu_ptr_torture_raw_lock() };
    let ret = f();
    // SAFETY: Taken above.
    unsafe { sys::rcu_ptr_torture_raw_unlock(flags) };
    ret
}
