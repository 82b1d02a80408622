// SPDX-License-Identifier: GPL-2.0

//! The ways to free an object after a grace period.

use crate::sys::core;
use ::core::ptr::NonNull;

/// A way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `rcu_ptr_kvfree()`.
    Kvfree,
    /// `rcu_ptr_kfree_nolock()`.
    Nolock,
    /// `rcu_ptr_kvfree_mightsleep()`.
    Mightsleep,
    /// The kernel's own `kfree_rcu_nolock()`, as control.
    Kernel,
}

impl Route {
    /// Those that do not sleep.
    pub(crate) const ATOMIC: [Route; 2] = [Route::Kvfree, Route::Nolock];

    /// Frees `object`, whose field is `at` bytes from its start.
    ///
    /// # Context
    ///
    /// That of the way.
    ///
    /// # Safety
    ///
    /// `object` is live, the caller's to free, and has 8 aligned bytes there.
    #[inline]
    pub(crate) unsafe fn free(self, object: NonNull<u8>, at: usize) {
        let start = object.as_ptr();
        // SAFETY: By the safety requirements of this function.
        unsafe {
            match self {
                Route::Kvfree => core::kvfree(start, start.add(at)),
                Route::Nolock => core::kfree_nolock(start, start.add(at)),
                Route::Kernel => core::kernel_kfree_nolock(start, start.add(at)),
                Route::Mightsleep => core::kvfree_mightsleep(object),
            }
        }
    }
}
