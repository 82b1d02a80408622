// SPDX-License-Identifier: GPL-2.0

//! Snapshots of grace periods, in words that any context may share.
//!
//! C header: [`include/linux/rcupdate.h`](srctree/include/linux/rcupdate.h)

use super::generated as sys;
use kernel::{
    bindings,
    sync::atomic::{Atomic, Relaxed},
};

/// A snapshot (`struct rcu_gp_seq`).
pub(crate) struct Snapshot {
    norm: Atomic<usize>,
    exp: Atomic<usize>,
}

impl Snapshot {
    /// None taken.
    pub(crate) const fn new() -> Self {
        Self {
            norm: Atomic::new(0),
            exp: Atomic::new(0),
        }
    }

    /// Names the grace period that covers everything done before the call; a full memory barrier
    /// (`get_state_synchronize_rcu_full()`).
    ///
    /// # Context
    ///
    /// Any, NMI included.
    pub(crate) fn take(&self) {
        let mut seq = bindings::rcu_gp_seq::default();
        // SAFETY: `seq` is valid for writes.
        unsafe { bindings::get_state_synchronize_rcu_full(&mut seq) };
        self.norm.store(seq.norm, Relaxed);
        self.exp.store(seq.exp, Relaxed);
    }

    /// Whether that grace period is over (`poll_state_synchronize_rcu_full()`).
    ///
    /// # Context
    ///
    /// Any.
    pub(crate) fn is_over(&self) -> bool {
        let mut seq = bindings::rcu_gp_seq {
            norm: self.norm.load(Relaxed),
            exp: self.exp.load(Relaxed),
        };
        // SAFETY: `seq` is a snapshot.
        unsafe { bindings::poll_state_synchronize_rcu_full(&mut seq) }
    }
}

/// Calls `f` as a reader of the SRCU domain, which may sleep.
///
/// # Context
///
/// May sleep.
pub(crate) fn read_domain<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: Unlocked below, by the same task.
    let token = unsafe { sys::rcu_ptr_torture_domain_lock() };
    let ret = f();
    // SAFETY: Locked above.
    unsafe { sys::rcu_ptr_torture_domain_unlock(token) };
    ret
}
