// SPDX-License-Identifier: GPL-2.0

//! Hooks for debugobjects and kmemleak, and warnings about misuse.
//!
//! # Context
//!
//! Warnings: any, NMI included. The rest: any but NMI, as the features take raw spinlocks where
//! they are on.

use super::generated as sys;
use core::ptr::NonNull;
use kernel::prelude::*;

/// Registers `object` as queued with debugobjects. Returns `false` if it is queued already.
#[inline]
pub(crate) fn queue(object: NonNull<u8>) -> bool {
    if cfg!(not(CONFIG_DEBUG_OBJECTS_RCU_HEAD)) {
        return true;
    }
    // SAFETY: debugobjects only uses the address.
    unsafe { sys::rcu_ptr_shim_debug_queue(object.as_ptr().cast()) }
}

/// Removes `object` from debugobjects before it is freed.
#[inline]
pub(crate) fn unqueue(object: *mut u8) {
    if cfg!(CONFIG_DEBUG_OBJECTS_RCU_HEAD) {
        // SAFETY: debugobjects only uses the address.
        unsafe { sys::rcu_ptr_shim_debug_unqueue(object.cast()) };
    }
}

/// Excludes `object`, which nothing need point to, from kmemleak's reports (`kmemleak_ignore()`).
#[inline]
pub(crate) fn kmemleak_ignore(object: NonNull<u8>) {
    if cfg!(CONFIG_DEBUG_KMEMLEAK) {
        // SAFETY: kmemleak only uses the address.
        unsafe { sys::rcu_ptr_shim_kmemleak_ignore(object.as_ptr().cast()) };
    }
}

/// Whether objects are registered with debugobjects.
pub(crate) const OBJECTS: bool = cfg!(CONFIG_DEBUG_OBJECTS_RCU_HEAD);

/// Whether debugobjects or kmemleak are called when objects are queued: not possible in NMI.
pub(crate) const HOOKS: bool = cfg!(any(CONFIG_DEBUG_OBJECTS_RCU_HEAD, CONFIG_DEBUG_KMEMLEAK));

/// Registers a block of `bytes` bytes at `base` with kmemleak, which then scans it for pointers.
///
/// # Context
///
/// Any but NMI, no raw spinlock held.
pub(crate) fn kmemleak_scan(base: usize, bytes: usize) {
    if cfg!(CONFIG_DEBUG_KMEMLEAK) {
        // SAFETY: The block is an initialised page until `kmemleak_free()`.
        unsafe { sys::rcu_ptr_shim_kmemleak_scan(base as *const c_void, bytes) };
    }
}

/// Reverts [`kmemleak_scan()`], in the same contexts.
pub(crate) fn kmemleak_free(base: usize) {
    if cfg!(CONFIG_DEBUG_KMEMLEAK) {
        // SAFETY: kmemleak only uses the address.
        unsafe { sys::rcu_ptr_shim_kmemleak_free(base as *const c_void) };
    }
}

/// Misuse of a function of rcu_ptr.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misuse {
    /// Object or field is not at a kernel address.
    User,
    /// Object or field is not aligned to a pointer.
    Align,
    /// The field does not start in the first 4096 bytes of the object.
    Offset,
    /// The object is queued already: seen if it is the newest of its list (or of its block, engine
    /// rfc), and with debugobjects.
    Double,
    /// The callback is NULL.
    NoFunc,
}

/// Warns of misuse, once per kind, with the caller if that is known. The object is leaked; with
/// `Double` it is freed once, with `NoFunc` nothing was queued.
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
    unsafe { warn(object.cast(), field.cast(), caller) };
}

/// Warns that the grace period of a batch has not ended when it is to be freed: an internal error.
/// The batch is leaked.
#[cold]
pub(crate) fn warn_early(batch: *const u8) {
    // SAFETY: The shim only prints its argument.
    unsafe { sys::rcu_ptr_shim_warn_early(batch.cast_mut().cast()) };
}

/// Warns of a double free into cache `name`; `caller`: of the second free, 0 if unknown.
#[cold]
pub(crate) fn warn_freed_twice(name: &CStr, object: usize, caller: usize) {
    // SAFETY: The shim only prints its arguments.
    unsafe { sys::rcu_ptr_shim_warn_freed_twice(name.as_char_ptr(), object, caller) };
}

/// Warns that more contexts are nested in functions of cache `name` than a cursor supports.
#[cold]
pub(crate) fn warn_nested(name: &CStr) {
    // SAFETY: The shim only prints its argument.
    unsafe { sys::rcu_ptr_shim_warn_nested(name.as_char_ptr()) };
}

/// Warns that a list of `objects` objects is broken, as one was queued again while it was linked.
/// The list is leaked.
#[cold]
pub(crate) fn warn_endless(objects: usize) {
    // SAFETY: The shim only prints its argument.
    unsafe { sys::rcu_ptr_shim_warn_endless(objects) };
}

/// Warns that a cache is destroyed with `objects` objects allocated; negative: freed too often.
#[cold]
pub(crate) fn warn_held(name: &CStr, objects: i64, caller: usize) {
    // SAFETY: The shim only prints its arguments.
    unsafe { sys::rcu_ptr_shim_warn_held(name.as_char_ptr(), objects as c_long, caller) };
}

/// Warns once of `__GFP_ZERO` for a cache with a constructor.
#[cold]
pub(crate) fn warn_zero_constructed() {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_shim_warn_zero() };
}
