// SPDX-License-Identifier: GPL-2.0

//! The context of a caller that may be anything from a task to an NMI.

use super::{
    generated as sys,
    preempt::{OnCpu, PreemptOff},
};
use kernel::{bindings, types::NotThreadSafe};

/// The context of the caller, without the [`PreemptOff`] that it has taken itself.
#[derive(Clone, Copy)]
pub(crate) struct Context {
    /// Interrupts are on and this is no NMI: no lock that is only taken with interrupts off is held
    /// on this CPU.
    pub(crate) may_lock: bool,
    /// The caller could have been preempted: no other context of this CPU is interrupted with
    /// preemption disabled.
    pub(crate) preemptible: bool,
}

impl Context {
    /// The context of the caller.
    pub(crate) fn look(_once: &PreemptOff) -> Self {
        // SAFETY: No requirements.
        let bits = unsafe { sys::rcu_ptr_shim_context() };
        Self {
            may_lock: bits & sys::rcu_ptr_context_RCU_PTR_CONTEXT_MAY_LOCK != 0,
            preemptible: bits & sys::rcu_ptr_context_RCU_PTR_CONTEXT_PREEMPTIBLE != 0,
        }
    }
}

/// [`Context::may_lock`] alone.
///
/// # Context
///
/// Any, NMI included; preemption disabled.
pub(crate) fn may_lock() -> bool {
    // SAFETY: No requirements.
    let bits = unsafe { sys::rcu_ptr_shim_context() };
    bits & sys::rcu_ptr_context_RCU_PTR_CONTEXT_MAY_LOCK != 0
}

/// The CPU that runs this.
pub(crate) fn this_cpu(_on: &impl OnCpu) -> i32 {
    // SAFETY: No requirements.
    unsafe { bindings::raw_smp_processor_id() as i32 }
}

/// The CPU that ran this a moment ago, for messages and statistics.
pub(crate) fn some_cpu() -> i32 {
    // SAFETY: No requirements.
    unsafe { bindings::raw_smp_processor_id() as i32 }
}

/// Whether `cpu` is up.
pub(crate) fn is_online(cpu: i32) -> bool {
    // SAFETY: The mask is there; other CPUs may change it meanwhile, as everywhere.
    unsafe { bindings::cpumask_test_cpu(cpu, &raw mut bindings::__cpu_online_mask) }
}

/// Whether `cpu` is going down and so far that besides the teardown only NMIs run there: the callbacks
/// for dead CPUs are still to be called.
///
/// # Context
///
/// Any, NMI included, on that CPU.
pub(crate) fn is_going(cpu: i32) -> bool {
    // SAFETY: No requirements.
    !is_online(cpu) && unsafe { sys::rcu_ptr_shim_cpu_dying(cpu) }
}

/// Proof that no CPU comes up or goes down, until it is dropped.
pub(crate) struct CpusStay(NotThreadSafe);

impl CpusStay {
    /// `cpus_read_trylock()`: `None` while a CPU is on its way up or down.
    ///
    /// # Context
    ///
    /// Task; memory reclaim too.
    pub(crate) fn try_new() -> Option<Self> {
        // SAFETY: Paired with the unlock in `drop()`, by the same task.
        let held = unsafe { bindings::cpus_read_trylock() } != 0;
        // Not made where it is not held: what is made gets dropped, and would unlock.
        held.then(|| Self(NotThreadSafe))
    }
}

impl Drop for CpusStay {
    fn drop(&mut self) {
        // SAFETY: Paired with the lock in `try_new()`.
        unsafe { bindings::cpus_read_unlock() };
    }
}
