// SPDX-License-Identifier: GPL-2.0

//! Behind the exports: what is misused is leaked with a warning, other objects go to the engine.
//!
//! The common path of engine `lockless` does not come through here: exports.rs checks [`is_sound()`] and
//! takes a slot itself, `lockless::insert_fast()`.

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

/// `rcu_ptr_kvfree()`: frees `object` after a grace period.
///
/// # Context
///
/// Any but NMI: interrupts may be off, raw spinlocks held, PREEMPT_RT.
///
/// # Safety
///
/// `object` is live and the caller's to free; `field` lies in it, 8 bytes long.
#[inline]
pub(crate) unsafe fn kvfree(object: NonNull<u8>, field: NonNull<u8>, caller: usize) {
    if let Err(what) = check(object, field) {
        return refuse(what, object, field, caller);
    }
    if !debug::queue(object) {
        return refuse(Misuse::Double, object, field, caller);
    }
    // SAFETY: By the safety requirements of this function, and checked above.
    unsafe { engine!(queue(object, field, caller)) };
}

/// `rcu_ptr_kfree_nolock()`: frees `object` after a grace period.
///
/// # Context
///
/// Any, NMI included.
///
/// # Safety
///
/// As for [`kvfree()`].
#[inline(always)]
pub(crate) unsafe fn kfree_nolock(object: NonNull<u8>, field: NonNull<u8>, caller: usize) {
    if let Err(what) = check(object, field) {
        return refuse(what, object, field, caller);
    }
    // debugobjects is told after the engine has left NMI.
    // SAFETY: By the safety requirements of this function, and checked above.
    unsafe { engine!(queue_nolock(object, field, caller)) };
}

/// `rcu_ptr_try_kfree_nolock()`: frees `object`, which needs no field, after a grace period.
/// `false`: there is no room for it.
///
/// # Context
///
/// Any, NMI included.
///
/// # Safety
///
/// `object` is live and the caller's to free.
pub(crate) unsafe fn try_kfree_nolock(object: NonNull<u8>, caller: usize) -> bool {
    if let Err(what) = check(object, object) {
        refuse(what, object, object, caller);
        return true;
    }
    // SAFETY: By the safety requirements of this function, and checked above.
    unsafe { engine!(try_queue_nolock(object, caller)) }
}

/// `rcu_ptr_kvfree_mightsleep()`: frees `object`, which needs no field.
///
/// # Context
///
/// May sleep.
///
/// # Safety
///
/// `object` is live and the caller's to free.
pub(crate) unsafe fn kvfree_mightsleep(object: NonNull<u8>, caller: usize) {
    gp::might_sleep();
    if let Err(what) = check(object, object) {
        return refuse(what, object, object, caller);
    }
    if !debug::queue(object) {
        return refuse(Misuse::Double, object, object, caller);
    }
    // SAFETY: By the safety requirements of this function, and checked above.
    unsafe { engine!(queue_mightsleep(object, caller)) };
}

/// `rcu_ptr_call()`, or `rcu_ptr_call_sleepable()`: calls `func` for the head at `head` after a grace period.
///
/// # Context
///
/// Any, NMI included.
///
/// # Safety
///
/// A valid `struct rcu_head`, the caller's to give away; `func` may be called for it in the context that the
/// function names.
pub(crate) unsafe fn call(head: *mut u8, func: Option<Func>, sleeps: bool, caller: usize) {
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
    // SAFETY: By the safety requirements of this function.
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

/// `rcu_ptr_word()`: where to watch an engine at work; see [`Engine::word()`].
///
/// # Context
///
/// Any but NMI.
#[cfg_attr(not(RCU_PTR_TEST), allow(dead_code))]
pub(crate) fn word(cpu: i32, index: usize) -> usize {
    engine!(word(cpu, index))
}

/// `rcu_ptr_barrier()`: waits for everything queued before the call.
///
/// # Context
///
/// May sleep.
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

/// Waits for everything that the engine was given before the call.
///
/// # Context
///
/// May sleep.
pub(crate) fn engine_barrier() {
    engine!(barrier());
}

/// Frees cached blocks beyond a limit that was set just now.
///
/// # Context
///
/// Process context, interrupts on.
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

/// Counters and gauges of each possible CPU.
///
/// # Context
///
/// Any but NMI.
pub(crate) fn gauges() -> impl Iterator<Item = Gauges> {
    percpu::possible_cpus().map(|cpu| engine!(gauges(cpu)))
}
