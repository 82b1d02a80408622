// SPDX-License-Identifier: GPL-2.0

//! The parameters that are text (shim.c declares them, as `module!` has numbers only).

use super::{generated as sys, texts::text};

/// What to measure.
pub(crate) fn test() -> &'static str {
    text(sys::RCU_PTR_TEST)
}

/// The functions to measure.
pub(crate) fn frees() -> &'static str {
    text(sys::RCU_PTR_FREES)
}

/// The kinds of objects.
pub(crate) fn object() -> &'static str {
    text(sys::RCU_PTR_OBJECT)
}

/// The engine of the loaded core, as the parameter of this module says.
pub(crate) fn engine() -> &'static str {
    text(sys::RCU_PTR_ENGINE)
}

/// Functions whose runs are counted.
pub(crate) fn irq_works() -> impl Iterator<Item = usize> {
    text(sys::RCU_PTR_IRQ_WORKS)
        .split(',')
        .filter_map(|word| usize::from_str_radix(word, 16).ok())
}
