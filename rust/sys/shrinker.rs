// SPDX-License-Identifier: GPL-2.0

//! Shrinkers: callbacks by which memory reclaim frees memory of caches.
//!
//! C header: [`include/linux/shrinker.h`](srctree/include/linux/shrinker.h)

use core::{marker::PhantomData, ptr::NonNull};
use kernel::{bindings, prelude::*};

/// Callbacks of a shrinker. Both run in process context, possibly in direct reclaim: they neither
/// allocate nor take a lock that is held during an allocation.
pub(crate) trait Shrink {
    /// The number of items that can be freed.
    fn count() -> usize;
    /// Frees about `goal` items. Returns the number of freed items.
    fn scan(goal: usize) -> usize;
}

/// A registered shrinker, unregistered on drop.
///
/// # Invariants
///
/// The pointer is a registered shrinker.
pub(crate) struct Shrinker<S>(NonNull<bindings::shrinker>, PhantomData<S>);

// SAFETY: A shrinker belongs to no task; `S` has no value.
unsafe impl<S> Send for Shrinker<S> {}
// SAFETY: As above; nothing can be done with a reference.
unsafe impl<S> Sync for Shrinker<S> {}

/// `SHRINK_EMPTY` and `SHRINK_STOP` are casts in C, so bindgen leaves them out.
const SHRINK_EMPTY: c_ulong = !0 - 1;
const SHRINK_STOP: c_ulong = !0;

extern "C" fn count<S: Shrink>(
    _: *mut bindings::shrinker,
    _: *mut bindings::shrink_control,
) -> c_ulong {
    match S::count() {
        0 => SHRINK_EMPTY,
        n => n as c_ulong,
    }
}

/// # Safety
///
/// `sc` is valid: the contract of `struct shrinker`.
unsafe extern "C" fn scan<S: Shrink>(
    _: *mut bindings::shrinker,
    sc: *mut bindings::shrink_control,
) -> c_ulong {
    // SAFETY: By the safety requirements of this function.
    match S::scan(unsafe { (*sc).nr_to_scan }) {
        0 => SHRINK_STOP,
        n => n as c_ulong,
    }
}

impl<S: Shrink> Shrinker<S> {
    /// Registers a shrinker called `name`.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn register(name: &'static CStr) -> Result<Self> {
        // SAFETY: The format takes the one string that follows.
        let raw = unsafe { bindings::shrinker_alloc(0, c"%s".as_char_ptr(), name.as_char_ptr()) };
        let shrinker = NonNull::new(raw).ok_or(ENOMEM)?;
        // SAFETY: Not registered yet, so not shared.
        unsafe {
            (*raw).count_objects = Some(count::<S>);
            (*raw).scan_objects = Some(scan::<S>);
            bindings::shrinker_register(raw);
        }
        // INVARIANT: Registered just now.
        Ok(Self(shrinker, PhantomData))
    }
}

impl<S> Drop for Shrinker<S> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; waits for running calls.
        unsafe { bindings::shrinker_free(self.0.as_ptr()) };
    }
}
