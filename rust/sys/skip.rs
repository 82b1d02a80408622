// SPDX-License-Identifier: GPL-2.0

//! Leaving a test out, with the reason.

#[cfg(not(RCU_PTR_RUNNER))]
use super::generated as sys;
use kernel::prelude::*;

/// Marks the running test as skipped; the test has to return by itself.
pub(crate) fn skip(reason: &'static CStr) {
    #[cfg(RCU_PTR_RUNNER)]
    crate::runner::skip(reason);
    // SAFETY: Tests call it in their own task.
    #[cfg(not(RCU_PTR_RUNNER))]
    unsafe {
        sys::rcu_ptr_kunit_skip(reason.as_char_ptr())
    };
}
