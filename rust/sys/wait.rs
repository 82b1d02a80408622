// SPDX-License-Identifier: GPL-2.0

//! Waiting for a condition, by the address of a variable (`wait_var_event()`).
//!
//! C header: [`include/linux/wait_bit.h`](srctree/include/linux/wait_bit.h)

use super::generated as sys;
use core::ptr;
use kernel::{bindings, prelude::*};

/// # Safety
///
/// `arg` is the closure of a waiting [`until()`].
unsafe extern "C" fn entry<F: Fn() -> bool>(arg: *mut c_void) -> bool {
    // SAFETY: By the safety requirements of this function.
    unsafe { (*arg.cast::<F>())() }
}

/// Waits until `done` returns `true`. It is called after each [`wake()`] with the same `key`, and
/// once per jiffy, as some contexts cannot wake.
///
/// # Context
///
/// May sleep; `done` may not.
pub(crate) fn until<T, F: Fn() -> bool>(key: &T, done: &F) {
    let key = ptr::from_ref(key).cast_mut().cast();
    let arg = ptr::from_ref(done).cast_mut().cast();
    // SAFETY: Only uses the address of `key`; `entry` fits `arg`, which lives for the call.
    while !unsafe { sys::rcu_ptr_shim_wait_var(key, Some(entry::<F>), arg) } {}
}

/// Wakes the waiters for `key` (`wake_up_var()`). A full barrier precedes the call, after the
/// condition was made true.
///
/// # Context
///
/// Softirq or task.
pub(crate) fn wake<T>(key: &T) {
    // SAFETY: Only uses the address of `key`.
    unsafe { bindings::wake_up_var(ptr::from_ref(key).cast_mut().cast()) };
}
