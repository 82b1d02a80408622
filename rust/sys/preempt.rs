// SPDX-License-Identifier: GPL-2.0

//! Disabled preemption, as a value; and the proof that per-CPU operations require: that the caller
//! stays on its CPU.

use super::{
    generated as sys,
    irq::IrqsOff,
    this_cpu::{arch, COUNTER_ALONE},
};
use core::marker::PhantomData;
use kernel::types::NotThreadSafe;

/// Proof that the caller stays on this CPU as long as the value lives.
///
/// # Safety
///
/// A value lives only while preemption is disabled.
pub(crate) unsafe trait OnCpu {
    /// The same proof without its type.
    #[inline(always)]
    fn pinned(&self) -> Pinned<'_> {
        Pinned(PhantomData, NotThreadSafe)
    }
}

/// Proof that the caller stays on this CPU for `'a`, from [`OnCpu::pinned()`].
#[derive(Clone, Copy)]
pub(crate) struct Pinned<'a>(PhantomData<&'a ()>, NotThreadSafe);

// SAFETY: Disabled interrupts prevent preemption.
unsafe impl OnCpu for IrqsOff {}
// SAFETY: By the type invariants.
unsafe impl OnCpu for PreemptOff {}
// SAFETY: It borrows a value of another implementer.
unsafe impl OnCpu for Pinned<'_> {}

/// Proof that preemption is disabled, until it is dropped. Also an RCU read-side critical section,
/// on PREEMPT_RT too: `synchronize_rcu()` waits for regions with preemption disabled.
///
/// Interrupts and NMIs may still occur between any two instructions.
///
/// # Invariants
///
/// The value owns one count of the preemption counter of this context.
pub(crate) struct PreemptOff(NotThreadSafe);

impl PreemptOff {
    /// `preempt_disable()`: one instruction on x86_64.
    ///
    /// # Context
    ///
    /// Any, NMI included. Values must be dropped in reverse order of creation.
    #[inline(always)]
    pub(crate) fn new() -> Self {
        if COUNTER_ALONE {
            arch::preempt_disable();
        } else {
            // SAFETY: No requirements.
            unsafe { sys::rcu_ptr_shim_preempt_disable() };
        }
        // INVARIANT: Counted just now.
        Self(NotThreadSafe)
    }

    /// Enables preemption and returns `value`. To be the last call of a function that needs no
    /// stack: if a task has to be scheduled, this is a jump to a function that returns `value`,
    /// too.
    #[inline(always)]
    pub(crate) fn end_with(self, value: *mut u8) -> *mut u8 {
        if !COUNTER_ALONE {
            return value;
        }
        self.into_raw();
        arch::preempt_enable_with(value)
    }

    /// Forgets the value, with preemption left disabled, for a callee that calls
    /// [`PreemptOff::from_raw()`].
    #[inline(always)]
    pub(crate) fn into_raw(self) {
        core::mem::forget(self);
    }

    /// Reverts [`PreemptOff::into_raw()`].
    ///
    /// # Safety
    ///
    /// Called once for each `into_raw()`, in the same context.
    #[inline(always)]
    pub(crate) unsafe fn from_raw() -> Self {
        // INVARIANT: By the safety requirements of this function.
        Self(NotThreadSafe)
    }
}

impl Drop for PreemptOff {
    /// `preempt_enable()`: a decrement and a branch on x86_64.
    #[inline(always)]
    fn drop(&mut self) {
        if COUNTER_ALONE {
            arch::preempt_enable();
        } else {
            // SAFETY: By the type invariants.
            unsafe { sys::rcu_ptr_shim_preempt_enable() };
        }
    }
}

/// Reschedules: the counter has just dropped to zero, with a reschedule pending.
#[cold]
#[inline(never)]
pub(super) fn resched() {
    // SAFETY: Balanced; preempt_enable() checks for the pending reschedule.
    unsafe {
        sys::rcu_ptr_shim_preempt_disable();
        sys::rcu_ptr_shim_preempt_enable();
    }
}

/// [`resched()`], and returns `value`. In C, as the compiler would save `value` itself if it knew
/// that.
#[allow(dead_code, reason = "used on one architecture")]
#[inline(always)]
pub(super) fn resched_with(value: *mut u8) -> *mut u8 {
    // SAFETY: As above.
    unsafe { sys::rcu_ptr_shim_resched(value.cast()) }.cast()
}
