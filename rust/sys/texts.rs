// SPDX-License-Identifier: GPL-2.0

//! Module parameters that are text. `module!` has numbers only, so shim.c of the module declares
//! them, in the array `rcu_ptr_texts`.

use super::generated as sys;
use kernel::prelude::*;

/// The parameter at `index` of the array; empty if it is not UTF-8.
pub(super) fn text(index: u32) -> &'static str {
    // SAFETY: A string that lives as long as the module: such parameters are read-only at run time.
    unsafe { CStr::from_char_ptr(sys::rcu_ptr_texts[index as usize]) }
        .to_str()
        .unwrap_or("")
}
