// SPDX-License-Identifier: GPL-2.0

//! What the suite needs from files. It runs in a thread of the kernel, which sees no file system, so
//! module init reads it for them.

use crate::{code::Code, sweep::Sweep, sys::text};
use kernel::prelude::*;

/// What was read.
pub(crate) struct Files {
    /// Instructions of `module`, and of the kernel.
    code: [Option<Code>; 2],
    /// The sweep of `module`, which goes on from case to case.
    sweep: Option<Sweep>,
}

kernel::sync::global_lock! {
    // SAFETY: `read()` initialises it in module init, before any suite runs.
    unsafe(uninit) static FILES: Mutex<Files> = Files {
        code: [None, None],
        sweep: None,
    };
}

/// Reads the files that are there, at module init.
pub(crate) fn read() {
    // SAFETY: Called once, at module init.
    unsafe { FILES.init() };
    let code = [text::sweep_module(), "vmlinux"].map(|module| {
        Code::of(module)
            .inspect_err(|e| pr_info!("no instructions of {} to sweep: {:?}\n", module, e))
            .ok()
    });
    FILES.lock().code = code;
}

/// Gives the memory back, at module exit.
pub(crate) fn forget() {
    let mut files = FILES.lock();
    files.code = [None, None];
    files.sweep = None;
}

/// Calls `f` with the sweep of `module`, `None` where there is no list of its instructions.
pub(crate) fn with_sweep<R>(
    lockless: Option<bool>,
    f: impl FnOnce(&mut Sweep) -> Result<R>,
) -> Result<Option<R>> {
    let mut files = FILES.lock();
    if files.sweep.is_none() {
        let Some(code) = files.code[0].take() else {
            return Ok(None);
        };
        files.sweep = Some(Sweep::of(code, lockless)?);
    }
    files.sweep.as_mut().map(f).transpose()
}

/// The instructions of functions of the kernel, once.
pub(crate) fn take_kernel() -> Option<Code> {
    FILES.lock().code[1].take()
}
