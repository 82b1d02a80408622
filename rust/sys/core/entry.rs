// SPDX-License-Identifier: GPL-2.0

//! Where C calls into the core: the exported interface (shim.c adds the caller's address) and the
//! parameters.

use super::{current_block, debug, generated as sys, preempt::PreemptOff, trace};
use crate::{api, lockless, params};
use core::ptr::NonNull;
use kernel::prelude::*;

/// Whether the exported functions may take the common path of engine `lockless`: it is in charge, and
/// nobody traces its objects.
#[inline(always)]
fn is_plain() -> bool {
    current_block::in_charge() && !trace::queue_is_on()
}

/// `rcu_ptr_kvfree()`, exported by shim.c.
///
/// Nothing is called on the common path. Everything else ends in a jump to C, which finds the
/// caller's address where this function would: so nothing may follow it.
#[no_mangle]
extern "C" fn rcu_ptr_kvfree_call(field: *mut c_void, ptr: *mut c_void) {
    if is_plain() && !debug::HOOKS && api::is_sound(ptr.cast(), field.cast()) {
        let on = PreemptOff::new();
        if lockless::insert(ptr.cast(), &on) {
            return;
        }
        on.leave_off();
        // SAFETY: The contract of this function; preemption is left off.
        return unsafe { sys::rcu_ptr_shim_kvfree_no_slot(field, ptr) };
    }
    // SAFETY: The contract of this function.
    unsafe { sys::rcu_ptr_shim_kvfree(field, ptr) }
}

/// `rcu_ptr_kfree_nolock()`, exported by shim.c. As above.
#[no_mangle]
extern "C" fn rcu_ptr_kfree_nolock_call(field: *mut c_void, ptr: *mut c_void) {
    if is_plain() && api::is_sound(ptr.cast(), field.cast()) {
        let on = PreemptOff::new();
        if lockless::insert(ptr.cast(), &on) {
            return;
        }
        on.leave_off();
        // SAFETY: The contract of this function; preemption is left off.
        return unsafe { sys::rcu_ptr_shim_kvfree_no_slot(field, ptr) };
    }
    // SAFETY: The contract of this function.
    unsafe { sys::rcu_ptr_shim_kfree_nolock(field, ptr) }
}

/// `rcu_ptr_try_kfree_nolock()`, exported by shim.c. As above.
#[no_mangle]
extern "C" fn rcu_ptr_try_kfree_nolock_call(ptr: *mut c_void) -> bool {
    if is_plain() && api::is_sound(ptr.cast(), ptr.cast()) {
        let on = PreemptOff::new();
        if lockless::insert(ptr.cast(), &on) {
            return true;
        }
        on.leave_off();
        // SAFETY: The contract of this function; preemption is left off.
        return unsafe { sys::rcu_ptr_shim_try_no_slot(ptr) };
    }
    // SAFETY: The contract of this function.
    unsafe { sys::rcu_ptr_shim_try_kfree_nolock(ptr) }
}

/// The rest of [`rcu_ptr_kvfree_call()`] and [`rcu_ptr_kfree_nolock_call()`] when there was no slot.
///
/// # Safety
///
/// `field` and `ptr` are sound, and preemption was left off.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_rs_kvfree_no_slot(
    field: *mut c_void,
    ptr: *mut c_void,
    caller: c_ulong,
) {
    // SAFETY: By the safety requirements of this function.
    let on = unsafe { PreemptOff::adopt() };
    if let (Some(field), Some(ptr)) = (NonNull::new(field.cast()), NonNull::new(ptr.cast())) {
        // SAFETY: By the safety requirements of this function.
        unsafe { lockless::insert_or_link(ptr, field, caller, &on) };
    }
}

/// The rest of [`rcu_ptr_try_kfree_nolock_call()`] when there was no slot.
///
/// # Safety
///
/// `ptr` is sound, and preemption was left off.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_rs_try_no_slot(ptr: *mut c_void, _caller: c_ulong) -> bool {
    // SAFETY: By the safety requirements of this function.
    let on = unsafe { PreemptOff::adopt() };
    match NonNull::new(ptr.cast()) {
        Some(ptr) => lockless::insert_slow(ptr, &on),
        None => true,
    }
}

/// `rcu_ptr_kvfree()` in all cases.
#[no_mangle]
extern "C" fn rcu_ptr_rs_kvfree(field: *mut c_void, ptr: *mut c_void, caller: c_ulong) {
    // The macro has sorted NULL out; a direct call with one is as harmless.
    if let (Some(field), Some(ptr)) = (NonNull::new(field.cast()), NonNull::new(ptr.cast())) {
        // SAFETY: The contract of rcu_ptr_kvfree(): a live object that is the caller's to free,
        // and its field.
        unsafe { api::kvfree(ptr, field, caller) };
    }
}

/// `rcu_ptr_kfree_nolock()` in all cases.
#[no_mangle]
extern "C" fn rcu_ptr_rs_kfree_nolock(field: *mut c_void, ptr: *mut c_void, caller: c_ulong) {
    if let (Some(field), Some(ptr)) = (NonNull::new(field.cast()), NonNull::new(ptr.cast())) {
        // SAFETY: The contract of rcu_ptr_kfree_nolock(): a live object that is the caller's to
        // free, and its field.
        unsafe { api::kfree_nolock(ptr, field, caller) };
    }
}

/// `rcu_ptr_try_kfree_nolock()` in all cases.
#[no_mangle]
extern "C" fn rcu_ptr_rs_try_kfree_nolock(ptr: *mut c_void, caller: c_ulong) -> bool {
    match NonNull::new(ptr.cast()) {
        // SAFETY: The contract of rcu_ptr_try_kfree_nolock(): a live object that is the caller's to
        // free.
        Some(ptr) => unsafe { api::try_kfree_nolock(ptr, caller) },
        None => true,
    }
}

/// `rcu_ptr_kvfree_mightsleep()`.
#[no_mangle]
extern "C" fn rcu_ptr_rs_kvfree_mightsleep(ptr: *mut c_void, caller: c_ulong) {
    if let Some(ptr) = NonNull::new(ptr.cast()) {
        // SAFETY: The contract of rcu_ptr_kvfree_mightsleep(): a live object that is the caller's
        // to free.
        unsafe { api::kvfree_mightsleep(ptr, caller) };
    }
}

/// `rcu_ptr_barrier()`.
#[no_mangle]
extern "C" fn rcu_ptr_rs_barrier() {
    api::barrier();
}

/// `rcu_ptr_word()`.
#[no_mangle]
extern "C" fn rcu_ptr_rs_word(cpu: c_int, index: c_uint) -> c_ulong {
    api::word(cpu, index as usize)
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
    match params::set(param as c_uint, text) {
        Ok(()) => 0,
        Err(e) => e.to_errno(),
    }
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
    match params::get(param as c_uint, buf) {
        Ok(len) => len as c_int,
        Err(e) => e.to_errno(),
    }
}
