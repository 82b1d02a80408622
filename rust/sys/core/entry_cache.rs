// SPDX-License-Identifier: GPL-2.0

//! Where C calls into caches. The hot functions are exported as they are, and jump to shim.c where
//! their caller's address is of use; those that tell an error as a pointer go through there, too.

use super::{generated as sys, preempt::PreemptOff};
use crate::{
    fault,
    sheaf::{
        alloc,
        cache::{Args, Cache},
        destroy,
        free::{self, Freed},
        refill,
        stats::Counts,
        Sheaves,
    },
};
use core::ptr::NonNull;
use kernel::{bindings::gfp_t, prelude::*};

/// The cache behind the pointer that C has.
///
/// # Safety
///
/// `cache` is from `rcu_ptr_cache_create()` and was not destroyed since.
#[inline(always)]
unsafe fn cache<'a>(cache: *mut sys::rcu_ptr_cache) -> &'a Cache {
    // SAFETY: By the safety requirements of this function.
    unsafe { &*cache.cast::<Cache>() }
}

/// `rcu_ptr_cache_create()`, with the result in `out`.
///
/// # Safety
///
/// `name` is a string, `args` null or valid, `out` valid for writes, all for the call.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_rs_cache_create(
    name: *const c_char,
    size: c_uint,
    args: *const sys::rcu_ptr_cache_args,
    flags: c_uint,
    out: *mut *mut sys::rcu_ptr_cache,
) -> c_int {
    if name.is_null() {
        return EINVAL.to_errno();
    }
    // SAFETY: By the safety requirements of this function.
    let (name, args) = unsafe { (CStr::from_char_ptr(name), args.as_ref()) };
    let args = args.map_or(Args::default(), |a| Args {
        align: a.align as usize,
        link_offset: a.use_link_offset.then_some(a.link_offset as usize),
        sheaf_capacity: a.sheaf_capacity as usize,
        barn_limit: a.barn_limit as usize,
    });
    match Cache::create(Sheaves::get(), name, size as usize, args, flags) {
        Ok(cache) => {
            // SAFETY: By the safety requirements of this function.
            unsafe { out.write(cache.as_ptr().cast()) };
            0
        }
        Err(e) => e.to_errno(),
    }
}

/// `rcu_ptr_cache_destroy()`.
///
/// # Safety
///
/// `cache` is null or from `rcu_ptr_cache_create()`, and nobody uses it any more.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_rs_cache_destroy(cache: *mut sys::rcu_ptr_cache, caller: c_ulong) {
    if let Some(cache) = NonNull::new(cache.cast()) {
        // SAFETY: By the safety requirements of this function.
        unsafe { destroy::destroy(Sheaves::get(), cache, caller) };
    }
}

/// `rcu_ptr_cache_alloc()`.
///
/// # Safety
///
/// `cache` is a live cache.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_cache_alloc_call(
    cache_ptr: *mut sys::rcu_ptr_cache,
    gfp: gfp_t,
) -> *mut c_void {
    // SAFETY: By the safety requirements of this function.
    alloc::alloc(unsafe { cache(cache_ptr) }, gfp).cast()
}

/// `rcu_ptr_cache_alloc_nolock()`.
///
/// # Safety
///
/// `cache` is a live cache.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_cache_alloc_nolock(cache_ptr: *mut sys::rcu_ptr_cache) -> *mut c_void {
    // SAFETY: By the safety requirements of this function.
    alloc::alloc_nolock(unsafe { cache(cache_ptr) }).cast()
}

/// `rcu_ptr_cache_free()`.
///
/// # Safety
///
/// `cache` is a live cache; `object` is null or one of its objects, the caller's, and nobody else
/// looks at it.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_cache_free(cache_ptr: *mut sys::rcu_ptr_cache, object: *mut c_void) {
    if let Some(at) = NonNull::new(object.cast()) {
        let pin = PreemptOff::new();
        // SAFETY: By the safety requirements of this function.
        match unsafe { free::free(cache(cache_ptr), at, &pin) } {
            Freed::Taken => (),
            Freed::NoSlot => {
                pin.leave_off();
                // SAFETY: As above; preemption is left off.
                unsafe { sys::rcu_ptr_shim_cache_no_slot(cache_ptr, object) }
            }
            Freed::Twice => {
                pin.leave_off();
                // SAFETY: As above; preemption is left off.
                unsafe { sys::rcu_ptr_shim_cache_twice(cache_ptr, object) }
            }
        }
    }
}

