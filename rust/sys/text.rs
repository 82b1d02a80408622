// SPDX-License-Identifier: GPL-2.0

//! Parameters of the module that are words, and where the kernel's own code is.

use super::generated as sys;
use kernel::{bindings, prelude::*};

/// A parameter, "" when it is not set.
///
/// # Safety
///
/// `param` is a string that stays.
unsafe fn word(param: *const c_char) -> &'static str {
    // SAFETY: By the safety requirements of this function.
    unsafe { CStr::from_char_ptr(param) }.to_str().unwrap_or("")
}

/// `length`: whether it is "short".
pub(crate) fn is_short() -> bool {
    // SAFETY: Reads a variable of shim.c, which is set while the module is loaded.
    unsafe { sys::rcu_ptr_kunit_is_short() }
}

/// `sweep_module`: the module whose code is swept.
pub(crate) fn sweep_module() -> &'static str {
    // SAFETY: An array in shim.c that always ends with a NUL.
    unsafe { word(sys::rcu_ptr_kunit_sweep_module()) }
}

/// `sweep_func`: part of the names of the functions that are swept.
pub(crate) fn sweep_func() -> &'static str {
    // SAFETY: As above.
    unsafe { word(sys::rcu_ptr_kunit_sweep_func()) }
}

/// `sweep_cmd`: the shell command that makes the code run.
pub(crate) fn sweep_cmd() -> &'static str {
    // SAFETY: As above.
    unsafe { word(sys::rcu_ptr_kunit_sweep_cmd()) }
}

/// A function of the kernel, and where it is: the fixed point for all others.
pub(crate) fn anchor() -> (&'static str, usize) {
    ("irq_work_queue", bindings::irq_work_queue as usize)
}
