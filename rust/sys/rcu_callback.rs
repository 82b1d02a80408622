// SPDX-License-Identifier: GPL-2.0

//! call_rcu(): a function that runs after a grace period.

use super::generated as sys;
use core::{cell::UnsafeCell, ptr::NonNull};
use kernel::bindings;

/// Room for a `struct rcu_head`.
pub(crate) type RcuHead = UnsafeCell<[usize; 2]>;

const _: () = assert!(size_of::<RcuHead>() == size_of::<bindings::callback_head>());

/// What runs.
pub(crate) trait Callback {
    /// Runs in softirq, or in a thread with softirqs off; on any CPU.
    ///
    /// # Safety
    ///
    /// `head` was handed over with this type, and a grace period has passed since.
    unsafe fn run(head: NonNull<RcuHead>);
}

/// # Safety
///
/// As for [`Callback::run()`].
pub(super) unsafe extern "C" fn entry<C: Callback>(head: *mut bindings::callback_head) {
    if let Some(head) = NonNull::new(head.cast()) {
        // SAFETY: By the safety requirements of this function.
        unsafe { C::run(head) };
    }
}

/// Lets `C` run after a grace period that starts from now on (`call_rcu_hurry()`: with
/// CONFIG_RCU_LAZY a call_rcu() may wait for ten seconds before it asks for one).
///
/// # Context
///
/// Any but NMI; the interrupted context may not be inside RCU, so interrupts were on.
///
/// # Safety
///
/// `head` is not accessed otherwise until then, and lives as long.
pub(crate) unsafe fn call<C: Callback>(head: NonNull<RcuHead>) {
    // SAFETY: By the safety requirements of this function; the size was checked above.
    unsafe { sys::rcu_ptr_shim_call_rcu(head.as_ptr().cast(), Some(entry::<C>)) };
}

/// Waits until every callback handed over so far has returned, those of others too
/// (`rcu_barrier()`).
///
/// # Context
///
/// May sleep.
pub(crate) fn barrier() {
    // SAFETY: The callers are in process context, as the doc asks.
    unsafe { bindings::rcu_barrier() };
}
