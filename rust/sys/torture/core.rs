// SPDX-License-Identifier: GPL-2.0

//! The interface of `rcu_ptr.ko` by address, and the mark of a failure.

use super::{cpu, generated as sys, mem, probe, thread};
use ::core::ptr::NonNull;
use kernel::{bindings, prelude::*};

/// `rcu_ptr_kvfree()` without its checks at compile time.
///
/// # Context
///
/// Any but NMI.
///
/// # Safety
///
/// `object` is live and the caller's to free; `field` is 8 aligned bytes in it, less than 4096 from
/// its start.
pub(crate) unsafe fn kvfree(object: NonNull<u8>, field: *mut u8) {
    // SAFETY: By the safety requirements of this function.
    unsafe { sys::__rcu_ptr_kvfree(field.cast(), object.as_ptr().cast()) };
}

/// `rcu_ptr_kfree_nolock()` without its checks at compile time.
///
/// # Context
///
/// Any, NMI included.
///
/// # Safety
///
/// As for [`kvfree()`].
pub(crate) unsafe fn kfree_nolock(object: NonNull<u8>, field: *mut u8) {
    // SAFETY: By the safety requirements of this function.
    unsafe { sys::__rcu_ptr_kfree_nolock(field.cast(), object.as_ptr().cast()) };
}

/// `rcu_ptr_call()`, or `rcu_ptr_call_sleepable()`, with a callback that frees the object.
///
/// # Context
///
/// Any, NMI included.
///
/// # Safety
///
/// `object` is live, the caller's to free, and starts with 16 bytes that are free for use.
pub(crate) unsafe fn call(object: NonNull<u8>, sleeps: bool) {
    let head = object.as_ptr().cast();
    // SAFETY: By the safety requirements of this function.
    unsafe {
        if sleeps {
            sys::rcu_ptr_call_sleepable(head, Some(sleepable));
        } else {
            sys::rcu_ptr_call(head, Some(callback));
        }
    }
}

/// `rcu_ptr_call_sleepable()` with a callback that sleeps for some grace periods, and then frees the object.
///
/// # Context
///
/// Any, NMI included.
///
/// # Safety
///
/// As for [`call()`].
pub(crate) unsafe fn call_slow(object: NonNull<u8>) {
    // SAFETY: By the safety requirements of this function.
    unsafe { sys::rcu_ptr_call_sleepable(object.as_ptr().cast(), Some(slow)) };
}

/// # Safety
///
/// An object was handed in by [`call_slow()`], and its grace period is over.
unsafe extern "C" fn slow(head: *mut bindings::callback_head) {
    thread::sleep(50);
    // SAFETY: By the safety requirements of this function.
    unsafe { free(head) };
}

/// One callback of so many takes its time, so that whoever has to wait for it shows that.
const SLOW: usize = 32;

fn is_slow(head: *mut bindings::callback_head) -> bool {
    head.addr() >> 6 & (SLOW - 1) == 0
}

/// # Safety
///
/// An object was handed in by [`call()`], and its grace period is over.
unsafe extern "C" fn callback(head: *mut bindings::callback_head) {
    if cpu::context() != cpu::Context::Task || !cpu::is_bh_disabled() {
        misplaced(head, c"rcu_ptr_call");
    }
    if is_slow(head) {
        let began = thread::now();
        while thread::now() - began < 20_000 {}
    }
    // SAFETY: By the safety requirements of this function.
    unsafe { free(head) };
}

/// # Safety
///
/// An object was handed in by [`call()`], and its grace period is over.
unsafe extern "C" fn sleepable(head: *mut bindings::callback_head) {
    if !cpu::may_sleep() {
        misplaced(head, c"rcu_ptr_call_sleepable");
    } else if is_slow(head) {
        thread::sleep_us(100);
    }
    // SAFETY: By the safety requirements of this function.
    unsafe { free(head) };
}

#[cold]
fn misplaced(head: *mut bindings::callback_head, call: &CStr) {
    let what = c"callback in the wrong context";
    failed(what, head.addr(), [c"kmalloc", call, c"any context"], 0);
}

/// # Safety
///
/// As for [`callback()`].
unsafe fn free(head: *mut bindings::callback_head) {
    probe::freed(&[head.expose_provenance()]);
    if let Some(object) = NonNull::new(head.cast()) {
        // SAFETY: By the safety requirements of this function.
        unsafe { mem::kvfree(object) };
    }
}

/// `rcu_ptr_try_kfree_nolock()`.
///
/// # Context
///
/// Any, NMI included.
///
/// # Safety
///
/// `object` is live and the caller's to free; where it returns `false` it is the caller's still.
pub(crate) unsafe fn try_kfree_nolock(object: NonNull<u8>) -> bool {
    // SAFETY: By the safety requirements of this function.
    unsafe { sys::__rcu_ptr_try_kfree_nolock(object.as_ptr().cast()) }
}

/// `rcu_ptr_kvfree_mightsleep()`.
///
/// # Context
///
/// May sleep.
///
/// # Safety
///
/// `object` is live and the caller's to free.
pub(crate) unsafe fn kvfree_mightsleep(object: NonNull<u8>) {
    // SAFETY: By the safety requirements of this function.
    unsafe { sys::__rcu_ptr_kvfree_mightsleep(object.as_ptr().cast()) };
}

/// `rcu_ptr_barrier()`.
///
/// # Context
///
/// May sleep.
pub(crate) fn barrier() {
    // SAFETY: No requirements but the context.
    unsafe { sys::rcu_ptr_barrier() };
}

/// `rcu_ptr_fail_blocks()` and `rcu_ptr_fail_alloc()`: the `nth` allocation from now on and the `times - 1`
/// that follow it fail.
///
/// # Context
///
/// Any.
pub(crate) fn fail(nth: u64, times: u64) {
    // SAFETY: No requirements.
    unsafe {
        sys::rcu_ptr_fail_blocks(nth as c_ulong, times as c_ulong);
        sys::rcu_ptr_fail_alloc(nth as c_ulong, times as c_ulong);
    }
}

/// Says in the log that something went wrong; with a backtrace, the first time.
///
/// # Context
///
/// Any, NMI included.
#[cold]
pub(crate) fn failed(what: &CStr, object: usize, [source, call, context]: [&CStr; 3], age: u64) {
    // SAFETY: All are strings; the shim only prints.
    unsafe {
        sys::rcu_ptr_torture_failed(
            what.as_char_ptr(),
            object as c_ulong,
            source.as_char_ptr(),
            call.as_char_ptr(),
            context.as_char_ptr(),
            age,
        )
    };
}
