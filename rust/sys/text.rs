// SPDX-License-Identifier: GPL-2.0

//! Parameters of `nmi_sweep.ko`, which are words, and where the kernel's own code is.

pub(crate) use super::kunit::is_short;
use super::{generated as sys, texts::text};
use kernel::bindings;

/// `module`: the module whose code is swept.
pub(crate) fn sweep_module() -> &'static str {
    text(sys::RCU_PTR_MODULE)
}

/// `func`: parts of the names of the functions that are swept.
pub(crate) fn sweep_func() -> &'static str {
    text(sys::RCU_PTR_FUNC)
}

/// `cmd`: the shell command that makes the code run.
pub(crate) fn sweep_cmd() -> &'static str {
    text(sys::RCU_PTR_CMD)
}

/// A function of the kernel, and where it is: the fixed point for all others.
pub(crate) fn anchor() -> (&'static str, usize) {
    ("irq_work_queue", bindings::irq_work_queue as usize)
}
