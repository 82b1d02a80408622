// SPDX-License-Identifier: GPL-2.0

//! Calling the callbacks of users, and the destructors of their caches.
//!
//! # Context
//!
//! A task that may sleep, unless a function says otherwise.

use super::{
    debug::{self, Misuse},
    generated::{self as sys, ObjectFn},
    trace,
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    sync::atomic::{Atomic, Relaxed},
};

/// A callback.
pub(crate) type Func = sys::Func;

/// The function pointer of a head, which C code may read.
///
/// # Safety
///
/// `head` is a live, aligned `struct rcu_head` as long as the reference.
#[inline(always)]
unsafe fn func_of<'a>(head: *mut u8) -> &'a Atomic<usize> {
    let head = head.cast::<bindings::callback_head>();
    // SAFETY: By the safety requirements of this function; other accesses are atomic as well.
    unsafe { Atomic::from_ptr((&raw mut (*head).func).cast()) }
}

/// Stores `func` in the head at `head`.
///
/// # Context
///
/// Any, NMI included.
///
/// # Safety
///
/// `head` is a live, aligned `struct rcu_head` that the caller owns.
#[inline(always)]
pub(crate) unsafe fn set_func(head: *mut u8, func: Func) {
    // ORDERING: Precedes the publication of the head in program order; see `insert()`.
    // SAFETY: By the safety requirements of this function.
    unsafe { func_of(head) }.store(func as usize, Relaxed);
}

/// Calls the function of the head at `head` with none of our locks held: with BH disabled and, for
/// lockdep, as an RCU callback; or, if it `sleeps`, in process context. `cleared` are the bits of
/// the function that a list has cleared. Returns the function, or `None` if the head was queued
/// twice.
///
/// # Safety
///
/// The head was queued by `rcu_ptr_call()` or `rcu_ptr_call_sleepable()`, and its grace period is
/// over.
pub(crate) unsafe fn invoke(head: NonNull<u8>, cleared: usize, sleeps: bool) -> Option<usize> {
    // SAFETY: By the safety requirements of this function, live until its function is called.
    let func = unsafe { func_of(head.as_ptr()) };
    let f = func.load(Relaxed);
    debug::unqueue(head.as_ptr());
    if f == 0 {
        warn_twice(head);
        return None;
    }
    let f = f | cleared;
    trace::invoke(head, f, sleeps);
    // As RCU does: a head that is not queued has no function.
    func.store(0, Relaxed);
    let at = f;
    // SAFETY: `set_func()` stored it.
    let f = unsafe { core::mem::transmute::<usize, bindings::rcu_callback_t>(f) };
    let invoke = if sleeps {
        sys::rcu_ptr_shim_invoke_sleepable
    } else {
        sys::rcu_ptr_shim_invoke
    };
    // SAFETY: By the safety requirements of this function; nothing touches the head after the call.
    unsafe { invoke(head.as_ptr().cast(), f) };
    Some(at)
}

/// Warns that a head was queued twice; its function is called once.
#[cold]
pub(crate) fn warn_twice(head: NonNull<u8>) {
    debug::warn(Misuse::Double, head.as_ptr(), head.as_ptr(), 0);
}

/// Annotates for lockdep that the caller waits for callbacks.
pub(crate) fn will_wait() {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_shim_call_wait() };
}

/// Warns that a callback called rcu_ptr_barrier(), which then does not wait for callbacks.
#[cold]
pub(crate) fn warn_waits_for_itself() {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_shim_warn_barrier() };
}

/// Calls the destructor `dtor` with `object`; from C, for kCFI. Lockdep checks it against
/// [`will_wait_for_destructors()`].
///
/// # Context
///
/// That of `dtor`.
///
/// # Safety
///
/// `dtor` may be called with `object`.
pub(crate) unsafe fn destruct(dtor: ObjectFn, object: *mut u8) {
    // SAFETY: By the safety requirements of this function.
    unsafe { sys::rcu_ptr_shim_destruct(Some(dtor), object.cast()) };
}

/// Annotates for lockdep that the caller waits for destructors.
pub(crate) fn will_wait_for_destructors() {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_shim_dtor_wait() };
}
