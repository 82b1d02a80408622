// SPDX-License-Identifier: GPL-2.0

//! All functions that C calls: those behind include/linux/rcu_ptr.h, the parameters, and the module
//! notifier. Converts C's arguments to Rust types.
//!
//! Hot functions are exported as they are, and contain the fast path. Where it does not apply they
//! end in a tail call to shim.c, where the caller's address is known, which calls a function
//! `rcu_ptr_rs_*` of this file. The contract of a function is that of include/linux/rcu_ptr.h:
//! objects and heads are live and the caller's to give away, fields lie in their objects.
//!
//! ```text
//!  rcu_ptr_kvfree(p, field)          macro of rcu_ptr.h: checks type and offset of the field
//!   __rcu_ptr_kvfree()               fast path of engine lockless: store_in_current()
//!    |
//!    +-- no free slot
//!    |   rcu_ptr_shim_kvfree_no_slot()    shim.c: the caller's address
//!    |    rcu_ptr_rs_kvfree_no_slot()     store_or_link() of lockless/mod.rs
//!    |
//!    +-- engine rfc, misuse, or the event rcu_ptr_queue is on
//!        rcu_ptr_shim_kvfree()            shim.c: the caller's address
//!         rcu_ptr_rs_kvfree()             kvfree() of api.rs: misused objects are leaked
//!          Engine::queue()
//! ```

#[cfg(RCU_PTR_TEST)]
use crate::fault;
use crate::{
    api,
    entry::Call,
    list::Linked,
    lockless::{self, Kind},
    params,
    sheaves::{
        alloc,
        cache::{Args, Cache},
        destroy,
        fastpath::Freed,
        limits::Limits,
        refill,
        stats::counts,
        Sheaves,
    },
    sys::{
        callback, current_block, debug, generated as sys, gp, module::Going, preempt::PreemptOff,
        srcu::Domain, trace,
    },
    unload,
};
use core::ptr::NonNull;
use kernel::{
    bindings::{self, callback_head, gfp_t, rcu_callback_t},
    error::from_result,
    prelude::*,
};

/// Whether the exported functions may use the fast path: the engine is `lockless`, and the trace
/// event of queued objects is off.
#[inline(always)]
fn fast_path_enabled() -> bool {
    current_block::is_lockless() && !trace::queue_is_on()
}

/// Stores an object in this CPU's block, if the fast path is `enabled` and the object passes the
/// check. Otherwise ends in `no_slot`, with preemption disabled, where there is no free slot, or in
/// `other`.
#[inline(always)]
fn free_fast_path(
    field: *mut c_void,
    ptr: *mut c_void,
    enabled: bool,
    no_slot: impl FnOnce(),
    other: impl FnOnce(),
) {
    if enabled && api::is_sound(ptr.cast(), field.cast()) {
        let on = PreemptOff::new();
        if lockless::store_in_current(ptr.expose_provenance(), Kind::Free, &on) {
            return;
        }
        on.into_raw();
        return no_slot();
    }
    other()
}

/// `rcu_ptr_kvfree()`, exported by shim.c.
///
/// The calls to C are tail calls, so that `_RET_IP_` there is this function's caller: nothing may
/// follow them. The fast path calls nothing.
#[no_mangle]
extern "C" fn __rcu_ptr_kvfree(field: *mut c_void, ptr: *mut c_void) {
    free_fast_path(
        field,
        ptr,
        fast_path_enabled() && !debug::HOOKS,
        // SAFETY: The contract of this function; preemption stays disabled for it.
        || unsafe { sys::rcu_ptr_shim_kvfree_no_slot(field, ptr) },
        // SAFETY: The contract of this function.
        || unsafe { sys::rcu_ptr_shim_kvfree(field, ptr) },
    );
}

/// `rcu_ptr_kfree_nolock()`, exported by shim.c, with tail calls as [`__rcu_ptr_kvfree()`].
#[no_mangle]
extern "C" fn __rcu_ptr_kfree_nolock(field: *mut c_void, ptr: *mut c_void) {
    free_fast_path(
        field,
        ptr,
        fast_path_enabled(),
        // SAFETY: The contract of this function; preemption stays disabled for it.
        || unsafe { sys::rcu_ptr_shim_kvfree_no_slot(field, ptr) },
        // SAFETY: The contract of this function.
        || unsafe { sys::rcu_ptr_shim_kfree_nolock(field, ptr) },
    );
}

