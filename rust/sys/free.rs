// SPDX-License-Identifier: GPL-2.0

//! The functions under measurement, each as a type, so that the loops around them hold direct calls.

use super::{generated as sys, object::Object};
use ::core::ptr::NonNull;
use kernel::bindings;

/// A way to free an object.
pub(crate) trait Free {
    /// Frees `object`, or returns `false` and leaves it to the caller.
    ///
    /// # Context
    ///
    /// That of the function.
    ///
    /// # Safety
    ///
    /// `object` is live, the caller's to free, and of a kind that the function takes.
    unsafe fn free(object: NonNull<Object>) -> bool;
}

/// Nothing at all: what the loop costs. Leaves the object to the caller.
pub(crate) struct Nothing;

impl Free for Nothing {
    #[inline(always)]
    unsafe fn free(object: NonNull<Object>) -> bool {
        // SAFETY: An empty statement; it keeps the load of the pointer in the loop.
        unsafe { ::core::arch::asm!("/* {0} */", in(reg) object.as_ptr(), options(nostack)) };
        true
    }
}

/// `kfree()`, at once.
pub(crate) struct Kfree;

impl Free for Kfree {
    #[inline(always)]
    unsafe fn free(object: NonNull<Object>) -> bool {
        // SAFETY: By the safety requirements of this function.
        unsafe { bindings::kfree(object.as_ptr().cast()) };
        true
    }
}

/// `call_rcu()` with a callback that calls kfree().
pub(crate) struct CallRcu;

/// # Safety
///
/// `head` is that of an [`Object`] whose grace period is over.
unsafe extern "C" fn free_callback(head: *mut bindings::callback_head) {
    // SAFETY: By the safety requirements of this function.
    unsafe {
        let object = head.byte_sub(::core::mem::offset_of!(Object, head));
        bindings::kvfree(object.cast());
    }
}

impl Free for CallRcu {
    #[inline(always)]
    unsafe fn free(object: NonNull<Object>) -> bool {
        // SAFETY: By the safety requirements of this function; `settle()` waits for the callbacks.
        unsafe { bindings::call_rcu(Object::head(object), Some(free_callback)) };
        true
    }
}

/// `kfree_rcu()`: what its macro expands to.
pub(crate) struct KfreeRcu;

impl Free for KfreeRcu {
    #[inline(always)]
    unsafe fn free(object: NonNull<Object>) -> bool {
        // SAFETY: By the safety requirements of this function.
        unsafe { bindings::kvfree_call_rcu(Object::head(object).cast(), object.as_ptr().cast()) };
        true
    }
}

/// `kfree_rcu_nolock()`: what its macro expands to.
pub(crate) struct KfreeRcuNolock;

impl Free for KfreeRcuNolock {
    #[inline(always)]
    unsafe fn free(object: NonNull<Object>) -> bool {
        // SAFETY: By the safety requirements of this function.
        unsafe {
            bindings::kfree_call_rcu_nolock(Object::head(object).cast(), object.as_ptr().cast())
        };
        true
    }
}

/// `rcu_ptr_kvfree()`: what its macro expands to.
pub(crate) struct RcuPtrKvfree;

impl Free for RcuPtrKvfree {
    #[inline(always)]
    unsafe fn free(object: NonNull<Object>) -> bool {
        // SAFETY: By the safety requirements of this function.
        unsafe { sys::__rcu_ptr_kvfree(Object::head(object).cast(), object.as_ptr().cast()) };
        true
    }
}

/// `rcu_ptr_kfree_nolock()`: what its macro expands to.
pub(crate) struct RcuPtrKfreeNolock;

impl Free for RcuPtrKfreeNolock {
    #[inline(always)]
    unsafe fn free(object: NonNull<Object>) -> bool {
        // SAFETY: By the safety requirements of this function.
        unsafe { sys::__rcu_ptr_kfree_nolock(Object::head(object).cast(), object.as_ptr().cast()) };
        true
    }
}

/// `rcu_ptr_try_kfree_nolock()`, headless: what its macro expands to.
pub(crate) struct RcuPtrTryKfreeNolock;

impl Free for RcuPtrTryKfreeNolock {
    #[inline(always)]
    unsafe fn free(object: NonNull<Object>) -> bool {
        // SAFETY: By the safety requirements of this function.
        unsafe { sys::__rcu_ptr_try_kfree_nolock(object.as_ptr().cast()) }
    }
}

/// `rcu_ptr_call()` with a callback that calls kfree().
pub(crate) struct RcuPtrCall;

impl Free for RcuPtrCall {
    #[inline(always)]
    unsafe fn free(object: NonNull<Object>) -> bool {
        // SAFETY: By the safety requirements of this function; `settle()` waits for the callbacks.
        unsafe { sys::rcu_ptr_call(Object::head(object), Some(free_callback)) };
        true
    }
}

/// `rcu_ptr_call_sleepable()`, the same.
pub(crate) struct RcuPtrCallSleepable;

impl Free for RcuPtrCallSleepable {
    #[inline(always)]
    unsafe fn free(object: NonNull<Object>) -> bool {
        // SAFETY: As for `rcu_ptr_call()`.
        unsafe { sys::rcu_ptr_call_sleepable(Object::head(object), Some(free_callback)) };
        true
    }
}

/// Gives `object` back at once (`kvfree()`).
///
/// # Context
///
/// May sleep.
///
/// # Safety
///
/// `object` is live and the caller's to free.
pub(crate) unsafe fn kvfree(object: NonNull<Object>) {
    // SAFETY: By the safety requirements of this function.
    unsafe { bindings::kvfree(object.as_ptr().cast()) };
}

/// Gives `objects` back at once, as reclaim does after a grace period (`kfree_bulk()`).
///
/// # Context
///
/// May sleep.
///
/// # Safety
///
/// Each is live, the caller's to free, and no vmalloc object.
pub(crate) unsafe fn kfree_bulk(objects: &mut [NonNull<Object>]) {
    // SAFETY: By the safety requirements of this function; a NULL cache means "that of each".
    unsafe {
        bindings::kmem_cache_free_bulk(
            ::core::ptr::null_mut(),
            objects.len(),
            objects.as_mut_ptr().cast(),
        )
    };
}

/// Waits for what the kernel's own functions have put into call_rcu().
///
/// # Context
///
/// May sleep.
pub(crate) fn kernel_settle() {
    // SAFETY: In process context.
    unsafe { bindings::rcu_barrier() };
}

/// Waits for everything that was given to rcu_ptr.
///
/// # Context
///
/// May sleep.
pub(crate) fn rcu_ptr_settle() {
    // SAFETY: In process context.
    unsafe { sys::rcu_ptr_barrier() };
}