/// `rcu_ptr_cache_free_rcu()`.
///
/// # Safety
///
/// `cache` is a live cache; `object` is null or one of its objects and the caller's.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_cache_free_rcu(
    cache_ptr: *mut sys::rcu_ptr_cache,
    object: *mut c_void,
) {
    if let Some(at) = NonNull::new(object.cast()) {
        let pin = PreemptOff::new();
        // SAFETY: By the safety requirements of this function.
        if unsafe { free::free_rcu(cache(cache_ptr), at, &pin) } {
            return;
        }
        pin.leave_off();
        // SAFETY: As above; preemption is left off.
        unsafe { sys::rcu_ptr_shim_cache_no_slot(cache_ptr, object) }
    }
}

/// The rest of [`rcu_ptr_cache_free()`] and [`rcu_ptr_cache_free_rcu()`] when there was no slot.
///
/// # Safety
///
/// As there, `object` is not null, and preemption was left off.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_rs_cache_no_slot(
    cache_ptr: *mut sys::rcu_ptr_cache,
    object: *mut c_void,
    caller: c_ulong,
) {
    // SAFETY: By the safety requirements of this function.
    let pin = unsafe { PreemptOff::adopt() };
    if let Some(object) = NonNull::new(object.cast()) {
        // SAFETY: By the safety requirements of this function.
        unsafe { free::no_slot(cache(cache_ptr), object, caller, pin) };
    }
}

/// The rest of [`rcu_ptr_cache_free()`] when the object was there already.
///
/// # Safety
///
/// `cache` is a live cache, and preemption was left off.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_rs_cache_twice(
    cache_ptr: *mut sys::rcu_ptr_cache,
    object: *mut c_void,
    caller: c_ulong,
) {
    // SAFETY: By the safety requirements of this function.
    let _pin = unsafe { PreemptOff::adopt() };
    if let Some(object) = NonNull::new(object.cast()) {
        // SAFETY: By the safety requirements of this function.
        free::twice(unsafe { cache(cache_ptr) }, object, caller);
    }
}

/// `rcu_ptr_cache_prefill()`.
///
/// # Safety
///
/// `cache` is a live cache.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_cache_prefill(
    cache_ptr: *mut sys::rcu_ptr_cache,
    objects: c_uint,
    gfp: gfp_t,
) -> c_int {
    // SAFETY: By the safety requirements of this function.
    match refill::prefill(unsafe { cache(cache_ptr) }, objects as usize, gfp) {
        Ok(()) => 0,
        Err(e) => e.to_errno(),
    }
}

/// `rcu_ptr_cache_size()`.
///
/// # Safety
///
/// `cache` is a live cache.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_cache_size(cache_ptr: *const sys::rcu_ptr_cache) -> c_uint {
    // SAFETY: By the safety requirements of this function.
    unsafe { cache(cache_ptr.cast_mut()) }.size as c_uint
}

/// `rcu_ptr_fail_alloc()`.
#[no_mangle]
extern "C" fn rcu_ptr_fail_alloc(nth: c_ulong, times: c_ulong) -> c_ulong {
    fault::CACHES.set(nth as u64, times as u64) as c_ulong
}

/// `rcu_ptr_fail_blocks()`.
#[no_mangle]
extern "C" fn rcu_ptr_fail_blocks(nth: c_ulong, times: c_ulong) -> c_ulong {
    fault::BLOCKS.set(nth as u64, times as u64) as c_ulong
}

/// `rcu_ptr_cache_stats()`.
///
/// # Safety
///
/// `cache` is a live cache, `out` valid for writes.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_cache_stats(
    cache_ptr: *mut sys::rcu_ptr_cache,
    out: *mut sys::rcu_ptr_cache_stats,
) {
    // SAFETY: By the safety requirements of this function.
    let n = Counts::of(unsafe { cache(cache_ptr) });
    let stats = sys::rcu_ptr_cache_stats {
        filled: n.filled,
        emptied: n.emptied,
        missed: n.missed,
        foreign: n.foreign,
        fell_back: n.fell_back,
        obtained: n.obtained,
        returned: n.returned,
        now_full: n.now_full as u64,
        now_empty: n.now_empty as u64,
        now_sheaves: n.now_sheaves,
        now_waiting: n.now_waiting,
        now_alloc: n.now_alloc as u64,
        now_rcu: n.now_rcu as u64,
        now_spare_full: n.now_spare_full as u64,
        now_spare_empty: n.now_spare_empty as u64,
        now_spent: n.now_spent as u64,
        now_closed: n.now_closed as u64,
        now_reuse: n.now_reuse as u64,
        callback_max: n.callback_max,
        freed_twice: n.freed_twice,
        reserve: n.reserve as u64,
    };
    // SAFETY: By the safety requirements of this function.
    unsafe { out.write(stats) };
}
