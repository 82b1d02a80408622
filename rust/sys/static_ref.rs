// SPDX-License-Identifier: GPL-2.0

//! A reference in a static, for C callbacks that get no argument.
//!
//! # Context
//!
//! Any, NMI included.

use core::ptr::{self, NonNull};
use kernel::sync::atomic::{Acquire, Atomic, Full};

/// A reference to a `T`, or nothing.
pub(crate) struct StaticRef<T>(Atomic<*mut T>);

impl<T> StaticRef<T> {
    /// No reference.
    pub(crate) const fn new() -> Self {
        Self(Atomic::new(ptr::null_mut()))
    }

    /// Makes `value` visible to callbacks.
    pub(crate) fn set(&self, value: *const T) {
        // ORDERING: Full: the value is initialised before a callback finds it; pairs with `get()`.
        self.0.xchg(value.cast_mut(), Full);
    }

    /// Hides the value from callbacks that start later.
    pub(crate) fn clear(&self) {
        // ORDERING: Full: a grace period that the caller waits for next starts after this.
        self.0.xchg(ptr::null_mut(), Full);
    }

    /// The value, if there is one.
    ///
    /// # Safety
    ///
    /// What [`Self::set()`] stored stays valid until the caller has returned from its use.
    pub(crate) unsafe fn get<'a>(&self) -> Option<&'a T> {
        // ORDERING: Acquire pairs with the exchange in `set()`.
        let value = NonNull::new(self.0.load(Acquire));
        // SAFETY: By the safety requirements of this function.
        value.map(|value| unsafe { value.as_ref() })
    }
}
