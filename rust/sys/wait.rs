// SPDX-License-Identifier: GPL-2.0

//! To wait for a condition, woken by the address of a variable.
//!
//! C header: [`include/linux/wait_bit.h`](srctree/include/linux/wait_bit.h)

use super::generated as sys;
use core::ptr;
use kernel::{bindings, prelude::*};

/// # Safety
///
/// `arg` is the closure of a [`until()`] that waits.
unsafe extern "C" fn entry<F: Fn() -> bool>(arg: *mut c_void) -> bool {
    // SAFETY: By the safety requirements of this function.
    unsafe { (*arg.cast::<F>())() }
}

/// Waits until `done` returns `true`; it is called whenever [`wake()`] is called with the same
/// `key`, and once per jiffy: not every context can wake.
///
/// # Context
///
/// May sleep; `done` may not.
pub(crate) fn until<T, F: Fn() -> bool>(key: &T, done: &F) {
    let key = ptr::from_ref(key).cast_mut().cast();
    let arg = ptr::from_ref(done).cast_mut().cast();
    // SAFETY: `key` is only looked at as an address; `entry` fits `arg`, which lives for the call.
    while !unsafe { sys::rcu_ptr_shim_wait_var(key, Some(entry::<F>), arg) } {}
}

/// Wakes the waiters for `key` (`wake_up_var()`). The condition was made true before, by a full
/// barrier.
///
/// # Context
///
/// Softirq or task.
pub(crate) fn wake<T>(key: &T) {
    // SAFETY: `key` is only looked at as an address.
    unsafe { bindings::wake_up_var(ptr::from_ref(key).cast_mut().cast()) };
}
