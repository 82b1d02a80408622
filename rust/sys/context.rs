// SPDX-License-Identifier: GPL-2.0

//! The context of callers of functions that may be called in any context.

pub(crate) use super::smp::{is_online, this as some_cpu};
use super::{
    generated as sys,
    preempt::{OnCpu, PreemptOff},
    smp,
};
use kernel::{bindings, types::NotThreadSafe};

/// The context of the caller, apart from its own [`PreemptOff`].
#[derive(Clone, Copy)]
pub(crate) struct CallerContext(u32);

impl CallerContext {
    /// The context of the caller.
    pub(crate) fn new(_once: &PreemptOff) -> Self {
        Self::of_caller()
    }

    fn of_caller() -> Self {
        // SAFETY: No requirements.
        Self(unsafe { sys::rcu_ptr_shim_context() })
    }

    /// Interrupts are enabled and this is not an NMI: the interrupted code of this CPU holds no
    /// lock that is only taken with interrupts disabled.
    pub(crate) fn may_lock(self) -> bool {
        self.0 & sys::RCU_PTR_CONTEXT_MAY_LOCK != 0
    }

    /// The caller was preemptible: it has not interrupted code that runs with preemption disabled.
    pub(crate) fn preemptible(self) -> bool {
        self.0 & sys::RCU_PTR_CONTEXT_PREEMPTIBLE != 0
    }
}

/// [`CallerContext::may_lock()`] alone.
///
/// # Context
///
/// Any, NMI included; preemption disabled.
pub(crate) fn may_lock() -> bool {
    CallerContext::of_caller().may_lock()
}

/// Whether `kmalloc_nolock()` and `alloc_pages_nolock()` may be called.
///
/// On PREEMPT_RT not with interrupts disabled: locks of the allocators are rtmutexes. To unlock one
/// that another task waits for takes the `pi_lock` of this task and the lock of its run queue,
/// which the caller may hold.
///
/// # Context
///
/// As for [`may_lock()`].
pub(crate) fn may_alloc_nolock() -> bool {
    cfg!(not(CONFIG_PREEMPT_RT)) || may_lock()
}

/// The current CPU.
pub(crate) fn this_cpu(_on: &impl OnCpu) -> i32 {
    smp::this()
}

/// Whether `cpu` is going down and is no longer online: only its teardown and NMIs still run there,
/// and the callbacks for dead CPUs have not been called yet.
///
/// # Context
///
/// Any, NMI included, on that CPU.
pub(crate) fn is_dying(cpu: i32) -> bool {
    // SAFETY: The mask is static.
    let dying = || unsafe { bindings::cpumask_test_cpu(cpu, &raw mut bindings::__cpu_dying_mask) };
    !is_online(cpu) && dying()
}

/// Proof that no CPU is going up or down (`cpus_read_lock()`), released on drop.
pub(crate) struct CpusStay(NotThreadSafe);

impl CpusStay {
    /// `cpus_read_trylock()`: `None` during a hotplug operation.
    ///
    /// # Context
    ///
    /// Task, in memory reclaim too.
    pub(crate) fn try_new() -> Option<Self> {
        // SAFETY: Paired with the unlock in `drop()`, by the same task.
        let held = unsafe { bindings::cpus_read_trylock() } != 0;
        // Lazily: a value that is dropped unlocks.
        held.then(|| Self(NotThreadSafe))
    }
}

impl Drop for CpusStay {
    fn drop(&mut self) {
        // SAFETY: Paired with the lock in `try_new()`.
        unsafe { bindings::cpus_read_unlock() };
    }
}
