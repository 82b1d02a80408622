// SPDX-License-Identifier: GPL-2.0

//! Parameters of `nmi_sweep.ko`, which are words, and where the kernel's own code is.

use super::generated as sys;
pub(crate) use super::kunit::is_short;
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

/// `module`: the module whose code is swept.
pub(crate) fn sweep_module() -> &'static str {
    // SAFETY: A parameter of shim.c, which is set when the module is loaded.
    unsafe { word(sys::rcu_ptr_text_module) }
}

/// `func`: parts of the names of the functions that are swept.
pub(crate) fn sweep_func() -> &'static str {
    // SAFETY: As above.
    unsafe { word(sys::rcu_ptr_text_func) }
}

/// `cmd`: the shell command that makes the code run.
pub(crate) fn sweep_cmd() -> &'static str {
    // SAFETY: As above.
    unsafe { word(sys::rcu_ptr_text_cmd) }
}

/// A function of the kernel, and where it is: the fixed point for all others.
pub(crate) fn anchor() -> (&'static str, usize) {
    ("irq_work_queue", bindings::irq_work_queue as usize)
}
