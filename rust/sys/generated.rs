// SPDX-License-Identifier: GPL-2.0

//! What bindgen made of this module's shim.c (see `bindgen.mk`): shims, and kernel items that
//! `kernel::bindings` lacks.

#![allow(
    clippy::all,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unused_imports,
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks
)]

use kernel::bindings::*;
use kernel::ffi;

include!(env!("RCU_PTR_GENERATED"));
