// SPDX-License-Identifier: GPL-2.0

//! A slot where readers find a box under RCU while others replace it.

use super::foreign::ForeignOwnableRcu;
use core::{marker::PhantomData, ptr};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full},
        rcu,
    },
};

/// Holds a box or nothing, such as an [`RcuBox`](super::RcuBox) or
/// [`RcuFreeBox`](super::RcuFreeBox).
///
/// ```ignore
/// # use super::rcu_ptr::{RcuBox, RcuKBox, RcuSlot};
/// # use kernel::{prelude::*, sync::rcu};
/// # struct Entry { key: u64, path: KVec<u8> }
/// static CURRENT: RcuSlot<RcuKBox<Entry>> = RcuSlot::new();
///
/// # fn example(path: KVec<u8>) -> Result {
/// // The entry that was there is dropped after a grace period.
/// drop(CURRENT.swap(Some(RcuBox::new(Entry { key: 1, path }, GFP_KERNEL)?)));
///
/// let guard = rcu::read_lock();
/// if let Some(entry) = CURRENT.load(&guard) {
///     pr_info!("{}\n", entry.key);
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Context
///
/// All methods: any, NMI included. May be dropped where its box may be.
///
/// # Invariants
///
/// The pointer is null or from `P`'s `into_foreign()`, owned by the slot.
pub struct RcuSlot<P: ForeignOwnableRcu> {
    object: Atomic<*mut c_void>,
    // Invariant in `P`: `put()` and `swap()` store through a shared reference.
    _owns: PhantomData<fn(P) -> P>,
}

// SAFETY: A slot shares its object with readers on any CPU, and moves boxes in and out.
unsafe impl<P: ForeignOwnableRcu + Send + Sync> Sync for RcuSlot<P> {}
// SAFETY: As above.
unsafe impl<P: ForeignOwnableRcu + Send + Sync> Send for RcuSlot<P> {}

impl<P: ForeignOwnableRcu> RcuSlot<P> {
    /// An empty slot.
    pub const fn new() -> Self {
        // INVARIANT: Null.
        Self {
            object: Atomic::new(ptr::null_mut()),
            _owns: PhantomData,
        }
    }

    /// What is there, for a reader.
    #[inline]
    pub fn load<'rcu>(&self, guard: &'rcu rcu::Guard) -> Option<P::RcuBorrowed<'rcu>>
    where
        P: 'rcu,
    {
        // ORDERING: Acquire pairs with the full exchange in `swap()`: the object is seen as it was
        // when it was put there.
        let object = self.object.load(Acquire);
        if object.is_null() {
            return None;
        }
        // SAFETY: By the type invariants the slot owned it when it was loaded, inside the guard's
        // read-side critical section.
        Some(unsafe { P::rcu_borrow(object, guard) })
    }

    /// Stores `new` and returns the previous box.
    #[inline]
    pub fn swap(&self, new: Option<P>) -> Option<P> {
        let new = new.map_or(ptr::null_mut(), P::into_foreign);
        // ORDERING: Full: the object is initialised before readers see it (pairs with `load()`),
        // and out of their sight before its grace period starts.
        let old = self.object.xchg(new, Full);
        // SAFETY: By the type invariants; the exchange has given it to this caller alone.
        unsafe { P::try_from_foreign(old) }
    }

    /// Stores `new` if the slot is empty, otherwise returns it.
    #[inline]
    pub fn put(&self, new: P) -> Result<(), P> {
        let new = new.into_foreign();
        // ORDERING: Full, as in `swap()`.
        match self.object.cmpxchg(ptr::null_mut(), new, Full) {
            Ok(_) => Ok(()),
            // SAFETY: From above, and the slot hasn't taken it.
            Err(_) => Err(unsafe { P::from_foreign(new) }),
        }
    }

    /// Removes the box whose object [`Self::load()`] found, if it is still there.
    ///
    /// As long as the guard of `seen` lives no other can have its address.
    #[inline]
    pub fn remove(&self, seen: P::RcuBorrowed<'_>) -> Option<P> {
        let seen = P::address(&seen);
        // ORDERING: Full, as in `swap()`.
        let old = self.object.cmpxchg(seen, ptr::null_mut(), Full).ok()?;
        // SAFETY: By the type invariants; the exchange has given it to this caller alone.
        unsafe { P::try_from_foreign(old) }
    }
}

impl<P: ForeignOwnableRcu> Default for RcuSlot<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: ForeignOwnableRcu> Drop for RcuSlot<P> {
    fn drop(&mut self) {
        drop(self.swap(None));
    }
}
