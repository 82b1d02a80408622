// SPDX-License-Identifier: GPL-2.0

//! For rcu_ptr_takeover.ko: functions of the kernel that it redirects, and its C functions.
//!
//! C header: [`include/linux/ftrace.h`](srctree/include/linux/ftrace.h)
//!
//! # Context
//!
//! A task that may sleep, unless a function says otherwise.

use super::generated as sys;
use core::ptr::NonNull;
use kernel::{bindings, error::to_result, prelude::*};

pub(crate) use sys::{
    RCU_PTR_TAKEOVER_DESTROYED as DESTROYED, RCU_PTR_TAKEOVER_HEADLESS as HEADLESS,
    RCU_PTR_TAKEOVER_HEADLESS_SLEPT as HEADLESS_SLEPT, RCU_PTR_TAKEOVER_KVFREE as KVFREE,
    RCU_PTR_TAKEOVER_KVFREE_NMI as KVFREE_NMI, RCU_PTR_TAKEOVER_MODULES_GONE as MODULES_GONE,
    RCU_PTR_TAKEOVER_NOLOCK as NOLOCK, RCU_PTR_TAKEOVER_NOLOCK_NMI as NOLOCK_NMI,
    RCU_PTR_TAKEOVER_NOT_WATCHING as NOT_WATCHING, RCU_PTR_TAKEOVER_NO_ROOM as NO_ROOM,
    RCU_PTR_TAKEOVER_WHILE_DESTROYING as WHILE_DESTROYING,
};

/// A function of the kernel.
#[derive(Clone, Copy)]
pub(crate) enum Function {
    /// `kmem_cache_destroy()`
    Destroy = sys::RCU_PTR_TAKEOVER_FN_DESTROY as isize,
    /// `kvfree_call_rcu()`
    Kvfree = sys::RCU_PTR_TAKEOVER_FN_KVFREE as isize,
    /// `kfree_call_rcu_nolock()`
    Nolock = sys::RCU_PTR_TAKEOVER_FN_NOLOCK as isize,
}

impl Function {
    /// The symbol.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Destroy => "kmem_cache_destroy",
            Self::Kvfree => "kvfree_call_rcu",
            Self::Nolock => "kfree_call_rcu_nolock",
        }
    }
}

/// Whether to redirect by a jump: the kernel can, and parameter `jump` is set.
pub(crate) fn can_jump() -> bool {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_takeover_shim_can_jump() }
}

/// A redirected function. It stays redirected unless [`Self::unregister()`] is called.
///
/// # Invariants
///
/// It is redirected.
#[must_use = "it is redirected for ever"]
pub(crate) struct Redirected(Function);

impl Redirected {
    /// Redirects calls of `function`, to `rcu_ptr_takeover_rs_*()`.
    ///
    /// # Errors
    ///
    /// `EBUSY`: it has another user. `ENODEV`: ftrace is disabled permanently. `EOPNOTSUPP`: this
    /// kernel's functions can't be redirected.
    pub(crate) fn new(function: Function, jump: bool) -> Result<Self> {
        // SAFETY: The functions that replace it may be called in any context from now on.
        to_result(unsafe { sys::rcu_ptr_takeover_shim_register(function as c_uint, jump) })?;
        // INVARIANT: Registered just now.
        Ok(Self(function))
    }

    /// Reverts the redirection. Calls that have started may still be in this module; after an
    /// error, later ones as well.
    pub(crate) fn unregister(self) -> Result {
        // SAFETY: By the type invariants.
        to_result(unsafe { sys::rcu_ptr_takeover_shim_unregister(self.0 as c_uint) })
    }
}

/// Waits until every task that runs code of this module, or was preempted in it, has left it.
pub(crate) fn synchronize() {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_takeover_shim_synchronize() };
}

pub(crate) use kernel::sync::rcu::synchronize_rcu;

/// Sleeps for a jiffy.
pub(crate) fn sleep() {
    // SAFETY: In process context.
    unsafe { bindings::schedule_timeout_idle(1) };
}

/// Flushes the kernel's per-CPU lists of objects that NMIs freed to `kvfree_call_rcu()`.
pub(crate) fn drain_deferred() -> Result {
    // SAFETY: No requirements.
    to_result(unsafe { sys::rcu_ptr_takeover_shim_drain_deferred() })
}

/// `__rcu_ptr_barrier_objects()`: does not wait for callbacks, which the destruction of a
/// kmem_cache need not.
pub(crate) fn barrier() {
    // SAFETY: No requirements.
    unsafe { sys::__rcu_ptr_barrier_objects() };
}

/// Whether RCU is watching this CPU, so that disabled preemption is a read-side critical section.
///
/// # Context
///
/// Any.
#[inline(always)]
pub(crate) fn is_watching() -> bool {
    // SAFETY: No requirements.
    unsafe { bindings::rcu_is_watching() }
}

/// Increments the counter `what`.
///
/// # Context
///
/// Any.
pub(crate) fn count(what: c_uint) {
    // SAFETY: One of the counters.
    unsafe { sys::rcu_ptr_takeover_shim_count(what) };
}

/// The sum of a counter over all CPUs.
pub(crate) fn sum(what: c_uint) -> u64 {
    // SAFETY: One of the counters.
    unsafe { sys::rcu_ptr_takeover_shim_sum(what) }
}

/// A module notifier that calls `rcu_ptr_takeover_rs_module_gone()`; unregistered on drop.
pub(crate) struct Notified(());

impl Notified {
    /// Registers it, if the kernel waits for the objects of a module that is unloaded.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: Unregistered in `drop()`.
        to_result(unsafe { sys::rcu_ptr_takeover_shim_notify() })?;
        Ok(Self(()))
    }
}

impl Drop for Notified {
    fn drop(&mut self) {
        // SAFETY: Registered in `new()`.
        unsafe { sys::rcu_ptr_takeover_shim_no_notify() };
    }
}

/// A `kmem_cache` that is being destroyed.
pub(crate) struct DyingCache(NonNull<bindings::kmem_cache>);

impl DyingCache {
    /// `cache`; `None`: it is null.
    ///
    /// # Safety
    ///
    /// kmem_cache_destroy() was called with it.
    pub(crate) unsafe fn new(cache: *mut bindings::kmem_cache) -> Option<Self> {
        NonNull::new(cache).map(Self)
    }

    /// The kernel's own `kmem_cache_destroy()`.
    pub(crate) fn destroy(self) {
        // SAFETY: kmem_cache_destroy() was called with the cache.
        unsafe { sys::rcu_ptr_takeover_shim_destroy(self.0.as_ptr()) };
    }
}
