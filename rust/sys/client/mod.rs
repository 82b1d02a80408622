// SPDX-License-Identifier: GPL-2.0

//! The exported C interface of `rcu_ptr.ko` as a Rust client calls it.

#[path = "../generated.rs"]
mod generated;

pub(crate) mod cache;

use core::ptr::NonNull;
use generated as sys;
use kernel::{bindings, types::Opaque};

/// Storage of `struct rcu_ptr`.
pub(crate) type RawRcuPtr = Opaque<sys::rcu_ptr>;

/// `rcu_ptr_kfree_nolock()`.
///
/// # Context
///
/// Any, NMI included.
///
/// # Safety
///
/// `object` is the start of a live kmalloc, kmem_cache or vmalloc object that is the caller's to
/// free; `field` lies in it, is aligned, 8 bytes long and in its first 4096 bytes.
#[inline]
pub(crate) unsafe fn kfree_nolock<T>(object: NonNull<T>, field: *mut RawRcuPtr) {
    // SAFETY: By the safety requirements of this function.
    unsafe { sys::__rcu_ptr_kfree_nolock(field.cast(), object.as_ptr().cast()) };
}

/// `rcu_ptr_try_kfree_nolock()`. `false`: the object is the caller's still.
///
/// # Context
///
/// Any, NMI included.
///
/// # Safety
///
/// As for [`kvfree_mightsleep()`].
#[inline]
pub(crate) unsafe fn try_kfree_nolock<T>(object: NonNull<T>) -> bool {
    // SAFETY: By the safety requirements of this function.
    unsafe { sys::__rcu_ptr_try_kfree_nolock(object.as_ptr().cast()) }
}

/// `struct rcu_head`
pub(crate) type RawHead = bindings::callback_head;

/// `rcu_callback_t`, without NULL.
pub(crate) type Func = unsafe extern "C" fn(head: *mut RawHead);

/// `rcu_ptr_call()`.
///
/// # Context
///
/// Any, NMI included.
///
/// # Safety
///
/// `head` is valid and the caller's to give away until `func` is called for it, with bottom halves off; its
/// code is in a module that depends on rcu_ptr.ko, which waits for it, or stays for other reasons.
#[inline]
pub(crate) unsafe fn call(head: NonNull<RawHead>, func: Func) {
    // SAFETY: By the safety requirements of this function.
    unsafe { sys::rcu_ptr_call(head.as_ptr(), Some(func)) };
}

/// `rcu_ptr_call_sleepable()`.
///
/// # Context
///
/// Any, NMI included.
///
/// # Safety
///
/// As for [`call()`], but for where `func` is called: in process context.
#[inline]
pub(crate) unsafe fn call_sleepable(head: NonNull<RawHead>, func: Func) {
    // SAFETY: By the safety requirements of this function.
    unsafe { sys::rcu_ptr_call_sleepable(head.as_ptr(), Some(func)) };
}

/// `kmalloc_nolock()`: `size` bytes, aligned to 8, or null.
///
/// # Context
///
/// Any, NMI included.
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

/// `rcu_ptr_kvfree_mightsleep()`.
///
/// # Context
///
/// May sleep.
///
/// # Safety
///
/// `object` is the start of a live kmalloc, kmem_cache or vmalloc object that is the caller's to
/// free.
#[inline]
pub(crate) unsafe fn kvfree_mightsleep<T>(object: NonNull<T>) {
    // SAFETY: By the safety requirements of this function.
    unsafe { sys::__rcu_ptr_kvfree_mightsleep(object.as_ptr().cast()) };
}

/// `rcu_ptr_barrier()`.
///
/// # Context
///
/// May sleep; not from a callback.
pub(crate) fn barrier() {
    // SAFETY: The callers are in process context, as the doc asks.
    unsafe { sys::rcu_ptr_barrier() };
}
