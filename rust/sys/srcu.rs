// SPDX-License-Identifier: GPL-2.0

//! SRCU: a domain that a user of ours has, and its grace periods.
//!
//! C header: [`include/linux/srcu.h`](srctree/include/linux/srcu.h)
//!
//! # Context
//!
//! What waits, or tells lockdep so, may sleep; the rest is for any, NMI included, unless a function
//! says otherwise.

use super::{
    generated as sys,
    gp::{entry, Callback, RcuHead},
};
use core::ptr::NonNull;
use kernel::bindings;

/// A domain (`struct srcu_struct`).
///
/// # Invariants
///
/// The pointer is that of an initialised domain, which lives as long as this is used.
#[derive(Clone, Copy)]
pub(crate) struct Domain(NonNull<bindings::srcu_struct>);

// SAFETY: Domains are used from any CPU.
unsafe impl Send for Domain {}
// SAFETY: As above.
unsafe impl Sync for Domain {}

impl Domain {
    /// The domain at `raw`, if there is one.
    ///
    /// # Safety
    ///
    /// `raw` is null or an initialised domain, which lives as long as the result and its copies are
    /// used.
    pub(crate) unsafe fn new(raw: *mut bindings::srcu_struct) -> Option<Self> {
        // INVARIANT: By the safety requirements of this function.
        NonNull::new(raw).map(Self)
    }

    /// Whether each of its grace periods is one of RCU, too: readers of a fast domain count
    /// themselves without barriers, and a grace period waits for RCU instead
    /// (`SRCU_READ_FLAVOR_SLOWGP`).
    pub(crate) fn waits_for_rcu(self) -> bool {
        // SAFETY: By the type invariants.
        unsafe { sys::rcu_ptr_shim_srcu_waits_for_rcu(self.0.as_ptr()) }
    }

    /// Lets `C` run after a grace period that starts from now on (`call_srcu()`).
    ///
    /// # Context
    ///
    /// Any but NMI; the interrupted context may not be inside SRCU, so interrupts were on.
    ///
    /// # Safety
    ///
    /// `head` is not accessed otherwise until then, and lives as long.
    pub(crate) unsafe fn call<C: Callback>(self, head: NonNull<RcuHead>) {
        // SAFETY: By the safety requirements of this function and the type invariants.
        unsafe { bindings::call_srcu(self.0.as_ptr(), head.as_ptr().cast(), Some(entry::<C>)) };
    }

    /// Tells lockdep that the caller waits for readers.
    pub(crate) fn will_wait(self) {
        // SAFETY: By the type invariants.
        unsafe { sys::rcu_ptr_shim_srcu_wait(self.0.as_ptr()) };
    }

    /// Waits until every callback handed over so far has returned, those of others too
    /// (`srcu_barrier()`).
    ///
    /// # Context
    ///
    /// May sleep; not inside a reader of the domain.
    pub(crate) fn barrier(self) {
        // SAFETY: By the type invariants; the callers are in process context.
        unsafe { bindings::srcu_barrier(self.0.as_ptr()) };
    }
}
