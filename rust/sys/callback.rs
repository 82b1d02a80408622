// SPDX-License-Identifier: GPL-2.0

//! The callbacks of others: what is done before and after one is called.
//!
//! # Context
//!
//! What calls a callback, or waits for those of others, may sleep, unless it says otherwise.

use super::{
    debug::{self, Misuse},
    generated as sys,
    slab::ObjectFn,
    trace,
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    sync::atomic::{Atomic, Relaxed},
};

/// A callback (`rcu_callback_t`, which is not NULL).
pub(crate) type Func = unsafe extern "C" fn(*mut bindings::callback_head);

/// The word of the callback in a head, which C code may look at.
///
/// # Safety
///
/// A live, aligned `struct rcu_head` is at `head`, and stays while the reference lives.
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
/// A live, aligned `struct rcu_head`, the caller's to give away.
#[inline(always)]
pub(crate) unsafe fn set_func(head: *mut u8, func: Func) {
    // ORDERING: Before the head is published, in the program order of this CPU; see `insert()`.
    // SAFETY: By the safety requirements of this function.
    unsafe { func_of(head) }.store(func as usize, Relaxed);
}

/// Calls the function of the head at `head`, with BH disabled unless it `sleeps`, as an RCU callback
/// for lockdep, and nothing held of ours. `cleared` are the bits of the function that a list has cleared. Returns
/// the function; `None`: there was none, as the head was queued twice.
///
/// # Safety
///
/// The head was queued by `rcu_ptr_call()` or `rcu_ptr_call_sleepable()`, and its grace period is over.
pub(crate) unsafe fn invoke(head: NonNull<u8>, cleared: usize, sleeps: bool) -> Option<usize> {
    // SAFETY: By the safety requirements of this function it is live until its function is called.
    let func = unsafe { func_of(head.as_ptr()) };
    let f = func.load(Relaxed);
    debug::unqueue(head.as_ptr());
    if f == 0 {
        warn_twice(head);
        return None;
    }
    let f = f | cleared;
    trace::invoke(head, f, sleeps);
    // As RCU does: the head shows that it no longer waits.
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

/// A head was queued twice; only the first time counts.
#[cold]
pub(crate) fn warn_twice(head: NonNull<u8>) {
    debug::warn(Misuse::Double, head.as_ptr(), head.as_ptr(), 0);
}

/// Tells lockdep that the caller waits for callbacks.
pub(crate) fn will_wait() {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_shim_call_wait() };
}

/// The address of the task that runs this.
pub(crate) fn this_task() -> usize {
    // SAFETY: No requirements.
    unsafe { bindings::get_current() }.addr()
}

/// A callback waits for callbacks: it is let through, with a warning.
#[cold]
pub(crate) fn warn_waits_for_itself() {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_shim_warn_barrier() };
}

/// Calls the destructor `dtor` with `object`, from C, as its type is that of C (kCFI). lockdep knows it from
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

/// Tells lockdep that the caller waits for destructors.
pub(crate) fn will_wait_for_destructors() {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_shim_dtor_wait() };
}
