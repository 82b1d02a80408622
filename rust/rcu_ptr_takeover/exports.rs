// SPDX-License-Identifier: GPL-2.0

//! What C calls where a function of the kernel is redirected.

use crate::{
    redirect,
    sys::{
        generated as sys,
        redirected::{DyingCache, HEADLESS, KVFREE, KVFREE_NMI, NOLOCK, NOLOCK_NMI},
    },
};
use kernel::{bindings, prelude::*};

/// Passes an object to the engine unless the kernel has to free it. Returns what to count.
///
/// # Safety
///
/// `head` and `ptr` are as `kvfree_call_rcu()` gets them, or `kfree_call_rcu_nolock()` if `nolock`;
/// preemption is off.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_takeover_rs_call(
    head: *mut bindings::kvfree_rcu_head,
    ptr: *mut c_void,
    caller: c_ulong,
    nolock: bool,
    nmi: bool,
) -> c_int {
    let taken = match (nolock, nmi) {
        _ if head.is_null() => HEADLESS,
        (false, false) => KVFREE,
        (false, true) => KVFREE_NMI,
        (true, false) => NOLOCK,
        (true, true) => NOLOCK_NMI,
    };
    let insert = || {
        // SAFETY: By the safety requirements of this function: the contract of kvfree_call_rcu() is
        // that of all three, but for NMIs, where nolock is the one.
        unsafe {
            if head.is_null() {
                return sys::__rcu_ptr_try_kfree_nolock(ptr);
            }
            if nolock || nmi {
                sys::__rcu_ptr_kfree_nolock_for(head.cast(), ptr, caller);
            } else {
                sys::__rcu_ptr_kvfree_for(head.cast(), ptr, caller);
            }
        }
        true
    };
    redirect::decide(taken, insert) as c_int
}

/// What `rcu_ptr_takeover_rs_call()` did not take.
///
/// # Safety
///
/// As there; preemption is as the caller has it.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_takeover_rs_rest(
    head: *mut bindings::kvfree_rcu_head,
    ptr: *mut c_void,
    caller: c_ulong,
    nolock: bool,
) {
    // SAFETY: By the safety requirements of this function; used only without a head, where the
    // caller may sleep.
    let sleep = || unsafe { sys::__rcu_ptr_kvfree_mightsleep_for(ptr, caller) };
    // SAFETY: By the safety requirements of this function.
    let original = || unsafe { sys::rcu_ptr_takeover_shim_original(head, ptr, nolock) };
    redirect::rest(head.is_null().then_some(sleep), original);
}

/// # Safety
///
/// `cache` is as `kmem_cache_destroy()` gets it.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_takeover_rs_destroy(cache: *mut bindings::kmem_cache) {
    // SAFETY: By the safety requirements of this function.
    redirect::destroy(unsafe { DyingCache::new(cache) });
}

#[no_mangle]
extern "C" fn rcu_ptr_takeover_rs_module_gone() {
    redirect::module_gone();
}
