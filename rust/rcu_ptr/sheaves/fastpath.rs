// SPDX-License-Identifier: GPL-2.0

//! The fast path: an object goes in or out by one operation on a word of this CPU, whatever the context.
//! What finds a sheaf used up goes on in [`exchange`]. No kernel in here: the host tests
//! compile it too.

use super::{
    cursor::{Cursor, LocalPtr},
    exchange::{self, CacheCpu, REUSE},
};
use crate::platform::LocalWord;

/// The words of a CPU that the fast path uses. Everything here is called with preemption disabled.
pub(crate) trait FastPath: Copy {
    /// A word of the CPU.
    type Word: LocalWord;
    /// That of the allocation sheaf.
    type Alloc: LocalWord;
    /// That of the rcu sheaf.
    type Rcu: LocalWord;

    /// The allocation sheaf.
    fn alloc(self) -> Cursor<Self::Alloc>;
    /// The rcu sheaf.
    fn rcu(self) -> Cursor<Self::Rcu>;
    /// Reuse slot `i`, below [`REUSE`]: for objects that are allocated again at once.
    fn reuse(self, i: usize) -> LocalPtr<Self::Word>;
    /// An object was put into such a slot.
    fn on_reuse_slot_filled(self);
}

/// Why there is no object for [`alloc()`].
pub(crate) enum Missed {
    /// The first reuse slot has one, for [`alloc_reused()`].
    Reuse,
    /// The allocation sheaf is used up.
    UsedUp,
}

/// What became of an object that was given back.
pub(crate) enum Freed {
    /// It was taken.
    Taken,
    /// The rcu sheaf is full.
    NoSlot,
    /// It was given back before, and is to be allocated again.
    Twice,
}

/// An object of the allocation sheaf.
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

/// What is in the first reuse slot, or an object of the allocation sheaf. `None`: that is used up.
#[inline]
pub(crate) fn alloc_reused(cpu: impl CacheCpu) -> Option<usize> {
    match exchange::take_reused(cpu, 0) {
        Some(object) if cpu.may_reuse(object) => Some(object),
        _ => cpu.alloc().reserve().map(|slot| slot.load()),
    }
}

/// Gives `object` back, to be allocated again at once.
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
    // A grace period does no harm, and it never needs the slab.
    if free_rcu(cpu, object) {
        Freed::Taken
    } else {
        Freed::NoSlot
    }
}

/// Gives `object` back, to be allocated again after a grace period. `false`: the rcu sheaf is full.
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
