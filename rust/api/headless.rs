// SPDX-License-Identifier: GPL-2.0

//! The kernel's own boxes, freed after a grace period with no field in the object.

use super::{storage::KvFree, sys};
use core::{mem::needs_drop, ptr::NonNull};
use kernel::prelude::*;

/// Frees the memory of a box after a grace period, with no field in the object
/// (`rcu_ptr_kvfree_mightsleep()`). A `T` that needs a destructor does not compile.
///
/// ```ignore
/// # use super::rcu_ptr::free_mightsleep;
/// # use kernel::prelude::*;
/// # fn example() -> Result {
/// let table = KBox::pin([0u64; 8], GFP_KERNEL)?;
/// // Unpublish it first. Readers that have found it keep it for a grace period.
/// free_mightsleep(table);
/// # Ok(())
/// # }
/// ```
///
/// # Context
///
/// May sleep.
pub fn free_mightsleep<T, A: KvFree>(object: Pin<Box<T, A>>) {
    const { assert!(!needs_drop::<T>() && size_of::<T>() != 0) };
    // SAFETY: The object stays where it is.
    let raw = Box::into_raw(unsafe { Pin::into_inner_unchecked(object) });
    // SAFETY: The box owned a live object that kvfree() takes (the contract of `KvFree`); boxes are
    // never null.
    unsafe { sys::core::kvfree_mightsleep(NonNull::new_unchecked(raw).cast()) };
}

/// Frees the memory of a box after a grace period, with no field in the object and from anywhere
/// (`rcu_ptr_try_kfree_nolock()`). A `T` that needs a destructor does not compile.
///
/// ```ignore
/// # use super::rcu_ptr::{free_mightsleep, try_free_nolock};
/// # use kernel::prelude::*;
/// # fn example(table: Pin<KBox<[u64; 8]>>) {
/// if let Err(table) = try_free_nolock(table) {
///     // In a task. An NMI handler has to keep the box, and to try again.
///     free_mightsleep(table);
/// }
/// # }
/// ```
///
/// # Context
///
/// Any, NMI included.
///
/// # Errors
///
/// The box, if there is no room. It can't be dropped in NMI, so the caller has to keep it.
pub fn try_free_nolock<T, A: KvFree>(object: Pin<Box<T, A>>) -> Result<(), Pin<Box<T, A>>> {
    const { assert!(!needs_drop::<T>() && size_of::<T>() != 0) };
    // SAFETY: The object stays where it is.
    let raw = Box::into_raw(unsafe { Pin::into_inner_unchecked(object) });
    // SAFETY: The box owned a live object that kvfree() takes (the contract of `KvFree`); boxes are
    // never null.
    if unsafe { sys::core::try_kfree_nolock(NonNull::new_unchecked(raw).cast()) } {
        return Ok(());
    }
    // SAFETY: From `into_raw()` above, not taken, and pinned all the time.
    Err(unsafe { Pin::new_unchecked(Box::from_raw(raw)) })
}
