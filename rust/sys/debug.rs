// SPDX-License-Identifier: GPL-2.0

//! The kernel's debug features as far as an object on its way through sees them: debugobjects,
//! kmemleak, and the warnings about misuse.
//!
//! # Context
//!
//! Warnings: any, NMI included. The rest: any but NMI, as the features take raw spinlocks where
//! they are on.

use super::generated as sys;
use core::ptr::NonNull;
use kernel::prelude::*;

/// Tells debugobjects that `object` is queued. `false`: it is already.
#[inline]
pub(crate) fn queue(object: NonNull<u8>) -> bool {
    if cfg!(not(CONFIG_DEBUG_OBJECTS_RCU_HEAD)) {
        return true;
    }
    // SAFETY: debugobjects only uses the address.
    unsafe { sys::rcu_ptr_shim_debug_queue(object.as_ptr().cast()) }
}

/// Tells debugobjects that `object` is about to be freed.
#[inline]
pub(crate) fn unqueue(object: *mut u8) {
    if cfg!(CONFIG_DEBUG_OBJECTS_RCU_HEAD) {
        // SAFETY: debugobjects only uses the address.
        unsafe { sys::rcu_ptr_shim_debug_unqueue(object.cast()) };
    }
}

/// Tells kmemleak that nothing needs to point to `object` from now on (`kmemleak_ignore()`).
#[inline]
pub(crate) fn kmemleak_ignore(object: NonNull<u8>) {
    if cfg!(CONFIG_DEBUG_KMEMLEAK) {
        // SAFETY: kmemleak only uses the address.
        unsafe { sys::rcu_ptr_shim_kmemleak_ignore(object.as_ptr().cast()) };
    }
}

/// Whether objects are registered with debugobjects.
pub(crate) const OBJECTS: bool = cfg!(CONFIG_DEBUG_OBJECTS_RCU_HEAD);

/// Whether debugobjects or kmemleak are called when objects are queued, which NMI can't do.
pub(crate) const HOOKS: bool = cfg!(any(CONFIG_DEBUG_OBJECTS_RCU_HEAD, CONFIG_DEBUG_KMEMLEAK));

/// Has kmemleak look for pointers in a block of `bytes` bytes at `base`.
///
/// # Context
///
/// Any but NMI, no raw spinlock held.
pub(crate) fn kmemleak_scan(base: usize, bytes: usize) {
    if cfg!(CONFIG_DEBUG_KMEMLEAK) {
        // SAFETY: The block is a page with an initialised content, until `kmemleak_free()`.
        unsafe { sys::rcu_ptr_shim_kmemleak_scan(base as *const c_void, bytes) };
    }
}

/// Ends [`kmemleak_scan()`], in the same contexts.
pub(crate) fn kmemleak_free(base: usize) {
    if cfg!(CONFIG_DEBUG_KMEMLEAK) {
        // SAFETY: kmemleak only uses the address.
        unsafe { sys::rcu_ptr_shim_kmemleak_free(base as *const c_void) };
    }
}

/// What is wrong with an object that was handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misuse {
    /// Object or field is no kernel address.
    User,
    /// Object or field is not aligned to a pointer.
    Align,
    /// The field does not start in the first 4096 bytes of the object.
    Offset,
    /// The object is queued already (seen with DEBUG_OBJECTS_RCU_HEAD only).
    Double,
    /// There is no function to call.
    NoFunc,
}

/// One warning per kind of misuse, with the caller. The object is leaked.
#[cold]
pub(crate) fn warn(what: Misuse, object: *mut u8, field: *mut u8, caller: usize) {
    let warn = match what {
        Misuse::User => sys::rcu_ptr_shim_warn_user,
        Misuse::Align => sys::rcu_ptr_shim_warn_align,
        Misuse::Offset => sys::rcu_ptr_shim_warn_offset,
        Misuse::Double => sys::rcu_ptr_shim_warn_double,
        Misuse::NoFunc => sys::rcu_ptr_shim_warn_no_func,
    };
    // SAFETY: The shims only print their arguments.
    unsafe { warn(object.cast(), field.cast(), caller as c_ulong) };
}

/// A batch was about to be freed before its grace period: a bug in here, and the batch is leaked.
#[cold]
pub(crate) fn warn_early(batch: *const u8) {
    // SAFETY: The shim only prints its argument.
    unsafe { sys::rcu_ptr_shim_warn_early(batch.cast_mut().cast()) };
}

/// An object of cache `name` was freed twice, the second time by `caller` if that is known.
#[cold]
pub(crate) fn warn_freed_twice(name: &CStr, object: usize, caller: usize) {
    // SAFETY: The shim only prints its arguments.
    unsafe {
        sys::rcu_ptr_shim_warn_freed_twice(name.as_char_ptr(), object as c_ulong, caller as c_ulong)
    };
}

/// More contexts are nested in calls of cache `name` than a cursor has room for.
#[cold]
pub(crate) fn warn_nested(name: &CStr) {
    // SAFETY: The shim only prints its argument.
    unsafe { sys::rcu_ptr_shim_warn_nested(name.as_char_ptr()) };
}

/// A list of `objects` objects through their fields was not what was pushed, and is leaked: one of
/// them was queued again while it was linked.
#[cold]
pub(crate) fn warn_endless(objects: usize) {
    // SAFETY: The shim only prints its argument.
    unsafe { sys::rcu_ptr_shim_warn_endless(objects as c_ulong) };
}

/// A cache is destroyed while its user holds objects, or has given more back than it had.
#[cold]
pub(crate) fn warn_held(name: &CStr, objects: i64, caller: usize) {
    // SAFETY: The shim only prints its arguments.
    unsafe {
        sys::rcu_ptr_shim_warn_held(name.as_char_ptr(), objects as c_long, caller as c_ulong)
    };
}

/// Warns once that zeroes were asked for where objects are constructed.
#[cold]
pub(crate) fn warn_zero_constructed() {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_shim_warn_zero() };
}
