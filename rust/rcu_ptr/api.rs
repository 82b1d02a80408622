// SPDX-License-Identifier: GPL-2.0

//! Behind the exports: what is misused is leaked with a warning, other objects go to the engine.
//!
//! The common path of engine `lockless` does not come through here: exports.rs checks [`is_sound()`] and
//! takes a slot itself, `lockless::insert_fast()`.
//!
//! Context and contract of what is called as a function of include/linux/rcu_ptr.h are those that it has there: objects
//! and heads are live and the caller's to give away, fields lie in their objects.

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
        callback, context, current_block,
        debug::{self, Misuse},
        gp, percpu,
        preempt::PreemptOff,
    },
};
use core::ptr::NonNull;
use kernel::{
    bindings::{callback_head, rcu_callback_t},
    prelude::*,
};

/// Calls a function of the active engine: a static branch, no indirect call.
macro_rules! engine {
    ($function:ident($($arg:expr),*)) => {
        if current_block::in_charge() {
            Lockless::$function($($arg),*)
        } else {
            Rfc::$function($($arg),*)
        }
    };
}

/// Whether the addresses alone show that nothing is wrong, in few instructions: they are part of every
/// call.
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

/// What is wrong with `object` and `field` where [`is_sound()`] says that something is.
#[cold]
fn misuse_of(object: NonNull<u8>, field: NonNull<u8>) -> Misuse {
    let (object, field) = (object.addr().get(), field.addr().get());
    if (object & field) >> KERNEL_BIT & 1 == 0 {
        Misuse::User
    } else if (object | field) % LINK_ALIGN != 0 {
        Misuse::Align
    } else {
        Misuse::Offset
    }
}

#[inline]
fn check(object: NonNull<u8>, field: NonNull<u8>) -> Result<(), Misuse> {
    if is_sound(object.as_ptr(), field.as_ptr()) {
        Ok(())
    } else {
        Err(misuse_of(object, field))
    }
}

#[cold]
fn refuse(what: Misuse, object: NonNull<u8>, field: NonNull<u8>, caller: usize) {
    engine!(count_leaked());
    debug::warn(what, object.as_ptr(), field.as_ptr(), caller);
}

/// `rcu_ptr_kvfree()`.
#[no_mangle]
pub(crate) extern "C" fn rcu_ptr_rs_kvfree(field: *mut c_void, ptr: *mut c_void, caller: c_ulong) {
    // The macro has sorted NULL out; a direct call with one is as harmless.
    let (Some(field), Some(object)) = (NonNull::new(field.cast()), NonNull::new(ptr.cast())) else {
        return;
    };
    if let Err(what) = check(object, field) {
        return refuse(what, object, field, caller);
    }
    if !debug::queue(object) {
        return refuse(Misuse::Double, object, field, caller);
    }
    // SAFETY: The contract of this function, and checked above.
    unsafe { engine!(queue(object, field, caller)) };
}

/// `rcu_ptr_kfree_nolock()`.
#[no_mangle]
pub(crate) extern "C" fn rcu_ptr_rs_kfree_nolock(
    field: *mut c_void,
    ptr: *mut c_void,
    caller: c_ulong,
) {
    if let (Some(field), Some(object)) = (NonNull::new(field.cast()), NonNull::new(ptr.cast())) {
        // SAFETY: The contract of this function.
        unsafe { kfree_nolock(object, field, caller) };
    }
}

/// The same for an object that is there.
///
/// # Safety
///
/// `object` is live and the caller's to free; `field` lies in it, 8 bytes long.
#[inline(always)]
pub(crate) unsafe fn kfree_nolock(object: NonNull<u8>, field: NonNull<u8>, caller: usize) {
    if let Err(what) = check(object, field) {
        return refuse(what, object, field, caller);
    }
    // debugobjects is told after the engine has left NMI.
    // SAFETY: By the safety requirements of this function, and checked above.
    unsafe { engine!(queue_nolock(object, field, caller)) };
}

/// `rcu_ptr_try_kfree_nolock()`. `false`: there is no room for it.
#[no_mangle]
extern "C" fn rcu_ptr_rs_try_kfree_nolock(ptr: *mut c_void, caller: c_ulong) -> bool {
    let Some(object) = NonNull::new(ptr.cast()) else {
        return true;
    };
    if let Err(what) = check(object, object) {
        refuse(what, object, object, caller);
        return true;
    }
    // SAFETY: The contract of this function, and checked above.
    unsafe { engine!(try_queue_nolock(object, caller)) }
}

/// `rcu_ptr_kvfree_mightsleep()`.
#[no_mangle]
extern "C" fn rcu_ptr_rs_kvfree_mightsleep(ptr: *mut c_void, caller: c_ulong) {
    let Some(object) = NonNull::new(ptr.cast()) else {
        return;
    };
    gp::might_sleep();
    if let Err(what) = check(object, object) {
        return refuse(what, object, object, caller);
    }
    if !debug::queue(object) {
        return refuse(Misuse::Double, object, object, caller);
    }
    // SAFETY: The contract of this function, and checked above.
    unsafe { engine!(queue_mightsleep(object, caller)) };
}

/// `rcu_ptr_call()`, or with `sleeps` `rcu_ptr_call_sleepable()`.
#[no_mangle]
extern "C" fn rcu_ptr_rs_call(
    head: *mut callback_head,
    func: rcu_callback_t,
    sleeps: bool,
    caller: c_ulong,
) {
    let head = head.cast();
    // NULL is no kernel address.
    let start = NonNull::new(head).unwrap_or(NonNull::dangling());
    if !is_sound_head(head) {
        engine!(count_leaked());
        let what = misuse_of(start, start);
        return debug::warn(what, head, head, caller);
    }
    let Some(func) = func else {
        return refuse(Misuse::NoFunc, start, start, caller);
    };
    let mut call = Call::new(head, sleeps);
    if debug::OBJECTS && may_call_debugobjects() {
        if !debug::queue(start) {
            return refuse(Misuse::Double, start, start, caller);
        }
        call = call.tracked();
    }
    // SAFETY: The contract of this function.
    unsafe { callback::set_func(head, func) };
    // SAFETY: As above.
    unsafe { engine!(call(call, caller)) };
}

/// Whether debugobjects may be called: none of its locks is held on this CPU, which are only taken with
/// interrupts off.
fn may_call_debugobjects() -> bool {
    let _on = PreemptOff::new();
    context::may_lock()
}

/// `rcu_ptr_word()`: [`Engine::word()`].
#[cfg_attr(not(RCU_PTR_TEST), allow(dead_code))]
pub(crate) fn word(cpu: i32, index: usize) -> usize {
    engine!(word(cpu, index))
}

/// `rcu_ptr_barrier()`.
pub(crate) fn barrier() {
    gp::might_sleep();
    // First the caches: a CPU without an empty sheaf hands objects to the engine.
    Sheaves::get().barrier(engine_barrier);
    wait_for_calls();
}

/// Waits until the callbacks have returned whose grace period is over.
fn wait_for_calls() {
    let all = || percpu::possible_cpus().map(|cpu| -> &'static Calls { engine!(calls(cpu)) });
    if all().any(Calls::is_caller) {
        return callback::warn_waits_for_itself();
    }
    callback::will_wait();
    all().for_each(Calls::wait);
}

/// `__rcu_ptr_barrier_objects()`: waits for what the engine was given before the call.
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
