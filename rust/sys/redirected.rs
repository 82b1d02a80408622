// SPDX-License-Identifier: GPL-2.0

//! Functions of the kernel that `rcu_ptr_takeover.ko` redirects, and where they lead.
//!
//! C header: [`include/linux/ftrace.h`](srctree/include/linux/ftrace.h)
//!
//! # Context
//!
//! A task that may sleep, unless a function says otherwise.

use super::generated as sys;
use kernel::{bindings, error::to_result, prelude::*};

pub(crate) use sys::{
    rcu_ptr_takeover_count_RCU_PTR_TAKEOVER_DESTROYED as DESTROYED,
    rcu_ptr_takeover_count_RCU_PTR_TAKEOVER_HEADLESS as HEADLESS,
    rcu_ptr_takeover_count_RCU_PTR_TAKEOVER_HEADLESS_SLEPT as HEADLESS_SLEPT,
    rcu_ptr_takeover_count_RCU_PTR_TAKEOVER_KVFREE as KVFREE,
    rcu_ptr_takeover_count_RCU_PTR_TAKEOVER_KVFREE_NMI as KVFREE_NMI,
    rcu_ptr_takeover_count_RCU_PTR_TAKEOVER_MODULES_GONE as MODULES_GONE,
    rcu_ptr_takeover_count_RCU_PTR_TAKEOVER_NOLOCK as NOLOCK,
    rcu_ptr_takeover_count_RCU_PTR_TAKEOVER_NOLOCK_NMI as NOLOCK_NMI,
    rcu_ptr_takeover_count_RCU_PTR_TAKEOVER_NOT_WATCHING as NOT_WATCHING,
    rcu_ptr_takeover_count_RCU_PTR_TAKEOVER_NO_ROOM as NO_ROOM,
    rcu_ptr_takeover_count_RCU_PTR_TAKEOVER_WHILE_DESTROYING as WHILE_DESTROYING,
};

/// A function of the kernel.
#[derive(Clone, Copy)]
pub(crate) enum Function {
    /// `kmem_cache_destroy()`
    Destroy = sys::rcu_ptr_takeover_function_RCU_PTR_TAKEOVER_FN_DESTROY as isize,
    /// `kvfree_call_rcu()`
    Kvfree = sys::rcu_ptr_takeover_function_RCU_PTR_TAKEOVER_FN_KVFREE as isize,
    /// `kfree_call_rcu_nolock()`
    Nolock = sys::rcu_ptr_takeover_function_RCU_PTR_TAKEOVER_FN_NOLOCK as isize,
}

impl Function {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Destroy => "kmem_cache_destroy",
            Self::Kvfree => "kvfree_call_rcu",
            Self::Nolock => "kfree_call_rcu_nolock",
        }
    }
}

/// Whether this kernel's functions can be redirected at all.
pub(crate) fn can() -> bool {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_takeover_shim_can() }
}

/// Whether they can be by a jump, and are to be.
pub(crate) fn can_jump() -> bool {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_takeover_shim_can_jump() && sys::rcu_ptr_takeover_shim_wants_jump() }
}

/// A function that is redirected. It stays so if it is not [given back](Self::give_back()).
///
/// # Invariants
///
/// It was registered, and has not been given back.
#[must_use = "it is redirected for ever"]
pub(crate) struct Redirected(Function);

impl Redirected {
    /// Redirects calls of `function`, to `rcu_ptr_takeover_rs_*()`.
    ///
    /// # Errors
    ///
    /// `EBUSY`: it is held already. `ENODEV`: ftrace is off for good.
    pub(crate) fn new(function: Function, jump: bool) -> Result<Self> {
        // SAFETY: What it leads to stands calls in any context, from now on.
        to_result(unsafe { sys::rcu_ptr_takeover_shim_register(function as c_uint, jump) })?;
        // INVARIANT: Registered just now.
        Ok(Self(function))
    }

    /// Calls go to the kernel again; some may still be on their way here. With an error they all
    /// do, for ever.
    pub(crate) fn give_back(self) -> Result {
        // SAFETY: By the type invariants.
        to_result(unsafe { sys::rcu_ptr_takeover_shim_unregister(self.0 as c_uint) })
    }
}

/// Waits until every task that runs code of ours, or was preempted in it, has left it.
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

/// What lies on the kernel's lists of objects that NMIs freed goes to `kvfree_call_rcu()` now.
pub(crate) fn drain_deferred() -> Result {
    // SAFETY: No requirements.
    to_result(unsafe { sys::rcu_ptr_takeover_shim_drain_deferred() })
}

/// `__rcu_ptr_barrier_objects()`: the destruction of a cache of the kernel does not wait for
/// callbacks of others.
pub(crate) fn barrier() {
    // SAFETY: No requirements.
    unsafe { sys::__rcu_ptr_barrier_objects() };
}

/// Whether RCU watches this CPU, so that disabled preemption is a read-side critical section.
///
/// # Context
///
/// Any.
#[inline(always)]
pub(crate) fn is_watching() -> bool {
    // SAFETY: No requirements.
    unsafe { bindings::rcu_is_watching() }
}

/// Counts.
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

/// Has `rcu_ptr_takeover_rs_module_gone()` called when a module goes, until it is dropped.
pub(crate) struct Notified(());

impl Notified {
    /// Where the kernel waits for the objects of a module that goes.
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
pub(crate) struct Doomed(*mut bindings::kmem_cache);

impl Doomed {
    /// `cache`, which may be null.
    ///
    /// # Safety
    ///
    /// The caller of kmem_cache_destroy() gave it up.
    pub(crate) unsafe fn new(cache: *mut bindings::kmem_cache) -> Self {
        Self(cache)
    }

    /// Whether there is one.
    pub(crate) fn is_null(&self) -> bool {
        self.0.is_null()
    }

    /// The kernel's own `kmem_cache_destroy()`.
    pub(crate) fn destroy(self) {
        // SAFETY: The caller of kmem_cache_destroy() gave the cache up.
        unsafe { sys::rcu_ptr_takeover_shim_destroy(self.0) };
    }
}
