// SPDX-License-Identifier: GPL-2.0

//! The fast path: an object is allocated or freed by one operation on a word of this CPU, in any
//! context. [`exchange`] continues if the sheaf is used up. No kernel dependencies: compiled by the
//! host tests.

use super::{
    cursor::{Cursor, LocalPtr},
    exchange::{self, CacheCpu, REUSE},
};
use crate::platform::LocalWord;

/// The words of a CPU that the fast path uses. Called with preemption disabled.
pub(crate) trait FastPath: Copy {
    /// A word of the CPU.
    type Word: LocalWord;
    /// Access to the cursor of the allocation sheaf.
    type Alloc: LocalWord;
    /// Access to the cursor of the rcu sheaf.
    type Rcu: LocalWord;

    fn alloc(self) -> Cursor<Self::Alloc>;
    fn rcu(self) -> Cursor<Self::Rcu>;
    /// Reuse slot `i`, below [`REUSE`].
    fn reuse(self, i: usize) -> LocalPtr<Self::Word>;
    /// Called after an object was put into a reuse slot.
    fn on_reuse_slot_filled(self);
}

/// Why [`alloc()`] returned no object.
pub(crate) enum Missed {
    /// The first reuse slot has an object, for [`alloc_reused()`].
    Reuse,
    /// The allocation sheaf is used up.
    UsedUp,
}

/// Result of [`free()`].
pub(crate) enum Freed {
    /// The object was stored.
    Taken,
    /// The rcu sheaf is used up.
    NoSlot,
    /// Double free: the object is in a reuse slot already.
    Twice,
}

/// Allocates an object from the allocation sheaf.
#[inline(always)]
pub(crate) fn alloc(cpu: impl FastPath) -> Result<usize, Missed> {
    if cpu.reuse(0).is_set() {
        return Err(Missed::Reuse);
    }
    match cpu.alloc().reserve() {
        Some(slot) => Ok(slot.load()),
        None => Err(Missed::UsedUp),
    }
}

/// Allocates the object in the first reuse slot, or one from the allocation sheaf. Returns `None`
/// if that is used up.
#[inline]
pub(crate) fn alloc_reused(cpu: impl CacheCpu) -> Option<usize> {
    match exchange::take_reused(cpu, 0) {
        Some(object) if cpu.may_reuse(object) => Some(object),
        _ => cpu.alloc().reserve().map(|slot| slot.load()),
    }
}

/// Frees `object` for immediate reuse.
#[inline(always)]
pub(crate) fn free(cpu: impl FastPath, object: usize) -> Freed {
    for i in 0..REUSE {
        let slot = cpu.reuse(i);
        if slot.put(object) {
            cpu.on_reuse_slot_filled();
            return Freed::Taken;
        }
        if slot.is(object) {
            return Freed::Twice;
        }
    }
    // Waiting for a grace period is always allowed.
    if free_rcu(cpu, object) {
        Freed::Taken
    } else {
        Freed::NoSlot
    }
}

/// Frees `object` for reuse after a grace period. Returns `false` if the rcu sheaf is used up.
#[inline(always)]
#[must_use]
pub(crate) fn free_rcu(cpu: impl FastPath, object: usize) -> bool {
    match cpu.rcu().reserve() {
        Some(slot) => {
            slot.store(object);
            true
        }
        None => false,
    }
}
