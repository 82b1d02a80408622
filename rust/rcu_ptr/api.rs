// SPDX-License-Identifier: GPL-2.0

//! The calls that free or queue, in front of the engines: misused objects are leaked with a
//! warning, the others are queued by the engine that was chosen at load.
//!
//! The fast path of engine `lockless` does not come through here: exports.rs checks [`is_sound()`]
//! and stores the object itself.
//!
//! Functions that are named like one of include/linux/rcu_ptr.h have its contract and context.

use crate::{
    calls::Calls,
    engine::{Engine, Gauges},
    entry::Call,
    link::{LINK_ALIGN, MAX_OFFSET},
    lockless::Lockless,
    packing::KERNEL_BIT,
    rfc::Rfc,
    sheaves::Sheaves,
    sys::{
        callback::{self, Func},
        context, current_block,
        debug::{self, Misuse},
        gp, percpu,
        preempt::PreemptOff,
    },
};
use core::ptr::NonNull;

/// Calls a function of the active engine: a static branch, no indirect call.
macro_rules! engine {
    ($function:ident($($arg:expr),*)) => {
        if current_block::is_lockless() {
            Lockless::$function($($arg),*)
        } else {
            Rfc::$function($($arg),*)
        }
    };
}

/// Whether `object` and `field` are aligned kernel addresses, and `field` is less than
/// [`MAX_OFFSET`] bytes after `object`. In few instructions, as every call checks it.
#[inline(always)]
pub(crate) fn is_sound(object: *mut u8, field: *mut u8) -> bool {
    // Distance and alignment of the field in one test.
    const BEYOND: usize = !(MAX_OFFSET - LINK_ALIGN);
    (field as usize).wrapping_sub(object as usize) & BEYOND == 0 && is_sound_head(object)
}

/// As [`is_sound()`], for a head.
#[inline(always)]
pub(crate) fn is_sound_head(head: *mut u8) -> bool {
    let head = head as usize;
    head % LINK_ALIGN == 0 && head >> KERNEL_BIT & 1 != 0
}

/// Classifies what [`is_sound()`] has rejected.
#[cold]
fn misuse_of(object: NonNull<u8>, field: NonNull<u8>) -> Misuse {
    let (object, field) = (object.addr().get(), field.addr().get());
    if (object | field) >> KERNEL_BIT & 1 == 0 {
        Misuse::User
    } else if (object | field) % LINK_ALIGN != 0 {
        Misuse::Align
    } else {
        Misuse::Offset
    }
}

/// Returns the object and its field, or `None` if they are NULL or misused: then nothing is left to
/// do.
///
/// NULL is not sound either, so it needs no test of its own where nothing is wrong.
#[inline(always)]
fn check(ptr: *mut u8, field: *mut u8, caller: usize) -> Option<(NonNull<u8>, NonNull<u8>)> {
    if is_sound(ptr, field) {
        // SAFETY: A kernel address, and one less than `MAX_OFFSET` above it, in an object that
        // begins there: none lies at the end of the address space, from where that would wrap.
        return Some(unsafe { (NonNull::new_unchecked(ptr), NonNull::new_unchecked(field)) });
    }
    report_unsound(ptr, field, caller);
    None
}

/// Reports what [`check()`] rejected.
#[cold]
fn report_unsound(ptr: *mut u8, field: *mut u8, caller: usize) {
    // The macros skip NULL; a direct call with it is ignored as well.
    if let (Some(object), Some(field)) = (NonNull::new(ptr), NonNull::new(field)) {
        report_misuse(misuse_of(object, field), object, field, caller);
    }
}

/// Counts misuse and warns. The object is leaked, or freed once if it is queued already.
#[cold]
fn report_misuse(what: Misuse, object: NonNull<u8>, field: NonNull<u8>, caller: usize) {
    engine!(count_leaked());
    debug::warn(what, object.as_ptr(), field.as_ptr(), caller);
}

/// `rcu_ptr_kvfree()`.
///
/// # Safety
///
/// `ptr` is NULL, or live and the caller's to free; `field` lies in the object, 8 bytes long.
#[inline(always)]
pub(crate) unsafe fn kvfree(ptr: *mut u8, field: *mut u8, caller: usize) {
    let Some((object, field)) = check(ptr, field, caller) else {
        return;
    };
    if !debug::queue(object) {
        return report_misuse(Misuse::Double, object, field, caller);
    }
    // SAFETY: By the safety requirements of this function, and checked above.
    unsafe { engine!(queue(object, field, caller)) };
}

