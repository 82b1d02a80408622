// SPDX-License-Identifier: GPL-2.0

//! The parameters that are text (shim.c declares them, as `module!` has numbers only).

use super::generated as sys;
use kernel::prelude::*;

fn text(value: *const c_char) -> &'static str {
    // SAFETY: The shims return strings that live as long as the module, never null; parameters are
    // read-only at run time.
    unsafe { CStr::from_char_ptr(value) }.to_str().unwrap_or("")
}

/// What to measure.
pub(crate) fn test() -> &'static str {
    // SAFETY: No requirements.
    text(unsafe { sys::rcu_ptr_bench_param_test() })
}

/// The functions to measure.
pub(crate) fn frees() -> &'static str {
    // SAFETY: No requirements.
    text(unsafe { sys::rcu_ptr_bench_param_frees() })
}

/// The kinds of objects.
pub(crate) fn object() -> &'static str {
    // SAFETY: No requirements.
    text(unsafe { sys::rcu_ptr_bench_param_object() })
}

/// The engine of the loaded core, as the parameter of this module says.
pub(crate) fn engine() -> &'static str {
    // SAFETY: No requirements.
    text(unsafe { sys::rcu_ptr_bench_param_engine() })
}

/// Functions whose runs are counted.
pub(crate) fn irq_works() -> impl Iterator<Item = usize> {
    // SAFETY: No requirements.
    let all = text(unsafe { sys::rcu_ptr_bench_param_irq_works() });
    all.split(',')
        .filter_map(|word| usize::from_str_radix(word, 16).ok())
}
