// SPDX-License-Identifier: GPL-2.0

//! Hardware breakpoints on every CPU, through perf: their handler runs in NMI context (x86).
//!
//! C header: [`include/linux/hw_breakpoint.h`](srctree/include/linux/hw_breakpoint.h)

use super::super::generated as sys;
use super::Hook;
use kernel::{error::from_err_ptr, prelude::*};

/// Breakpoints that a CPU has room for.
pub(crate) const SLOTS: usize = 4;

/// What an access has to be for a breakpoint to fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The instruction that starts there is about to be executed.
    Execute,
    /// The 8 bytes there were written.
    Write,
    /// The 4 bytes there were written.
    Write4,
}

/// A breakpoint on every CPU that was up when it was made.
///
/// # Invariants
///
/// The pointer is what `register_wide_hw_breakpoint()` gave.
pub(crate) struct Breakpoint<'a> {
    events: *mut c_void,
    _hook: &'a Hook<'a>,
}

impl<'a> Breakpoint<'a> {
    /// Runs `hook` at each access of `kind` to `address`.
    ///
    /// # Context
    ///
    /// May sleep; takes the CPU hotplug lock for reading.
    ///
    /// # Errors
    ///
    /// `ENOSYS` where there are none, `ENOSPC` when all slots are taken, `EINVAL` for an address
    /// that the kernel refuses (entry code).
    pub(crate) fn new(kind: Kind, address: usize, hook: &'a Hook<'a>) -> Result<Self> {
        // SAFETY: `hook` outlives the breakpoint, by the lifetime.
        let events = from_err_ptr(unsafe {
            sys::rcu_ptr_kunit_breakpoint_register(
                address,
                kind == Kind::Execute,
                if kind == Kind::Write4 { 4 } else { 8 },
                core::ptr::from_ref(hook).cast_mut().cast(),
            )
        })?;
        // INVARIANT: Just registered.
        Ok(Self {
            events,
            _hook: hook,
        })
    }
}

impl Drop for Breakpoint<'_> {
    /// Waits until the handler runs nowhere any more.
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { sys::rcu_ptr_kunit_breakpoint_unregister(self.events) };
    }
}

/// Called by shim.c in the overflow handler. Returns whether to go on in single steps.
///
/// # Safety
///
/// `hook` is what `Breakpoint::new()` or `Cycles::new()` passed on; its event still exists.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_kunit_rs_hook(hook: *mut c_void, pc: c_ulong, sp: c_ulong) -> bool {
    // SAFETY: By the safety requirements of this function.
    unsafe { &*hook.cast::<Hook<'_>>() }.run(pc, sp)
}
