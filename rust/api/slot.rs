// SPDX-License-Identifier: GPL-2.0

//! A place that readers look into under RCU while a writer exchanges what is there.

use super::{
    field::HasRcuPtr,
    rcu_box::{RcuBox, RcuNolockBox},
};
use core::ptr::NonNull;
use core::{marker::PhantomData, ptr};
use kernel::sync::{
    atomic::{Acquire, Atomic, Full, Relaxed},
    rcu,
};

/// Holds an [`RcuBox`] or nothing.
///
/// # Invariants
///
/// The pointer is null or comes from [`RcuBox::into_raw()`], owned by the slot.
pub(crate) struct RcuSlot<T: HasRcuPtr> {
    object: Atomic<*mut T>,
    _owns: PhantomData<RcuBox<T>>,
}

// SAFETY: A slot shares its object with readers on any CPU, and moves boxes in and out.
unsafe impl<T: HasRcuPtr + Send + Sync> Sync for RcuSlot<T> {}
// SAFETY: As above.
unsafe impl<T: HasRcuPtr + Send + Sync> Send for RcuSlot<T> {}

impl<T: HasRcuPtr> RcuSlot<T> {
    /// An empty slot.
    pub(crate) const fn new() -> Self {
        Self {
            object: Atomic::new(ptr::null_mut()),
            _owns: PhantomData,
        }
    }

    /// What is there, for a reader.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    pub(crate) fn load<'rcu>(&self, _guard: &'rcu rcu::Guard) -> Option<&'rcu T> {
        // ORDERING: Acquire pairs with the full exchange in `swap()`: the object is seen as it was
        // when it was put there.
        let object = NonNull::new(self.object.load(Acquire))?;
        // SAFETY: By the type invariants it was live when it was loaded, inside the guard's
        // read-side critical section; who takes it out frees it after a grace period.
        Some(unsafe { object.as_ref() })
    }

    /// Puts `object` there and takes out what was.
    ///
    /// # Context
    ///
    /// Any.
    pub(crate) fn swap(&self, object: Option<RcuBox<T>>) -> Option<RcuBox<T>> {
        let new = object.map_or(ptr::null_mut(), |b| b.into_raw().as_ptr());
        // ORDERING: Full: the object is initialised before readers see it (pairs with `load()`),
        // and unlinked before its grace period starts.
        let old = NonNull::new(self.object.xchg(new, Full))?;
        // SAFETY: By the type invariants; the exchange has given it to this caller alone.
        Some(unsafe { RcuBox::from_raw(old) })
    }
}

impl<T: HasRcuPtr> RcuSlot<T> {
    /// As [`RcuSlot::swap()`], in any context: what comes out may be dropped there too.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    pub(crate) fn swap_nolock(&self, object: Option<RcuNolockBox<T>>) -> Option<RcuNolockBox<T>> {
        let object = object.map(RcuNolockBox::into_inner);
        self.swap(object).map(RcuNolockBox::from)
    }
}

impl<T: HasRcuPtr> Drop for RcuSlot<T> {
    fn drop(&mut self) {
        // ORDERING: The slot is this caller's alone.
        if let Some(object) = NonNull::new(self.object.load(Relaxed)) {
            // SAFETY: By the type invariants, and the slot is gone after this.
            drop(unsafe { RcuBox::from_raw(object) });
        }
    }
}
