// SPDX-License-Identifier: GPL-2.0

//! NMIs that one CPU sends to another, or to itself (x86 with a local APIC); those that the host
//! injects come to the same handler. Other sources of NMIs, each with a [`Hook`]:
//!
//! | source | x86 | arm64 |
//! |---|---|---|
//! | [`perf::Cycles`](super::perf::Cycles) | with a PMU | with pseudo-NMIs |
//! | [`perf::Breakpoint`](super::perf::Breakpoint) | execution and data | |
//! | step.rs | from an execution breakpoint on | each next instruction, where the counter counts these |

use super::{generated as sys, perf::Hook};
use ::core::ptr;
use kernel::{
    error::to_result,
    prelude::*,
    sync::atomic::{Atomic, Full, Relaxed},
};

/// Whether CPUs can send NMIs.
pub(crate) const CAN: bool = cfg!(CONFIG_X86_LOCAL_APIC);

/// What runs, if anything.
static HOOK: Atomic<*mut c_void> = Atomic::new(ptr::null_mut());

/// Keeps the handler registered.
pub(crate) struct Receiver<'a> {
    _hook: &'a Hook<'a>,
}

impl<'a> Receiver<'a> {
    /// Runs `hook` at every NMI that no other source claims. One at a time; may sleep.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` on machines that can't send NMIs.
    pub(crate) fn new(hook: &'a Hook<'a>) -> Result<Self> {
        HOOK.store(ptr::from_ref(hook).cast_mut().cast(), Relaxed);
        // SAFETY: One at a time, as the doc asks. Registration orders the store before it.
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
        // ORDERING: The handler is gone; full for what reads it next.
        HOOK.xchg(ptr::null_mut(), Full);
    }
}

/// Called by nmi.c in the NMI handler.
#[no_mangle]
extern "C" fn rcu_ptr_rs_nmi() {
    let hook = HOOK.load(Relaxed).cast::<Hook<'_>>();
    if !hook.is_null() {
        // SAFETY: `Receiver` unregisters the handler before its hook goes.
        unsafe { &*hook }.run(0, 0);
    }
}
