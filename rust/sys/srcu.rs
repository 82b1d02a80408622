// SPDX-License-Identifier: GPL-2.0

//! SRCU domains of users, and their grace periods.
//!
//! C header: [`include/linux/srcu.h`](srctree/include/linux/srcu.h)
//!
//! # Context
//!
//! Functions that wait, and their annotation: a task that may sleep. Others: any, NMI included,
//! unless a function says otherwise.

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
/// The pointer is an initialised domain, which lives as long as the value is used.
#[derive(Clone, Copy)]
pub(crate) struct Domain(NonNull<bindings::srcu_struct>);

// SAFETY: SRCU does its own locking.
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

    /// Whether each of its grace periods includes one of RCU: fast readers use no memory barriers,
    /// so a grace period waits for RCU instead (`SRCU_READ_FLAVOR_SLOWGP`).
    pub(crate) fn waits_for_rcu(self) -> bool {
        // SAFETY: By the type invariants.
        unsafe { sys::rcu_ptr_shim_srcu_waits_for_rcu(self.0.as_ptr()) }
    }

    /// Queues `C` to run after a grace period (`call_srcu()`).
    ///
    /// # Context
    ///
    /// Any but NMI; the caller has not interrupted code of SRCU, so interrupts were enabled.
    ///
    /// # Safety
    ///
    /// `head` stays valid, and is not accessed otherwise, until then.
    pub(crate) unsafe fn call<C: Callback>(self, head: NonNull<RcuHead>) {
        // SAFETY: By the safety requirements of this function and the type invariants.
        unsafe { bindings::call_srcu(self.0.as_ptr(), head.as_ptr().cast(), Some(entry::<C>)) };
    }

    /// Annotates for lockdep that the caller waits for readers.
    pub(crate) fn will_wait(self) {
        // SAFETY: By the type invariants.
        unsafe { sys::rcu_ptr_shim_srcu_wait(self.0.as_ptr()) };
    }

    /// Waits for all callbacks queued so far, those of other users too (`srcu_barrier()`).
    ///
    /// # Context
    ///
    /// May sleep; not inside a reader of the domain.
    pub(crate) fn barrier(self) {
        // SAFETY: By the type invariants; the callers are in process context.
        unsafe { bindings::srcu_barrier(self.0.as_ptr()) };
    }
}
