// SPDX-License-Identifier: GPL-2.0

//! NMIs that a CPU sends to another or to itself (x86 with a local APIC); the handler also gets
//! all others, such as those of perf and those that the host injects. Other sources of NMIs, each
//! with a [`Hook`]:
//!
//! | source | x86 | arm64 |
//! |---|---|---|
//! | [`perf::Cycles`](super::perf::Cycles) | with a PMU | with pseudo-NMIs |
//! | [`perf::Breakpoint`](super::perf::Breakpoint) | execution and data | |
//! | step.rs | steps from a breakpoint on | steps, if the cycle counter counts instructions |

use super::{generated as sys, perf::Hook, static_ref::StaticRef};
use ::core::ptr;
use kernel::{error::to_result, prelude::*};

/// Whether this architecture can send NMIs.
pub(crate) const CAN: bool = cfg!(CONFIG_X86_LOCAL_APIC);

/// The hook of the registered [`Receiver`].
static HOOK: StaticRef<Hook<'_>> = StaticRef::new();

/// Keeps the handler registered.
pub(crate) struct Receiver<'a> {
    _hook: &'a Hook<'a>,
}

impl<'a> Receiver<'a> {
    /// Runs `hook` at every NMI, perf's included, and claims them all. At most one `Receiver`
    /// exists; may sleep.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` on machines that can't send NMIs.
    pub(crate) fn new(hook: &'a Hook<'a>) -> Result<Self> {
        HOOK.set(ptr::from_ref(hook).cast());
        // SAFETY: At most one exists, as the doc asks.
        to_result(unsafe { sys::rcu_ptr_shim_nmi_register() })?;
        Ok(Self { _hook: hook })
    }

    /// Sends an NMI to `cpu`.
    ///
    /// # Context
    ///
    /// Any but NMI, with preemption disabled or the task bound to its CPU.
    pub(crate) fn send(&self, cpu: i32) {
        // SAFETY: A handler is registered as long as `self` lives.
        unsafe { sys::rcu_ptr_shim_nmi_send(cpu) };
    }
}

impl Drop for Receiver<'_> {
    fn drop(&mut self) {
        // SAFETY: Registered by `new()`; waits until no CPU runs the handler.
        unsafe { sys::rcu_ptr_shim_nmi_unregister() };
        HOOK.clear();
    }
}

/// Called by nmi.c in the NMI handler.
#[no_mangle]
extern "C" fn rcu_ptr_rs_nmi() {
    // SAFETY: `Receiver` unregisters the handler before its hook goes.
    if let Some(hook) = unsafe { HOOK.get() } {
        hook.run(0, 0);
    }
}
