// SPDX-License-Identifier: GPL-2.0

//! How much a case does: less where everything is slow, and in the short form.

use crate::sys::length;

/// Sanitizers make everything an order of magnitude slower, and keep memory of their own.
pub(crate) const SLOW: bool = cfg!(any(CONFIG_KASAN, CONFIG_PROVE_LOCKING));

/// `n`, or a part of it where everything is slow.
pub(crate) const fn scaled(n: usize) -> usize {
    if SLOW {
        n / 16
    } else {
        n
    }
}

/// What a case does in the short form, and otherwise.
pub(crate) fn by_length<T>(short: T, full: T) -> T {
    if length::is_short() {
        short
    } else {
        full
    }
}
