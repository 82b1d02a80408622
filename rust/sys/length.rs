// SPDX-License-Identifier: GPL-2.0

//! How much the tests of a module do: its parameter `length`.

use super::generated as sys;

/// Whether it is "short".
pub(crate) fn is_short() -> bool {
    // SAFETY: Reads a variable of length.c, which is set while the module is loaded.
    unsafe { sys::rcu_ptr_shim_is_short() }
}
