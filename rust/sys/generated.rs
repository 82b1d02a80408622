// SPDX-License-Identifier: GPL-2.0

//! Bindings of this module's shim.c (see `bindgen.mk`): shims, and items of the kernel that
//! `kernel::bindings` lacks.

#![allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    improper_ctypes,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    reason = "generated, with the names of C and no comments"
)]

use kernel::bindings::*;
use kernel::ffi::{self, c_void};

include!(env!("RCU_PTR_GENERATED"));

/// `rcu_callback_t`, not NULL.
pub(crate) type Func = unsafe extern "C" fn(*mut callback_head);

/// A constructor or destructor of objects.
pub(crate) type ObjectFn = unsafe extern "C" fn(*mut c_void);
