// SPDX-License-Identifier: GPL-2.0

//! Modules: a reference to this one, as long as there is one it can't be unloaded; and others that
//! are.
//!
//! C header: [`include/linux/module.h`](srctree/include/linux/module.h)
//!
//! # Context
//!
//! A task that may sleep, unless a function says otherwise.

use super::generated as sys;
use core::{ops::Range, ptr::NonNull};
use kernel::{bindings, error::to_result, module::this_module, prelude::*, types::NotThreadSafe};

/// One reference, given up on drop.
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
    /// `ENODEV`: the module is on its way out.
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
        // SAFETY: By the type invariants. It is dropped in calls from a module that has a reference
        // of its own, as it uses this one's symbols.
        unsafe { sys::rcu_ptr_shim_put_module() };
    }
}

/// A module that goes: its exit has returned, or its init failed.
///
/// # Invariants
///
/// The pointer is such a module, whose memory stays as long as the value.
pub(crate) struct Going(NonNull<bindings::module>);

impl Going {
    /// `module`; `None`: it is null.
    ///
    /// # Safety
    ///
    /// It goes, and stays as long as the value.
    pub(crate) unsafe fn new(module: *mut bindings::module) -> Option<Self> {
        // INVARIANT: By the safety requirements of this function.
        NonNull::new(module).map(Self)
    }

    /// Whether it may use this module's symbols: it is in /sys/module/rcu_ptr/holders; or it is not
    /// in sysfs at all, as its load failed before or after that time, when setters of its
    /// parameters have run. (A kernel without CONFIG_SYSFS does not tell: any module may.)
    pub(crate) fn may_use_this(&self) -> bool {
        // SAFETY: By the type invariants; the directory lives as long as this module.
        unsafe {
            !sys::rcu_ptr_shim_module_is_in_sysfs(self.0.as_ptr())
                || sys::rcu_ptr_shim_module_uses_this(self.0.as_ptr())
        }
    }

    /// Where its functions are.
    ///
    /// # Context
    ///
    /// Any.
    pub(crate) fn text(&self) -> Range<usize> {
        // SAFETY: By the type invariants; nothing changes it any more.
        let text = unsafe { &(*self.0.as_ptr()).mem[bindings::mod_mem_type_MOD_TEXT as usize] };
        let start = text.base.addr();
        start..start + text.size as usize
    }
}

/// Has `rcu_ptr_rs_module_going()` called for every module that goes, until it is dropped.
pub(crate) struct Watch(());

impl Watch {
    /// Begins; once.
    pub(crate) fn register() -> Result<Self> {
        // SAFETY: Registered once, until the drop.
        to_result(unsafe { sys::rcu_ptr_shim_watch_modules() })?;
        Ok(Self(()))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // SAFETY: Registered. Waits for calls that are under way.
        unsafe { sys::rcu_ptr_shim_unwatch_modules() };
    }
}

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
