// SPDX-License-Identifier: GPL-2.0

//! The lock under which the module's parameters are set: before init, and from sysfs until after
//! exit.
//!
//! C header: [`include/linux/moduleparam.h`](srctree/include/linux/moduleparam.h)

use kernel::{bindings, module::this_module, types::NotThreadSafe};

/// Proof that no parameter is set, until it is dropped.
pub(crate) struct ParamLock(NotThreadSafe);

impl ParamLock {
    /// `kernel_param_lock()`
    ///
    /// # Context
    ///
    /// May sleep. Not while a parameter is set: that has it.
    pub(crate) fn new() -> Self {
        // SAFETY: This module is there; paired with the unlock in `drop()`, by the same task.
        unsafe { bindings::kernel_param_lock(this_module::<crate::LocalModule>().as_ptr()) };
        Self(NotThreadSafe)
    }
}

impl Drop for ParamLock {
    fn drop(&mut self) {
        // SAFETY: Paired with the lock in `new()`.
        unsafe { bindings::kernel_param_unlock(this_module::<crate::LocalModule>().as_ptr()) };
    }
}
