// SPDX-License-Identifier: GPL-2.0

//! For rcu_ptr_torture.ko: a probe on the tracepoint `rcu_ptr_free`, right before objects are freed
//! to their allocators; callbacks and destructors; and the line that reports a failure.
//!
//! # Context
//!
//! Any, NMI included, unless a function says otherwise.

use super::{
    alloc, core, cpu, generated as sys,
    static_ref::StaticRef,
    thread,
    tracepoint::{Probes, Tracepoint},
};
use ::core::ptr::NonNull;
use kernel::prelude::*;

/// Called with the addresses of objects that are about to be freed.
type Body<'a> = dyn Fn(&[usize]) + Sync + 'a;

static BODY: StaticRef<&Body<'_>> = StaticRef::new();

/// Calls `f`, and meanwhile `body` for all objects that are freed. One caller at a time.
///
/// # Context
///
/// May sleep; `body` runs wherever objects are freed, in a task or a softirq.
pub(crate) fn with_probe<R>(body: &Body<'_>, f: impl FnOnce() -> R) -> Result<R> {
    BODY.set((&raw const body).cast());
    // SAFETY: Of `rcu_ptr.ko`, which this module depends on.
    let tracepoint = unsafe { Tracepoint::new(&raw mut sys::__tracepoint_rcu_ptr_free) };
    // SAFETY: The probe has its prototype.
    let probes = unsafe { Probes::register([(tracepoint, probe as *mut c_void)]) };
    let ret = probes.map(|probes| {
        let ret = f();
        drop(probes);
        ret
    });
    BODY.clear();
    ret
}

/// # Safety
///
/// There are `count` pointers at `objects`.
unsafe extern "C" fn probe(_data: *mut c_void, objects: *mut *mut c_void, count: c_ulong) {
    // SAFETY: By the safety requirements of this function; pointers are read as addresses.
    freed(unsafe { ::core::slice::from_raw_parts(objects.cast(), count) });
}

/// Reports objects that the caller frees right after this.
///
/// # Context
///
/// As for the body of [`with_probe()`], which has not returned.
pub(super) fn freed(objects: &[usize]) {
    // SAFETY: `with_probe()` keeps it until no probe runs, and its callers wait for callbacks.
    if let Some(body) = unsafe { BODY.get() } {
        body(objects);
    }
}

/// `rcu_ptr_call()`, or `rcu_ptr_call_sleepable()`, with a callback that frees the object.
///
/// # Safety
///
/// `object` is live, owned by the caller, and starts with 16 bytes for the `struct rcu_head`.
pub(crate) unsafe fn call_to_free(object: NonNull<u8>, sleeps: bool) {
    // SAFETY: By the safety requirements of this function.
    unsafe {
        let func: core::Func = if sleeps { sleepable } else { callback };
        core::call(object.as_ptr(), sleeps, func);
    }
}

/// `rcu_ptr_call_sleepable()` with a callback that sleeps for some grace periods, and then frees
/// the object.
///
/// # Safety
///
/// As for [`call_to_free()`].
pub(crate) unsafe fn call_slow(object: NonNull<u8>) {
    // SAFETY: By the safety requirements of this function.
    unsafe { core::call(object.as_ptr(), true, slow as core::Func) };
}

/// # Safety
///
/// `head` was queued by [`call_slow()`], and its grace period has ended.
unsafe extern "C" fn slow(head: *mut core::Head) {
    thread::sleep(50);
    // SAFETY: By the safety requirements of this function.
    unsafe { free(head) };
}

/// Every 32nd callback is slow, so that waiting for it is observable.
const SLOW: usize = 32;

fn is_slow(head: *mut core::Head) -> bool {
    head.addr() >> 6 & (SLOW - 1) == 0
}

/// # Safety
///
/// `head` was queued by [`call_to_free()`], and its grace period has ended.
unsafe extern "C" fn callback(head: *mut core::Head) {
    if cpu::context() != cpu::Context::Task || !cpu::is_bh_off() {
        misplaced(head, c"rcu_ptr_call");
    }
    if is_slow(head) {
        let began = thread::now_in_nmi();
        while thread::now_in_nmi() - began < 20_000 {}
    }
    // SAFETY: By the safety requirements of this function.
    unsafe { free(head) };
}

/// # Safety
///
/// `head` was queued by [`call_to_free()`], and its grace period has ended.
unsafe extern "C" fn sleepable(head: *mut core::Head) {
    if !cpu::may_sleep() {
        misplaced(head, c"rcu_ptr_call_sleepable");
    } else if is_slow(head) {
        thread::sleep_us(100);
    }
    // SAFETY: By the safety requirements of this function.
    unsafe { free(head) };
}

#[cold]
fn misplaced(head: *mut core::Head, call: &CStr) {
    let what = c"callback in the wrong context";
    failed(what, head.addr(), [c"kmalloc", call, c"any context"], 0);
}

/// # Safety
///
/// As for [`callback()`].
unsafe fn free(head: *mut core::Head) {
    freed(&[head.expose_provenance()]);
    if let Some(object) = NonNull::new(head.cast()) {
        // SAFETY: By the safety requirements of this function.
        unsafe { alloc::kvfree(object) };
    }
}

/// Called with the address of each object whose destructor runs.
type Destroyed<'a> = dyn Fn(usize) + Sync + 'a;

static DESTROYED: StaticRef<&Destroyed<'_>> = StaticRef::new();

/// Calls `f`, and meanwhile `body` for each object that is destructed. `f` destroys all caches that
/// use [`destructed()`]. One caller at a time.
///
/// # Context
///
/// May sleep; `body` runs in a task.
pub(crate) fn with_destructor_probe<R>(body: &Destroyed<'_>, f: impl FnOnce() -> R) -> R {
    DESTROYED.set((&raw const body).cast());
    let ret = f();
    DESTROYED.clear();
    ret
}

/// # Safety
///
/// A cache with a destructor calls it, in [`with_destructor_probe()`].
pub(crate) unsafe extern "C" fn destructed(object: *mut c_void) {
    // SAFETY: `with_destructor_probe()` keeps it until its caches are destroyed.
    if let Some(body) = unsafe { DESTROYED.get() } {
        body(object.expose_provenance());
    }
}

/// Logs a failure; the first one with a backtrace.
#[cold]
pub(crate) fn failed(what: &CStr, object: usize, [source, call, context]: [&CStr; 3], age: u64) {
    let [what, source, call, context] = [what, source, call, context].map(CStr::as_char_ptr);
    // SAFETY: All are strings; the shim only prints.
    unsafe { sys::rcu_ptr_torture_failed(what, object, source, call, context, age) };
}
