// SPDX-License-Identifier: GPL-2.0

//! Boxes that C structures hold, such as an XArray, and readers of them under RCU.

use kernel::{prelude::*, sync::rcu, types::ForeignOwnable};

/// What is owned by a foreign pointer, and stays for readers until a grace period after its owner
/// has let go of it.
///
/// # Safety
///
/// What [`ForeignOwnable::into_foreign()`] gave may be borrowed by
/// [`ForeignOwnableRcu::rcu_borrow()`] until a grace period after what
/// [`ForeignOwnable::from_foreign()`] made of it is dropped, and nothing else has its address as
/// long.
pub unsafe trait ForeignOwnableRcu: ForeignOwnable {
    /// What readers get.
    type RcuBorrowed<'rcu>
    where
        Self: 'rcu;

    /// The object for a reader.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    ///
    /// # Safety
    ///
    /// `ptr` is from [`ForeignOwnable::into_foreign()`], and was found inside the read-side
    /// critical section of `guard` where its owner had not let go of it yet.
    unsafe fn rcu_borrow<'rcu>(
        ptr: *mut c_void,
        guard: &'rcu rcu::Guard,
    ) -> Self::RcuBorrowed<'rcu>
    where
        Self: 'rcu;

    /// What [`ForeignOwnable::into_foreign()`] gave for the object that a reader sees.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    fn address(seen: &Self::RcuBorrowed<'_>) -> *mut c_void;
}
