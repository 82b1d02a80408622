// SPDX-License-Identifier: GPL-2.0

//! The interface of `rcu_ptr.ko` by address: any object, any field. Tests use it, and rust/api is
//! built upon it.
//!
//! # Context
//!
//! That of the C function: include/linux/rcu_ptr.h says it.

use super::generated as sys;
use ::core::ptr::NonNull;
use kernel::{bindings, types::Opaque};

/// A `struct rcu_ptr`, as storage.
pub(crate) type RawRcuPtr = Opaque<sys::rcu_ptr>;

/// `rcu_ptr_kvfree()` without its checks at compile time.
///
/// # Safety
///
/// `object` is the start of a live kmalloc, kmem_cache or vmalloc object that is the caller's to
/// free; `field` lies in it, is aligned, 8 bytes long and in its first 4096 bytes. Or they are what
/// the core is to refuse.
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
/// `head` is valid and the caller's to give away until `func` is called for it, with BH disabled
/// unless it `sleeps`; its code is in a module that depends on rcu_ptr.ko, which waits for it, or
/// stays for other reasons. Or one of them is what the core is to refuse.
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
/// As for [`kvfree()`]; where it returns `false` the object is the caller's still.
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

/// `kmalloc_nolock()`: `size` bytes, aligned to 8, or null.
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
