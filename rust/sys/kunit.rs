// SPDX-License-Identifier: GPL-2.0

//! Parameter `length` of test modules, and skipping of tests.

use super::generated as sys;
#[cfg(not(RCU_PTR_RUNNER))]
use kernel::prelude::*;

/// Whether parameter `length` is "short".
pub(crate) fn is_short() -> bool {
    // SAFETY: Reads a variable of kunit.c, which is set while the module is loaded.
    unsafe { sys::rcu_ptr_shim_is_short() }
}

/// Marks the running test as skipped, for `reason`; the test has to return by itself.
#[cfg(not(RCU_PTR_RUNNER))]
pub(crate) fn skip(reason: &'static CStr) {
    // SAFETY: Tests call it in their own task.
    unsafe { sys::rcu_ptr_shim_skip(reason.as_char_ptr()) };
}
