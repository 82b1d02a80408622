// SPDX-License-Identifier: GPL-2.0

//! The functions that free an object after a grace period.

use crate::{
    callback,
    sys::{alloc::RawCache, core, core_test},
};
use ::core::ptr::NonNull;

/// A function that frees an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FreeFn {
    /// `rcu_ptr_kvfree()`.
    Kvfree,
    /// `rcu_ptr_kfree_nolock()`.
    Nolock,
    /// `rcu_ptr_kvfree_mightsleep()`.
    Mightsleep,
    /// `rcu_ptr_call()`, with a callback that frees the object.
    Call,
    /// `rcu_ptr_call_sleepable()`, with a callback that frees the object.
    CallSleepable,
    /// The kernel's `kfree_rcu_nolock()`, for comparison.
    Kernel,
}

impl FreeFn {
    /// Functions that free without a callback and don't sleep.
    pub(crate) const FREES: [FreeFn; 2] = [FreeFn::Kvfree, FreeFn::Nolock];

    /// Functions that free by a callback.
    pub(crate) const CALLS: [FreeFn; 2] = [FreeFn::Call, FreeFn::CallSleepable];

    /// Functions that don't sleep, without the sleepable callback.
    pub(crate) const ATOMIC: [FreeFn; 3] = [FreeFn::Kvfree, FreeFn::Nolock, FreeFn::Call];

    /// Frees `object`, whose field is at offset `at`; for a callback that is 0, 8 or 16.
    ///
    /// # Context
    ///
    /// That of the function.
    ///
    /// # Safety
    ///
    /// `object` is live and owned by the caller, and has 8 aligned bytes at `at`, 16 for a
    /// callback.
    #[inline]
    pub(crate) unsafe fn free(self, object: NonNull<u8>, at: usize) {
        let start = object.as_ptr();
        // SAFETY: By the safety requirements of this function.
        unsafe {
            match self {
                FreeFn::Kvfree => core::kvfree(start, start.add(at)),
                FreeFn::Nolock => core::kfree_nolock(start, start.add(at)),
                FreeFn::Kernel => core_test::kernel_kfree_nolock(start, start.add(at)),
                FreeFn::Mightsleep => core::kvfree_mightsleep(object),
                FreeFn::Call => core::call(start.add(at), false, callback::free_at(at, false)),
                FreeFn::CallSleepable => {
                    core::call(start.add(at), true, callback::free_at(at, true));
                }
            }
        }
    }

    /// Allocates `n` objects of `cache`, of at least 16 bytes, and frees them with their field at
    /// offset 8. Returns how many there were.
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
