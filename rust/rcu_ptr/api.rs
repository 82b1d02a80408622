// SPDX-License-Identifier: GPL-2.0

//! The interface behind include/linux/rcu_ptr.h: refuses what is plainly wrong and hands the rest
//! to the engine.

use crate::{
    engine::Engine,
    link::{LINK_ALIGN, MAX_OFFSET},
    rfc::Rfc,
    sheaf::Sheaves,
    sys::{
        debug::{self, Misuse},
        gp,
    },
};
use core::ptr::NonNull;

/// The engine in charge.
type Current = Rfc;

/// What is wrong with `object` and `field`, from their addresses alone.
#[inline]
fn check(object: NonNull<u8>, field: NonNull<u8>) -> Result<(), Misuse> {
    let (object, field) = (object.as_ptr() as usize, field.as_ptr() as usize);
    if (object & field) as isize >= 0 {
        // Kernel addresses have the topmost bit set.
        Err(Misuse::User)
    } else if (object | field) % LINK_ALIGN != 0 {
        Err(Misuse::Align)
    } else if field.wrapping_sub(object) >= MAX_OFFSET {
        Err(Misuse::Offset)
    } else {
        Ok(())
    }
}

#[cold]
fn refuse(what: Misuse, object: NonNull<u8>, field: NonNull<u8>, caller: usize) {
    Current::leaked();
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
    unsafe { Current::queue(object, field, caller) };
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
#[inline]
pub(crate) unsafe fn kfree_nolock(object: NonNull<u8>, field: NonNull<u8>, caller: usize) {
    if let Err(what) = check(object, field) {
        return refuse(what, object, field, caller);
    }
    // Debugobjects hear of it when the engine has left NMI.
    // SAFETY: By the safety requirements of this function, and checked above.
    unsafe { Current::queue_nolock(object, field, caller) };
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
    unsafe { Current::queue_mightsleep(object, caller) };
}

/// `rcu_ptr_word()`: where to watch an engine at work; see [`Engine::word()`].
///
/// # Context
///
/// Any but NMI.
pub(crate) fn word(cpu: i32, index: usize) -> usize {
    Current::word(cpu, index)
}

/// `rcu_ptr_barrier()`: waits for everything queued before the call.
///
/// # Context
///
/// May sleep.
pub(crate) fn barrier() {
    gp::might_sleep();
    Sheaves::get().barrier();
    // After the sheaves: a CPU without an empty one hands objects to the engine.
    Current::barrier();
}

/// Waits for everything that the engine was given before the call.
///
/// # Context
///
/// May sleep.
pub(crate) fn engine_barrier() {
    Current::barrier();
}
