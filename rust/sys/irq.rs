// SPDX-License-Identifier: GPL-2.0

//! Disabled interrupts, as a value; and smp_call_function_single().
//!
//! C headers: [`include/linux/irqflags.h`](srctree/include/linux/irqflags.h),
//! [`include/linux/smp.h`](srctree/include/linux/smp.h)

use super::generated as sys;
use kernel::{bindings, prelude::*, types::NotThreadSafe};

/// Proof that interrupts are disabled on this CPU; restored on drop.
///
/// As long as it lives the task stays on this CPU, which runs no other interrupts or softirqs; only
/// NMIs.
///
/// # Invariants
///
/// Local interrupts are disabled as long as the value lives.
pub(crate) struct IrqsOff {
    flags: c_ulong,
    _not_send: NotThreadSafe,
}

impl IrqsOff {
    /// `local_irq_save()`
    ///
    /// # Context
    ///
    /// Any. Values must be dropped in the reverse order of their making.
    #[inline]
    pub(crate) fn save() -> Self {
        // INVARIANT: Just disabled; nothing enables them before `drop()`.
        Self {
            // SAFETY: No requirements.
            flags: unsafe { sys::rcu_ptr_shim_irq_save() },
            _not_send: NotThreadSafe,
        }
    }
}

impl Drop for IrqsOff {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `flags` was returned to `save()` on this CPU: by the type invariants the task has
        // not migrated.
        unsafe { sys::rcu_ptr_shim_irq_restore(self.flags) };
    }
}

/// # Safety
///
/// `info` is the pair of a [`call_on()`] that waits.
unsafe extern "C" fn entry<T: Sync, F: Fn(&T, &IrqsOff) + Copy>(info: *mut c_void) {
    // SAFETY: By the safety requirements of this function.
    let (arg, f) = unsafe { *info.cast::<(&T, F)>() };
    f(arg, &IrqsOff::save());
}

/// Calls `f(arg)` on `cpu`, in hardirq unless that is this CPU, and waits until it has returned.
/// Returns `false` if the CPU is not online.
///
/// # Context
///
/// Process context, interrupts enabled.
pub(crate) fn call_on<T: Sync, F: Fn(&T, &IrqsOff) + Copy + Send>(cpu: i32, arg: &T, f: F) -> bool {
    let mut pair = (arg, f);
    // SAFETY: `entry` has the type of its argument, which lives until the call returns.
    unsafe {
        bindings::smp_call_function_single(cpu, Some(entry::<T, F>), (&raw mut pair).cast(), true)
            == 0
    }
}
