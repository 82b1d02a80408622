// SPDX-License-Identifier: GPL-2.0

//! Single steps: from a breakpoint on, a debug exception in front of each further instruction, each
//! in NMI context (x86).
//!
//! A breakpoint whose [`Hook`] is a trail sets the trap flag of what it interrupted. Interrupts
//! clear it for their handlers and restore it when they return, so a trail is one task's or one
//! handler's, until the hook has enough of it.

use super::super::{generated as sys, thread};
use super::Hook;
use ::core::ptr;
use kernel::{
    error::to_result,
    prelude::*,
    sync::atomic::{Acquire, Atomic, Full, Release},
};

/// What looks at the steps, if anything.
static HOOK: Atomic<*mut c_void> = Atomic::new(ptr::null_mut());

/// Keeps the handler of single steps registered.
///
/// It has to be there for as long as a trap flag may be set, in the frame of a task that was
/// preempted on the way too: make it long before and drop it long after the first and the last
/// [`Steps`].
pub(crate) struct Handler;

impl Handler {
    /// Registers the handler; where there are no single steps, nothing.
    ///
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// Those of `register_die_notifier()`.
    pub(crate) fn register() -> Result<Self> {
        // SAFETY: Unregistered on drop, the only time.
        to_result(unsafe { sys::rcu_ptr_kunit_step_register() }).map(|()| Self)
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        // SAFETY: Registered by `register()`; waits until no CPU runs the handler.
        unsafe { sys::rcu_ptr_kunit_step_unregister() };
    }
}

/// Lets a hook see all steps. One at a time.
pub(crate) struct Steps<'a> {
    _hook: &'a Hook<'a>,
}

impl<'a> Steps<'a> {
    /// Runs `hook` at every step.
    ///
    /// # Context
    ///
    /// Any; one at a time.
    pub(crate) fn new(hook: &'a Hook<'a>) -> Self {
        // ORDERING: What the hook refers to is seen with the pointer; pairs with the
        // acquire in `rcu_ptr_kunit_rs_step()`.
        HOOK.store(ptr::from_ref(hook).cast_mut().cast(), Release);
        Self { _hook: hook }
    }
}

impl Drop for Steps<'_> {
    /// Waits until the hook runs nowhere any more.
    ///
    /// May sleep.
    fn drop(&mut self) {
        // ORDERING: Full, as the grace period has to start after it.
        HOOK.xchg(ptr::null_mut(), Full);
        thread::synchronize_expedited();
    }
}

/// Called by shim.c at a single step, where notifiers run under RCU. Returns whether to go on.
#[no_mangle]
extern "C" fn rcu_ptr_kunit_rs_step(pc: c_ulong, sp: c_ulong) -> bool {
    // ORDERING: Pairs with the release in `Steps::new()`.
    let hook = HOOK.load(Acquire).cast::<Hook<'_>>();
    // SAFETY: `Steps` waits for a grace period before its hook goes.
    !hook.is_null() && unsafe { &*hook }.run(pc, sp)
}
