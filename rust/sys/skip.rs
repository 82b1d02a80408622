// SPDX-License-Identifier: GPL-2.0

//! Leaving a test out, with the reason.

use super::generated as sys;
use kernel::prelude::*;

/// Marks the running test as skipped; the test has to return by itself.
pub(crate) fn skip(reason: &'static CStr) {
    // SAFETY: Tests call it in their own task.
    unsafe { sys::rcu_ptr_shim_skip(reason.as_char_ptr()) };
}
