// SPDX-License-Identifier: GPL-2.0

//! Modules: references to this one, which keep it loaded; and others that are unloaded.
//!
//! C header: [`include/linux/module.h`](srctree/include/linux/module.h)
//!
//! # Context
//!
//! A task that may sleep, unless a function says otherwise.

use super::generated as sys;
use core::{ops::Range, ptr::NonNull};
use kernel::{bindings, error::to_result, module::this_module, prelude::*, types::NotThreadSafe};

/// A reference to this module, dropped with the value.
///
/// # Invariants
///
/// The value owns one reference to the module.
pub(crate) struct ModuleRef(());

impl ModuleRef {
    /// Takes one (`try_module_get()`).
    ///
    /// # Context
    ///
    /// Any but NMI.
    ///
    /// # Errors
    ///
    /// `ENODEV` if this module is being unloaded.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: No requirements.
        if !unsafe { sys::rcu_ptr_shim_get_module() } {
            return Err(ENODEV);
        }
        // INVARIANT: Taken just now.
        Ok(Self(()))
    }
}

impl Drop for ModuleRef {
    fn drop(&mut self) {
        // SAFETY: By the type invariants. The caller is a module that has a reference of its own,
        // as it uses symbols of this one.
        unsafe { sys::rcu_ptr_shim_put_module() };
    }
}

/// A module that is being unloaded (`MODULE_STATE_GOING`): its exit has returned, or its init has
/// failed.
///
/// # Invariants
///
/// The pointer is such a module, which is not freed as long as the value lives.
pub(crate) struct Going(NonNull<bindings::module>);

impl Going {
    /// `module`; `None`: it is null.
    ///
    /// # Safety
    ///
    /// It is being unloaded, and not freed as long as the value lives.
    pub(crate) unsafe fn new(module: *mut bindings::module) -> Option<Self> {
        // INVARIANT: By the safety requirements of this function.
        NonNull::new(module).map(Self)
    }

    /// Whether it may use this module's symbols: it is in /sys/module/rcu_ptr/holders; or it is not
    /// in sysfs, as its load has failed: setters of its parameters may have queued callbacks.
    /// (In a kernel without CONFIG_SYSFS this can't be told: any module may.)
    pub(crate) fn may_use_this(&self) -> bool {
        // SAFETY: By the type invariants; the directory lives as long as this module.
        unsafe {
            !sys::rcu_ptr_shim_module_is_in_sysfs(self.0.as_ptr())
                || sys::rcu_ptr_shim_module_uses_this(self.0.as_ptr())
        }
    }

    /// The addresses of its functions.
    ///
    /// # Context
    ///
    /// Any.
    pub(crate) fn text(&self) -> Range<usize> {
        // SAFETY: By the type invariants; no longer modified.
        let text = unsafe { &(*self.0.as_ptr()).mem[bindings::mod_mem_type_MOD_TEXT as usize] };
        let start = text.base.addr();
        start..start + text.size as usize
    }
}

/// A module notifier that calls `rcu_ptr_rs_module_going()`; unregistered on drop.
pub(crate) struct Watch(());

impl Watch {
    /// Registers it, once.
    pub(crate) fn register() -> Result<Self> {
        // SAFETY: Registered once, until the drop.
        to_result(unsafe { sys::rcu_ptr_shim_watch_modules() })?;
        Ok(Self(()))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // SAFETY: Registered. Waits for running calls.
        unsafe { sys::rcu_ptr_shim_unwatch_modules() };
    }
}

/// The lock of the parameters of this module, released on drop.
pub(crate) struct ParamLock(NotThreadSafe);

impl ParamLock {
    /// `kernel_param_lock()`
    ///
    /// # Context
    ///
    /// May sleep. Not in a setter of a parameter, which holds it.
    pub(crate) fn new() -> Self {
        // SAFETY: This module is live; paired with the unlock in `drop()`, by the same task.
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
