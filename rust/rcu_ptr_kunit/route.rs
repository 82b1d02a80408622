// SPDX-License-Identifier: GPL-2.0

//! The ways to free an object after a grace period.

use crate::{
    callback,
    sys::{alloc::RawCache, core, core_test},
};
use ::core::ptr::NonNull;

/// A call that frees an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `rcu_ptr_kvfree()`.
    Kvfree,
    /// `rcu_ptr_kfree_nolock()`.
    Nolock,
    /// `rcu_ptr_kvfree_mightsleep()`.
    Mightsleep,
    /// `rcu_ptr_call()`, with a callback that frees the object.
    Call,
    /// `rcu_ptr_call_sleepable()`, the same.
    CallSleepable,
    /// The kernel's own `kfree_rcu_nolock()`, as control.
    Kernel,
}

impl Route {
    /// Those that free, and do not sleep.
    pub(crate) const FREES: [Route; 2] = [Route::Kvfree, Route::Nolock];

    /// Those that have a callback called.
    pub(crate) const CALLS: [Route; 2] = [Route::Call, Route::CallSleepable];

    /// Those that do not sleep.
    pub(crate) const ATOMIC: [Route; 3] = [Route::Kvfree, Route::Nolock, Route::Call];

    /// Frees `object`, whose field is `at` bytes from its start: with a call 0, 8 or 16, and of 16 bytes.
    ///
    /// # Context
    ///
    /// That of the way.
    ///
    /// # Safety
    ///
    /// `object` is live, the caller's to free, and has 8 aligned bytes there, 16 with a call.
    #[inline]
    pub(crate) unsafe fn free(self, object: NonNull<u8>, at: usize) {
        let start = object.as_ptr();
        // SAFETY: By the safety requirements of this function.
        unsafe {
            match self {
                Route::Kvfree => core::kvfree(start, start.add(at)),
                Route::Nolock => core::kfree_nolock(start, start.add(at)),
                Route::Kernel => core_test::kernel_kfree_nolock(start, start.add(at)),
                Route::Mightsleep => core::kvfree_mightsleep(object),
                Route::Call => core::call(start.add(at), false, callback::free_at(at, false)),
                Route::CallSleepable => {
                    core::call(start.add(at), true, callback::free_at(at, true));
                }
            }
        }
    }

    /// Allocates `n` objects of `cache`, of 16 bytes at least, and frees each with its field at 8. Returns how many
    /// there were.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn free_new(self, cache: &RawCache, n: usize) -> usize {
        (0..n)
            .map_while(|_| cache.alloc())
            // SAFETY: Just allocated.
            .map(|object| unsafe { self.free(object, 8) })
            .count()
    }
}