/// `rcu_ptr_try_kfree_nolock()`, exported by shim.c.
#[no_mangle]
extern "C" fn __rcu_ptr_try_kfree_nolock(ptr: *mut c_void) -> bool {
    if fast_path_enabled() && api::is_sound(ptr.cast(), ptr.cast()) {
        let on = PreemptOff::new();
        return lockless::store_in_current(ptr.expose_provenance(), Kind::Free, &on)
            || try_kfree_nolock_no_slot(ptr, on);
    }
    // SAFETY: The contract of this function.
    unsafe { sys::rcu_ptr_shim_try_kfree_nolock(ptr) }
}

/// Continues [`__rcu_ptr_try_kfree_nolock()`] where there was no free slot.
#[cold]
#[inline(never)]
fn try_kfree_nolock_no_slot(object: *mut c_void, on: PreemptOff) -> bool {
    lockless::store_in_next(object.expose_provenance(), None, &on)
}

/// `rcu_ptr_call()`, exported by shim.c.
#[no_mangle]
extern "C" fn rcu_ptr_call(head: *mut callback_head, func: rcu_callback_t) {
    call(head, func, false);
}

/// `rcu_ptr_call_sleepable()`, exported by shim.c.
#[no_mangle]
extern "C" fn rcu_ptr_call_sleepable(head: *mut callback_head, func: rcu_callback_t) {
    call(head, func, true);
}

/// Marks `b` as nearly always true, so that each test becomes one short branch.
#[inline(always)]
fn likely(b: bool) -> bool {
    #[cold]
    #[inline(always)]
    fn cold() {}

    if !b {
        cold();
    }
    b
}

#[inline(always)]
fn call(head: *mut callback_head, func: rcu_callback_t, sleeps: bool) {
    if fast_path_enabled() && !debug::OBJECTS && likely(api::is_sound_head(head.cast())) {
        if let (Some(func), true) = (func, likely(func.is_some())) {
            // SAFETY: The contract of the callers: a valid head that is the caller's to give away.
            unsafe { callback::set_func(head.cast(), func) };
            let call = Call::new(head.cast(), sleeps);
            let on = PreemptOff::new();
            if lockless::store_in_current(call.entry(), Kind::Call, &on) {
                return;
            }
            on.into_raw();
            // SAFETY: As above; preemption stays disabled for it.
            return unsafe { sys::rcu_ptr_shim_call_no_slot(call.entry() as c_ulong) };
        }
    }
    // SAFETY: As above.
    unsafe { sys::rcu_ptr_shim_call(head, func, sleeps) }
}

/// [`__rcu_ptr_kvfree()`] on behalf of `caller`, for rcu_ptr_takeover.ko.
#[no_mangle]
extern "C" fn __rcu_ptr_kvfree_for(field: *mut c_void, ptr: *mut c_void, caller: c_ulong) {
    free_fast_path(
        field,
        ptr,
        fast_path_enabled() && !debug::HOOKS,
        // SAFETY: The contract of this function; preemption stays disabled for it.
        || unsafe { rcu_ptr_rs_kvfree_no_slot(field, ptr, caller) },
        || rcu_ptr_rs_kvfree(field, ptr, caller),
    );
}

/// [`__rcu_ptr_kfree_nolock()`] on behalf of `caller`. As above.
#[no_mangle]
extern "C" fn __rcu_ptr_kfree_nolock_for(field: *mut c_void, ptr: *mut c_void, caller: c_ulong) {
    free_fast_path(
        field,
        ptr,
        fast_path_enabled(),
        // SAFETY: The contract of this function; preemption stays disabled for it.
        || unsafe { rcu_ptr_rs_kvfree_no_slot(field, ptr, caller) },
        || rcu_ptr_rs_kfree_nolock(field, ptr, caller),
    );
}

/// `rcu_ptr_kvfree()`.
#[no_mangle]
extern "C" fn rcu_ptr_rs_kvfree(field: *mut c_void, ptr: *mut c_void, caller: c_ulong) {
    // SAFETY: The contract of this function.
    unsafe { api::kvfree(ptr.cast(), field.cast(), caller) };
}

