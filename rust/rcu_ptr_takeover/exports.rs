// SPDX-License-Identifier: GPL-2.0

//! What C calls where a function of the kernel is redirected.

use crate::{
    redirect,
    sys::{
        generated as sys,
        redirected::{Doomed, HEADLESS, KVFREE, KVFREE_NMI, NOLOCK, NOLOCK_NMI},
    },
};
use kernel::{bindings, prelude::*};

/// Passes an object with a field to the engine, if it is to have it. Returns what to count.
///
/// # Safety
///
/// As for `rcu_ptr_kvfree()`, or `rcu_ptr_kfree_nolock()` if `nolock`; preemption is off.
#[inline(always)]
unsafe fn give(
    head: *mut bindings::kvfree_rcu_head,
    ptr: *mut c_void,
    caller: c_ulong,
    nolock: bool,
    taken: c_uint,
) -> c_int {
    let count = redirect::decide(taken, || {
        // SAFETY: By the safety requirements of this function.
        unsafe {
            if nolock {
                sys::__rcu_ptr_kfree_nolock_for(head.cast(), ptr, caller);
            } else {
                sys::__rcu_ptr_kvfree_for(head.cast(), ptr, caller);
            }
        }
        true
    });
    count as c_int
}

/// An object that a caller gives up; without a field `head` is null.
///
/// # Safety
///
/// `head` and `ptr` are as `kvfree_call_rcu()` gets them; preemption is off.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_takeover_rs_kvfree(
    head: *mut bindings::kvfree_rcu_head,
    ptr: *mut c_void,
    caller: c_ulong,
    nmi: bool,
) -> c_int {
    if head.is_null() {
        // SAFETY: By the safety requirements of this function.
        let insert = || unsafe { sys::__rcu_ptr_try_kfree_nolock(ptr) };
        return redirect::decide(HEADLESS, insert) as c_int;
    }
    let taken = if nmi { KVFREE_NMI } else { KVFREE };
    // SAFETY: By the safety requirements of this function: the contract of kvfree_call_rcu() is
    // that of both, but for NMIs, where nolock is the one.
    unsafe { give(head, ptr, caller, nmi, taken) }
}

/// # Safety
///
/// As above, of `kfree_call_rcu_nolock()`.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_takeover_rs_nolock(
    head: *mut bindings::kvfree_rcu_head,
    ptr: *mut c_void,
    caller: c_ulong,
    nmi: bool,
) -> c_int {
    let taken = if nmi { NOLOCK_NMI } else { NOLOCK };
    // SAFETY: By the safety requirements of this function.
    unsafe { give(head, ptr, caller, true, taken) }
}

/// What `rcu_ptr_takeover_rs_kvfree()` did not take.
///
/// # Safety
///
/// As there; preemption is as the caller has it.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_takeover_rs_kvfree_rest(
    head: *mut bindings::kvfree_rcu_head,
    ptr: *mut c_void,
    caller: c_ulong,
) {
    // SAFETY: By the safety requirements of this function; used only without a head, where the
    // caller may sleep.
    let sleep = || unsafe { sys::__rcu_ptr_kvfree_mightsleep_for(ptr, caller) };
    // SAFETY: By the safety requirements of this function.
    let original = || unsafe { sys::rcu_ptr_takeover_shim_kvfree(head, ptr) };
    redirect::rest(head.is_null().then_some(sleep), original);
}

/// # Safety
///
/// As above, of `kfree_call_rcu_nolock()`.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_takeover_rs_nolock_rest(
    head: *mut bindings::kvfree_rcu_head,
    ptr: *mut c_void,
) {
    // SAFETY: By the safety requirements of this function.
    redirect::rest(None::<fn()>, || unsafe {
        sys::rcu_ptr_takeover_shim_nolock(head, ptr)
    });
}

/// # Safety
///
/// `cache` is as `kmem_cache_destroy()` gets it.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_takeover_rs_destroy(cache: *mut bindings::kmem_cache) {
    // SAFETY: By the safety requirements of this function.
    redirect::destroy(unsafe { Doomed::new(cache) });
}

#[no_mangle]
extern "C" fn rcu_ptr_takeover_rs_module_gone() {
    redirect::module_gone();
}
