// SPDX-License-Identifier: GPL-2.0

//! A reference to this module: as long as there is one it can't be unloaded.

use super::generated as sys;
use kernel::prelude::*;

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
        // SAFETY: By the type invariants. Whoever drops it was called by a module that has a reference
        // of its own, as it uses this one's symbols.
        unsafe { sys::rcu_ptr_shim_put_module() };
    }
}