/// `rcu_ptr_kfree_nolock()`.
#[no_mangle]
extern "C" fn rcu_ptr_rs_kfree_nolock(field: *mut c_void, ptr: *mut c_void, caller: c_ulong) {
    // SAFETY: The contract of this function.
    unsafe { api::kfree_nolock(ptr.cast(), field.cast(), caller) };
}

/// `rcu_ptr_try_kfree_nolock()`.
#[no_mangle]
extern "C" fn rcu_ptr_rs_try_kfree_nolock(ptr: *mut c_void, caller: c_ulong) -> bool {
    // SAFETY: The contract of this function.
    unsafe { api::try_kfree_nolock(ptr.cast(), caller) }
}

/// `rcu_ptr_kvfree_mightsleep()`, on behalf of `caller`.
#[no_mangle]
extern "C" fn __rcu_ptr_kvfree_mightsleep_for(ptr: *mut c_void, caller: c_ulong) {
    // SAFETY: The contract of this function.
    unsafe { api::kvfree_mightsleep(ptr.cast(), caller) };
}

/// `rcu_ptr_call()`, or `rcu_ptr_call_sleepable()` if `sleeps`.
#[no_mangle]
extern "C" fn rcu_ptr_rs_call(
    head: *mut callback_head,
    func: rcu_callback_t,
    sleeps: bool,
    caller: c_ulong,
) {
    // SAFETY: The contract of this function.
    unsafe { api::call(head.cast(), func, sleeps, caller) };
}

/// Continues [`__rcu_ptr_kvfree()`] and [`__rcu_ptr_kfree_nolock()`] where there was no free slot.
///
/// # Safety
///
/// `field` and `ptr` have passed [`api::is_sound()`]; the caller has disabled preemption for this.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_rs_kvfree_no_slot(
    field: *mut c_void,
    ptr: *mut c_void,
    caller: c_ulong,
) {
    // SAFETY: By the safety requirements of this function.
    let on = unsafe { PreemptOff::from_raw() };
    if let (Some(field), Some(ptr)) = (NonNull::new(field.cast()), NonNull::new(ptr.cast())) {
        // SAFETY: By the safety requirements of this function.
        unsafe { lockless::store_or_link(Linked::Object { object: ptr, field }, caller, &on) };
    }
}

/// Continues [`rcu_ptr_call()`] and [`rcu_ptr_call_sleepable()`] where there was no free slot.
///
/// # Safety
///
/// `word` is that of a head whose function is set; the caller has disabled preemption for this.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_rs_call_no_slot(word: c_ulong, caller: c_ulong) {
    // SAFETY: By the safety requirements of this function.
    let on = unsafe { PreemptOff::from_raw() };
    if let Some(call) = Call::from_entry(word) {
        // SAFETY: By the safety requirements of this function.
        unsafe { lockless::store_or_link(Linked::Call(call), caller, &on) };
    }
}

/// `rcu_ptr_barrier()`.
#[no_mangle]
extern "C" fn rcu_ptr_barrier() {
    api::barrier();
}

/// `__rcu_ptr_barrier_objects()`.
#[no_mangle]
extern "C" fn __rcu_ptr_barrier_objects() {
    api::engine_barrier();
}

/// Sets parameter number `param` (`enum rcu_ptr_param`) from text.
///
/// # Safety
///
/// `val` is null or a string that lives for the call: the contract of `kernel_param_ops::set`.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_rs_param_set(param: c_int, val: *const c_char) -> c_int {
    if val.is_null() {
        return EINVAL.to_errno();
    }
    // SAFETY: By the safety requirements of this function.
    let text = unsafe { CStr::from_char_ptr(val) };
    from_result(|| params::set(param as c_uint, text).map(|()| 0))
}

/// Writes parameter number `param` as text into `buf`, returns its length.
///
/// # Safety
///
/// `buf` is valid for writes of `size` bytes: kernel/params.c passes a page, shim.c its size.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_rs_param_get(param: c_int, buf: *mut c_char, size: usize) -> c_int {
    // SAFETY: By the safety requirements of this function.
    let buf = unsafe { core::slice::from_raw_parts_mut(buf.cast::<u8>(), size) };
    from_result(|| params::get(param as c_uint, buf).map(|len| len as c_int))
}

