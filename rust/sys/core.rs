// SPDX-License-Identifier: GPL-2.0

//! The functions of `rcu_ptr.ko` with untyped objects and fields, for rust/api and for tests.
//!
//! # Context
//!
//! That of the C function: include/linux/rcu_ptr.h.

use super::generated as sys;
use ::core::ptr::NonNull;
use kernel::{bindings, types::Opaque};

/// A `struct rcu_ptr`, as storage.
pub(crate) type RawRcuPtr = Opaque<sys::rcu_ptr>;

/// `rcu_ptr_kvfree()` without its checks at compile time.
///
/// # Safety
///
/// `object` is the start of a live kmalloc, kmem_cache or vmalloc object that the caller owns;
/// `field` is 8 bytes in it, aligned, and starts in its first 4096 bytes. Or they are such misuse
/// as the core detects.
#[inline]
pub(crate) unsafe fn kvfree(object: *mut u8, field: *mut u8) {
    // SAFETY: By the safety requirements of this function.
    unsafe { sys::__rcu_ptr_kvfree(field.cast(), object.cast()) };
}

/// `rcu_ptr_kfree_nolock()` without its checks at compile time.
///
/// # Safety
///
/// As for [`kvfree()`].
#[inline]
pub(crate) unsafe fn kfree_nolock(object: *mut u8, field: *mut u8) {
    // SAFETY: By the safety requirements of this function.
    unsafe { sys::__rcu_ptr_kfree_nolock(field.cast(), object.cast()) };
}

/// `struct rcu_head`
pub(crate) type Head = bindings::callback_head;

/// A callback.
pub(crate) type Func = sys::Func;

/// `rcu_ptr_call()`, or `rcu_ptr_call_sleepable()`.
///
/// # Safety
///
/// `head` is valid, and owned by the caller, until `func` is called for it, with BH disabled unless
/// it `sleeps`. The code of `func` is in a module that depends on rcu_ptr.ko, which waits for it,
/// or is never freed. Or they are such misuse as the core detects.
#[inline]
pub(crate) unsafe fn call(head: *mut u8, sleeps: bool, func: impl Into<Option<Func>>) {
    let func = func.into();
    // SAFETY: By the safety requirements of this function.
    unsafe {
        if sleeps {
            sys::rcu_ptr_call_sleepable(head.cast(), func);
        } else {
            sys::rcu_ptr_call(head.cast(), func);
        }
    }
}

/// `rcu_ptr_try_kfree_nolock()`.
///
/// # Safety
///
/// As for [`kvfree()`]. If it returns `false` the caller still owns the object.
#[inline]
pub(crate) unsafe fn try_kfree_nolock(object: NonNull<u8>) -> bool {
    // SAFETY: By the safety requirements of this function.
    unsafe { sys::__rcu_ptr_try_kfree_nolock(object.as_ptr().cast()) }
}

/// `rcu_ptr_kvfree_mightsleep()`.
///
/// # Safety
///
/// As for [`kvfree()`].
pub(crate) unsafe fn kvfree_mightsleep(object: NonNull<u8>) {
    // SAFETY: By the safety requirements of this function.
    unsafe { sys::__rcu_ptr_kvfree_mightsleep(object.as_ptr().cast()) };
}

/// `rcu_ptr_barrier()`.
pub(crate) fn barrier() {
    // SAFETY: The callers are in process context, as the doc asks.
    unsafe { sys::rcu_ptr_barrier() };
}

/// `kmalloc_nolock()`: `size` bytes, aligned to 8, or null. Without the C shim of slab.rs, as a
/// Rust client has no C.
#[inline]
pub(crate) fn kmalloc_nolock(size: usize) -> *mut u8 {
    // SAFETY: No requirements.
    let object = unsafe {
        bindings::_kmalloc_nolock_noprof(
            size,
            #[cfg(CONFIG_KMALLOC_PARTITION_CACHES)]
            Default::default(),
            0,
            bindings::NUMA_NO_NODE,
        )
    };
    object.cast()
}
