// SPDX-License-Identifier: GPL-2.0

//! Interrupts off on this CPU, as a value.

use super::generated as sys;
use kernel::{prelude::*, types::NotThreadSafe};

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
