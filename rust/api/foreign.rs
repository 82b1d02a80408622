// SPDX-License-Identifier: GPL-2.0

//! Boxes that C structures hold, such as an XArray, and readers of them under RCU.

use kernel::{prelude::*, sync::rcu, types::ForeignOwnable};

/// Objects behind a foreign pointer whose memory is kept for RCU readers: it stays valid for a
/// grace period after the owner has dropped it.
///
/// ```ignore
/// # use super::rcu_ptr::{ForeignOwnableRcu, RcuKBox, RcuSlot};
/// # use kernel::{prelude::*, sync::rcu, xarray::{AllocKind, XArray}};
/// # fn example() -> Result {
/// // An XArray owns boxes; one that is replaced is dropped after a grace period.
/// let array = KBox::pin_init(XArray::<RcuKBox<u64>>::new(AllocKind::Alloc), GFP_KERNEL)?;
/// drop(array.lock().store(0, RcuKBox::<u64>::new(1, GFP_KERNEL)?, GFP_KERNEL));
///
/// // Code that is generic over what readers find.
/// fn is_empty<P: ForeignOwnableRcu>(slot: &RcuSlot<P>) -> bool {
///     slot.load(&rcu::read_lock()).is_none()
/// }
/// # let _ = is_empty::<RcuKBox<u64>>;
/// # Ok(())
/// # }
/// ```
///
/// # Safety
///
/// What [`ForeignOwnable::into_foreign()`] gave may be borrowed by
/// [`ForeignOwnableRcu::rcu_borrow()`] until a grace period after what
/// [`ForeignOwnable::from_foreign()`] made of it is dropped, and nothing else has its address as
/// long.
pub unsafe trait ForeignOwnableRcu: ForeignOwnable {
    /// A reader's reference.
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
    /// critical section of `guard`, before its owner dropped it.
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
