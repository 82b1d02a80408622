// SPDX-License-Identifier: GPL-2.0

//! Functions of `rcu_ptr.ko` for tests only: misuse, the C macros, and the words that engines
//! write.

use super::{
    core::{call, kfree_nolock, kvfree},
    generated as sys,
};
use ::core::ptr::NonNull;
use kernel::bindings;

/// Calls `f`, which queues the head at `head` on its stack and waits for it, with the annotation
/// for debugobjects (`init_rcu_head_on_stack()`).
///
/// # Context
///
/// That of `f`, except NMI.
pub(crate) fn on_stack<R>(head: *mut u8, f: impl FnOnce() -> R) -> R {
    // SAFETY: debugobjects only uses the address.
    unsafe { sys::rcu_ptr_shim_head_on_stack(head.cast()) };
    let ret = f();
    // SAFETY: As above.
    unsafe { sys::rcu_ptr_shim_head_off_stack(head.cast()) };
    ret
}

/// Misuses every function: a user-space address, an unaligned field, a field that is too far away.
/// Each kind gives one warning per boot. May sleep.
pub(crate) fn misuse() {
    const WRONG: [(usize, usize); 3] = [(0x1000, 0x1000), (0, 4), (0, 4096)];
    let page = ::core::ptr::from_ref(&WRONG).addr() & !4095;
    for (object, field) in WRONG {
        let base = if object == 0 { page } else { 0 };
        let object = ::core::ptr::without_provenance_mut::<u8>(base + object);
        let field = ::core::ptr::without_provenance_mut::<u8>(base + field);
        // SAFETY: The core rejects all of them without an access to the memory.
        unsafe {
            kvfree(object, field);
            kfree_nolock(object, field);
            call(field, false, None);
            call(field, true, None);
            if field.addr() % 8 == 4 {
                sys::__rcu_ptr_kvfree_mightsleep(field.cast());
                sys::__rcu_ptr_try_kfree_nolock(field.cast());
            }
        }
    }
}

/// The kernel's own `kfree_rcu_nolock()`.
///
/// # Context
///
/// Any, NMI included.
///
/// # Safety
///
/// As for [`kvfree()`].
#[inline]
pub(crate) unsafe fn kernel_kfree_nolock(object: *mut u8, field: *mut u8) {
    // SAFETY: By the safety requirements of this function.
    unsafe { bindings::kfree_call_rcu_nolock(field.cast(), object.cast()) };
}

/// The address of `rcu_ptr_kvfree()`, for a breakpoint that certainly fires.
pub(crate) fn kvfree_entry() -> usize {
    sys::__rcu_ptr_kvfree as usize
}

/// Addresses of the words of `cpu` that the engine writes when objects are queued
/// (`rcu_ptr_word()`).
pub(crate) fn words(cpu: i32) -> impl Iterator<Item = usize> {
    // SAFETY: `cpu` is a possible CPU.
    let word = move |index| unsafe { sys::rcu_ptr_word(cpu, index) };
    (0..).map(word).take_while(|&word| word != 0)
}

/// The value of the engine's first word of `cpu`: in engine lockless the current block and its next
/// slot.
pub(crate) fn first_word(cpu: i32) -> u64 {
    let word = words(cpu)
        .next()
        .map(::core::ptr::with_exposed_provenance::<u64>);
    // SAFETY: The first word of that engine has 8 bytes, and stays.
    word.map_or(0, |word| unsafe { word.read_volatile() })
}

/// The number of kinds of objects in core_test.c.
pub(crate) const FIELDS: i32 = sys::RCU_PTR_SHIM_FIELDS as i32;

/// Bytes of an object of kind `field`.
pub(crate) fn field_size(field: i32) -> usize {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_shim_field_size(field) }
}

/// The C macro `rcu_ptr_kvfree(object, f)` or `rcu_ptr_kfree_nolock(object, f)`.
///
/// # Safety
///
/// `object` is a live object of [`field_size()`] bytes that the caller owns.
pub(crate) unsafe fn field_free(field: i32, nolock: bool, object: NonNull<u8>) {
    // SAFETY: By the safety requirements of this function.
    unsafe { sys::rcu_ptr_shim_field_free(field, nolock, object.as_ptr().cast()) };
}

/// Every macro with NULL.
pub(crate) fn free_null() {
    // SAFETY: NULL is allowed.
    unsafe { sys::rcu_ptr_shim_free_null() };
}

/// Has the next preempt_enable() of this task reschedule.
///
/// # Context
///
/// A task with preemption enabled.
pub(crate) fn set_need_resched() {
    // SAFETY: No requirements; it is as if a tick had found another task to run.
    unsafe { sys::rcu_ptr_shim_set_need_resched() };
}
