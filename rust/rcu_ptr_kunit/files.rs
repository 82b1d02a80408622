// SPDX-License-Identifier: GPL-2.0

//! What the tests need from files. They run in threads of the kernel, which see no file system, so
//! module init reads it for them.

use crate::{nmi::code::Code, sys::text};
use kernel::prelude::*;

/// What was read.
pub(crate) struct Files {
    /// Instructions of `sweep_module`, and of the kernel.
    code: [Option<Code>; 2],
}

kernel::sync::global_lock! {
    // SAFETY: `read()` initialises it in module init, before any suite runs.
    unsafe(uninit) static FILES: Mutex<Files> = Files { code: [None, None] };
}

/// Reads the files that are there.
///
/// # Context
///
/// Module init, once.
pub(crate) fn read() {
    // SAFETY: Called once, by the contract of this function.
    unsafe { FILES.init() };
    let code = [text::sweep_module(), "vmlinux"].map(|module| {
        Code::of(module)
            .inspect_err(|e| pr_info!("no instructions of {} to sweep: {:?}\n", module, e))
            .ok()
    });
    FILES.lock().code = code;
}

/// Gives the memory back.
///
/// # Context
///
/// Module exit.
pub(crate) fn forget() {
    FILES.lock().code = [None, None];
}

/// The instructions of `sweep_module`, once.
pub(crate) fn take_module() -> Option<Code> {
    FILES.lock().code[0].take()
}

/// The instructions of functions of the kernel, once.
pub(crate) fn take_kernel() -> Option<Code> {
    FILES.lock().code[1].take()
}
