// SPDX-License-Identifier: GPL-2.0

//! The lists of instructions, which module init reads from files: cases run in kernel threads,
//! which have no file system.

use crate::{code::Code, sweep::Sweep, sys::text};
use kernel::prelude::*;

pub(crate) struct SweepFiles {
    /// The code of parameter `module`, and of the kernel.
    code: [Option<Code>; 2],
    /// The sweep of `module`, which the cases share.
    sweep: Option<Sweep>,
}

kernel::sync::global_lock! {
    // SAFETY: `read()` initialises it in module init, before any suite runs.
    unsafe(uninit) static FILES: Mutex<SweepFiles> = SweepFiles {
        code: [None, None],
        sweep: None,
    };
}

/// Reads the files that exist, at module init.
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

/// Frees the memory, at module exit.
pub(crate) fn free() {
    let mut files = FILES.lock();
    files.code = [None, None];
    files.sweep = None;
}

/// Calls `f` with the sweep of `module`. `None`: there is no list of its instructions.
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

/// Returns the code of the kernel, once.
pub(crate) fn take_kernel() -> Option<Code> {
    FILES.lock().code[1].take()
}