/// The module notifier, at `MODULE_STATE_GOING`. May sleep.
///
/// # Safety
///
/// `module` is being unloaded, and stays for the call: the contract of a module notifier.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_rs_module_going(module: *mut bindings::module) {
    // SAFETY: By the safety requirements of this function.
    if let Some(module) = unsafe { Going::new(module) } {
        unload::wait_for(&module);
    }
}

// Caches. A `struct rcu_ptr_cache *` from C is a live `&Cache`: `rcu_ptr_cache_create()` has
// returned it, and it has not been destroyed since. Functions that modules call, or that pass it on
// to shim.c, have the type of the pointer in their signatures: kCFI compares these on indirect
// calls.

/// The [`Cache`] of a pointer from C.
///
/// # Safety
///
/// The cache is live.
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
        limits: Limits {
            capacity: a.sheaf_capacity as usize,
            barn: a.barn_limit as usize,
            wait: a.wait_limit,
        },
        ctor: a.ctor,
        dtor: a.dtor,
        // SAFETY: The contract of rcu_ptr_cache_create(): it lives until the cache is destroyed.
        srcu: unsafe { Domain::new(a.srcu) },
    });
    from_result(|| {
        let cache = Cache::create(Sheaves::get(), name, size as usize, args, flags)?;
        // SAFETY: By the safety requirements of this function.
        unsafe { out.write(cache.as_ptr().cast()) };
        Ok(0)
    })
}

/// `rcu_ptr_cache_destroy()`.
///
/// # Safety
///
/// `cache` is null or from `rcu_ptr_cache_create()`, and no longer in use.
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
unsafe extern "C" fn __rcu_ptr_cache_alloc(
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
/// `cache` is a live cache; `object` is null or one of its objects, the caller's alone.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_cache_free(cache_ptr: *mut sys::rcu_ptr_cache, object: *mut c_void) {
    if let Some(at) = NonNull::new(object.cast()) {
        let pin = PreemptOff::new();
        // SAFETY: By the safety requirements of this function.
        match unsafe { alloc::free(cache(cache_ptr), at, &pin) } {
            Freed::Taken => (),
            Freed::NoSlot => {
                pin.into_raw();
                // SAFETY: As above; preemption stays disabled for it.
                unsafe { sys::rcu_ptr_shim_cache_no_slot(cache_ptr, object) }
            }
            Freed::Twice => {
                pin.into_raw();
                // SAFETY: As above; preemption stays disabled for it.
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
        if unsafe { alloc::free_rcu(cache(cache_ptr), at, &pin) } {
            return;
        }
        pin.into_raw();
        // SAFETY: As above; preemption stays disabled for it.
        unsafe { sys::rcu_ptr_shim_cache_no_slot(cache_ptr, object) }
    }
}

/// Continues [`rcu_ptr_cache_free()`] and [`rcu_ptr_cache_free_rcu()`] where there was no free
/// slot.
///
/// # Safety
///
/// As for these; the caller has disabled preemption for this.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_rs_cache_no_slot(cache: &Cache, object: NonNull<u8>, caller: c_ulong) {
    // SAFETY: By the safety requirements of this function.
    unsafe { alloc::no_slot(cache, object, caller, PreemptOff::from_raw()) };
}

/// Continues [`rcu_ptr_cache_free()`] where the object was free already.
///
/// # Safety
///
/// The caller has disabled preemption for this.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_rs_cache_twice(cache: &Cache, object: NonNull<u8>, caller: c_ulong) {
    // SAFETY: By the safety requirements of this function.
    let _pin = unsafe { PreemptOff::from_raw() };
    cache.warn_freed_twice(object.addr().get(), caller);
}

/// `rcu_ptr_cache_prefill()`.
///
/// # Safety
///
/// The cache is live.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_cache_prefill(
    cache_ptr: *mut sys::rcu_ptr_cache,
    objects: c_uint,
    gfp: gfp_t,
) -> c_int {
    // SAFETY: By the safety requirements of this function.
    let cache = unsafe { cache(cache_ptr) };
    from_result(|| refill::prefill(cache, objects as usize, gfp).map(|()| 0))
}