/// `rcu_ptr_kfree_nolock()`.
///
/// # Safety
///
/// As for [`kvfree()`].
#[inline(always)]
pub(crate) unsafe fn kfree_nolock(ptr: *mut u8, field: *mut u8, caller: usize) {
    let Some((object, field)) = check(ptr, field, caller) else {
        return;
    };
    // debugobjects can't be called in NMI: a worker of the engine registers the object.
    // SAFETY: By the safety requirements of this function, and checked above.
    unsafe { engine!(queue_nolock(object, field, caller)) };
}

/// `rcu_ptr_try_kfree_nolock()`.
///
/// # Safety
///
/// `ptr` is NULL, or live and the caller's to free.
#[inline(always)]
pub(crate) unsafe fn try_kfree_nolock(ptr: *mut u8, caller: usize) -> bool {
    let Some((object, _)) = check(ptr, ptr, caller) else {
        return true;
    };
    // SAFETY: By the safety requirements of this function, and checked above.
    unsafe { engine!(try_queue_nolock(object, caller)) }
}

/// `rcu_ptr_kvfree_mightsleep()`.
///
/// # Safety
///
/// As for [`try_kfree_nolock()`].
#[inline(always)]
pub(crate) unsafe fn kvfree_mightsleep(ptr: *mut u8, caller: usize) {
    if ptr.is_null() {
        return;
    }
    gp::might_sleep();
    let Some((object, _)) = check(ptr, ptr, caller) else {
        return;
    };
    if !debug::queue(object) {
        return report_misuse(Misuse::Double, object, object, caller);
    }
    // SAFETY: By the safety requirements of this function, and checked above.
    unsafe { engine!(queue_mightsleep(object, caller)) };
}

/// `rcu_ptr_call()`, or `rcu_ptr_call_sleepable()` if `sleeps`.
///
/// # Safety
///
/// `head` is a valid `struct rcu_head` and the caller's to give away.
#[inline(always)]
pub(crate) unsafe fn call(head: *mut u8, func: Option<Func>, sleeps: bool, caller: usize) {
    // NULL is no kernel address.
    let start = NonNull::new(head).unwrap_or(NonNull::dangling());
    if !is_sound_head(head) {
        engine!(count_leaked());
        let what = misuse_of(start, start);
        return debug::warn(what, head, head, caller);
    }
    let Some(func) = func else {
        return report_misuse(Misuse::NoFunc, start, start, caller);
    };
    let mut call = Call::new(head, sleeps);
    if debug::OBJECTS && may_call_debugobjects() {
        if !debug::queue(start) {
            return report_misuse(Misuse::Double, start, start, caller);
        }
        call = call.tracked();
    }
    // SAFETY: By the safety requirements of this function.
    unsafe { callback::set_func(head, func) };
    // SAFETY: As above.
    unsafe { engine!(call(call, caller)) };
}

/// Whether debugobjects may be called: its locks are taken with interrupts off only, so none of
/// them is held by what this interrupted.
fn may_call_debugobjects() -> bool {
    let _on = PreemptOff::new();
    context::may_lock()
}

/// [`Engine::watch_address()`] of the engine.
#[cfg_attr(not(RCU_PTR_TEST), allow(dead_code, reason = "for tests"))]
pub(crate) fn watch_address(cpu: i32, index: usize) -> usize {
    engine!(watch_address(cpu, index))
}

/// `rcu_ptr_barrier()`.
pub(crate) fn barrier() {
    gp::might_sleep();
    // The caches first: a CPU without an empty sheaf passes objects on to the engine.
    Sheaves::get().barrier(engine_barrier);
    wait_for_calls();
}

/// Waits until all callbacks that were ready before the call have returned.
fn wait_for_calls() {
    let all = || percpu::possible_cpus().map(|cpu| -> &'static Calls { engine!(calls(cpu)) });
    if all().any(Calls::is_caller) {
        return callback::warn_waits_for_itself();
    }
    callback::will_wait();
    all().for_each(Calls::wait);
}

/// `__rcu_ptr_barrier_objects()`: waits for the objects that were queued before the call.
pub(crate) fn engine_barrier() {
    engine!(barrier());
}

/// [`Engine::trim()`].
pub(crate) fn trim() {
    engine!(trim());
}

/// Applies a drain interval that was set just now.
///
/// # Context
///
/// Process context, interrupts on; may sleep.
pub(crate) fn update_drain_interval() {
    engine!(update_drain_interval());
    Sheaves::get().update_drain_interval();
}

/// [`Engine::gauges()`] of each possible CPU.
pub(crate) fn gauges() -> impl Iterator<Item = Gauges> {
    percpu::possible_cpus().map(|cpu| engine!(gauges(cpu)))
}
