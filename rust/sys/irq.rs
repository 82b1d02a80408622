// SPDX-License-Identifier: GPL-2.0

//! Interrupts off on this CPU, as a value; and to have a function run in an interrupt of another.
//!
//! C headers: [`include/linux/irqflags.h`](srctree/include/linux/irqflags.h),
//! [`include/linux/smp.h`](srctree/include/linux/smp.h)

use super::generated as sys;
use kernel::{bindings, prelude::*, types::NotThreadSafe};

/// Proof that interrupts are off on this CPU, restored on drop.
///
/// While one lives the task stays on its CPU, and neither its own interrupts nor softirqs run
/// there; NMIs do.
///
/// # Invariants
///
/// Local interrupts are disabled as long as the value lives.
pub(crate) struct IrqsOff {
    flags: c_ulong,
    _not_send: NotThreadSafe,
}

impl IrqsOff {
    /// Turns interrupts off, as `local_irq_save()` does.
    ///
    /// # Context
    ///
    /// Any. Values must be dropped in the reverse order of their making.
    #[inline]
    pub(crate) fn save() -> Self {
        // INVARIANT: Just turned off; nothing turns them on before `drop()`.
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
        // SAFETY: `flags` is what `save()` got, on this CPU: by the type invariants the task can't
        // have moved.
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

/// Calls `f(arg)` on `cpu` in hardirq, and waits for its end. `false`: that CPU is not online, or
/// not any more.
///
/// # Context
///
/// Process context, interrupts on.
pub(crate) fn call_on<T: Sync, F: Fn(&T, &IrqsOff) + Copy + Send>(cpu: i32, arg: &T, f: F) -> bool {
    let mut pair = (arg, f);
    // SAFETY: `entry` fits what it is passed, which lives until the call is over.
    unsafe {
        bindings::smp_call_function_single(cpu, Some(entry::<T, F>), (&raw mut pair).cast(), true)
            == 0
    }
}