/// `rcu_ptr_cache_size()`.
///
/// # Safety
///
/// The cache is live.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_cache_size(cache_ptr: *const sys::rcu_ptr_cache) -> c_uint {
    // SAFETY: By the safety requirements of this function.
    unsafe { cache(cache_ptr.cast_mut()) }.size as c_uint
}

/// `rcu_ptr_cache_alloc()` with `__GFP_ZERO`.
///
/// # Safety
///
/// `object` is a fresh object of a live cache.
#[no_mangle]
unsafe extern "C" fn __rcu_ptr_cache_zero(cache_ptr: *mut sys::rcu_ptr_cache, object: *mut c_void) {
    // SAFETY: By the safety requirements of this function.
    let cache = unsafe { cache(cache_ptr) };
    if cache.has_ctor {
        return debug::warn_zero_constructed();
    }
    // SAFETY: By the safety requirements of this function; an object is as long as this.
    unsafe { object.cast::<u8>().write_bytes(0, cache.size) };
}

/// `rcu_ptr_cache_barrier()`.
///
/// # Safety
///
/// The cache is live.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_cache_barrier(cache_ptr: *mut sys::rcu_ptr_cache) {
    gp::might_sleep();
    // SAFETY: By the safety requirements of this function.
    Sheaves::get().barrier_of(unsafe { cache(cache_ptr) });
}

/// `rcu_ptr_cache_set_limits()`.
///
/// # Safety
///
/// The cache is live, `limits` is valid.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_cache_set_limits(
    cache_ptr: *mut sys::rcu_ptr_cache,
    limits: *const sys::rcu_ptr_cache_limits,
) -> c_int {
    // SAFETY: By the safety requirements of this function.
    let (cache, limits) = unsafe { (cache(cache_ptr), &*limits) };
    let limits = Limits {
        capacity: limits.sheaf_capacity as usize,
        barn: limits.barn_limit as usize,
        wait: limits.wait_limit,
    };
    from_result(|| cache.set_limits(limits).map(|()| 0))
}

/// `rcu_ptr_cache_get_limits()`.
///
/// # Safety
///
/// The cache is live, `out` is valid for writes.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_cache_get_limits(
    cache_ptr: *mut sys::rcu_ptr_cache,
    out: *mut sys::rcu_ptr_cache_limits,
) {
    // SAFETY: By the safety requirements of this function.
    let limits = unsafe { cache(cache_ptr) }.limits.get();
    let limits = sys::rcu_ptr_cache_limits {
        sheaf_capacity: limits.capacity as c_uint,
        barn_limit: limits.barn as c_uint,
        wait_limit: limits.wait as c_ulong,
    };
    // SAFETY: By the safety requirements of this function.
    unsafe { out.write(limits) };
}

/// `rcu_ptr_cache_get_stats()`.
///
/// # Safety
///
/// The cache is live, `out` is valid for writes.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_cache_get_stats(
    cache_ptr: *mut sys::rcu_ptr_cache,
    out: *mut sys::rcu_ptr_cache_stats,
) {
    // SAFETY: By the safety requirements of this function.
    unsafe { out.write(counts(cache(cache_ptr))) };
}

// Hooks of include/linux/rcu_ptr_test.h for tests and debuggers: a build with `RCU_PTR_TEST=n` has
// none.

/// `rcu_ptr_word()`.
#[cfg(RCU_PTR_TEST)]
#[no_mangle]
extern "C" fn rcu_ptr_word(cpu: c_int, index: c_uint) -> c_ulong {
    api::watch_address(cpu, index as usize)
}

/// `rcu_ptr_fail_alloc()`.
#[cfg(RCU_PTR_TEST)]
#[no_mangle]
extern "C" fn rcu_ptr_fail_alloc(nth: c_ulong, times: c_ulong) -> c_ulong {
    fault::CACHES.set(nth as u64, times as u64) as c_ulong
}

/// `rcu_ptr_fail_blocks()`.
#[cfg(RCU_PTR_TEST)]
#[no_mangle]
extern "C" fn rcu_ptr_fail_blocks(nth: c_ulong, times: c_ulong) -> c_ulong {
    fault::BLOCKS.set(nth as u64, times as u64) as c_ulong
}
