// SPDX-License-Identifier: GPL-2.0

//! Where C calls into caches. The hot functions are exported as they are; those that tell their
//! caller's address, or an error as a pointer, go through shim.c.

use super::generated as sys;
use crate::{
    fault,
    sheaf::{
        alloc,
        cache::{Args, Cache},
        destroy, free, refill,
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
    if let Some(object) = NonNull::new(object.cast()) {
        // SAFETY: By the safety requirements of this function.
        unsafe { free::free(cache(cache_ptr), object, 0) };
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
    if let Some(object) = NonNull::new(object.cast()) {
        // SAFETY: By the safety requirements of this function.
        unsafe { free::free_rcu(cache(cache_ptr), object, 0) };
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
    };
    // SAFETY: By the safety requirements of this function.
    unsafe { out.write(stats) };
}
