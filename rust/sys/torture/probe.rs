// SPDX-License-Identifier: GPL-2.0

//! What `rcu_ptr.ko` frees: a probe on its tracepoint `rcu_ptr_free`, which comes right before objects go
//! back to their allocators.

use super::generated as sys;
use ::core::ptr;
use kernel::{
    error::to_result,
    prelude::*,
    sync::atomic::{Acquire, Atomic, Full},
};

/// What looks at the addresses of objects that are about to be freed.
type Body<'a> = dyn Fn(&[usize]) + Sync + 'a;

static BODY: Atomic<*mut c_void> = Atomic::new(ptr::null_mut());

/// Calls `f`, and meanwhile `body` for all that is freed. One caller at a time.
///
/// # Context
///
/// May sleep; `body` runs wherever objects are freed, in a task or a softirq.
///
/// # Errors
///
/// `ENOMEM`.
pub(crate) fn during<R>(body: &Body<'_>, f: impl FnOnce() -> R) -> Result<R> {
    let mut wide = body;
    // ORDERING: Full: what the body refers to is there before the probe finds it.
    BODY.xchg((&raw mut wide).cast(), Full);
    // SAFETY: The probe stays until it is taken off below.
    let registered = to_result(unsafe { sys::rcu_ptr_torture_probe_register() });
    let ret = registered.map(|()| {
        let ret = f();
        // SAFETY: Registered above; waits until the probe runs nowhere any more.
        unsafe { sys::rcu_ptr_torture_probe_unregister() };
        ret
    });
    // ORDERING: Full; no probe runs any more.
    BODY.xchg(ptr::null_mut(), Full);
    ret
}

/// Called by shim.c in the probe.
///
/// # Safety
///
/// There are `count` pointers at `objects`.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_torture_rs_free(objects: *mut *mut c_void, count: c_ulong) {
    // SAFETY: By the safety requirements of this function; pointers are read as addresses.
    freed(unsafe { ::core::slice::from_raw_parts(objects.cast(), count) });
}

/// The same for objects that the caller of this frees right after it.
///
/// # Context
///
/// As for the body of [`during()`], which has not returned.
pub(super) fn freed(objects: &[usize]) {
    // ORDERING: Pairs with the exchange in `during()`.
    let body = BODY.load(Acquire).cast::<&Body<'_>>();
    if !body.is_null() {
        // SAFETY: `during()` keeps both until no probe runs, and its callers wait for callbacks.
        unsafe { (*body)(objects) };
    }
}
