// SPDX-License-Identifier: GPL-2.0

//! The cursor: one word of a CPU that says which sheaf is installed and which slot is next.
//!
//! A slot is reserved by one addition, in any context of that CPU: there is nothing between finding
//! the sheaf and taking the slot that an NMI could come into. Reads and writes of the slot follow,
//! and the context may be interrupted before. So:
//!
//! 1. A slot of the rcu sheaf is read a grace period after the sheaf was closed. Every context that
//!    had reserved a slot runs with preemption disabled, which the grace period waits for.
//! 2. An emptied allocation sheaf is filled or freed a grace period after it was retired, for the
//!    same reason; or where no context of the CPU can be interrupted in the middle of an operation
//!    ([`Undisturbed`]).
//! 3. A cursor is only exchanged on its own CPU, or on another once that CPU is dead. So the grace
//!    period of 1 begins after everything that the contexts of the CPU did before they reserved:
//!    the objects in those slots were out of readers' reach.
//!
//! The word is the address of the slot plus the bytes of the head, so that it wraps into the first
//! part of a sheaf's bytes just when the slots are used up: one test of a few bits tells.
//!
//! A context that comes too late adds all the same, and leaves the cursor behind the last slot. It
//! puts it right before it enables preemption again (`install()` or `remove()`). So a cursor is
//! never further behind than contexts can be nested on a CPU, and the head of the sheaf is longer
//! than that. Where more are nested after all, each looks first thing whether there is still room for
//! others, and makes some ([`Cursor::take_back()`]): contexts that nest before that
//! look is over are not covered.

use super::{
    geometry::{Slot, SHEAF_BYTES, SLOTS},
    sheaf::{Install, Installed, END, MASK, STRIDE},
};
use crate::platform::LocalWord;
use core::ptr::with_exposed_provenance;

/// What a cursor is ahead of its slot.
const AHEAD: usize = SHEAF_BYTES - END;

/// No sheaf.
pub(crate) const NONE: usize = END + AHEAD;

/// Contexts that can be nested on a CPU: task, softirq, interrupt, NMI, and exceptions inside. Where
/// there are more, the cursor is taken back for them.
const MAX_NESTED: usize = 6;
const _: () = assert!(
    AHEAD / STRIDE > MAX_NESTED,
    "cursors may run into the next sheaf"
);

/// Proof that no context of this CPU is interrupted in the middle of an operation on its sheaves.
///
/// # Invariants
///
/// The value lives in a context that was preemptible before it came here, with preemption disabled since;
/// or no context of the CPU will ever run again.
pub(crate) struct Undisturbed(());

impl Undisturbed {
    /// States it.
    ///
    /// # Safety
    ///
    /// The type invariants hold while the value lives.
    pub(crate) const unsafe fn assume() -> Self {
        // INVARIANT: By the safety requirements of this function.
        Self(())
    }
}

/// A cursor on this CPU.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<W>(pub(crate) W);

/// A cursor was seen behind the last slot.
#[derive(Clone, Copy)]
pub(crate) struct UsedUp(usize);

impl UsedUp {
    /// Whether more contexts have moved the cursor behind the last slot than it has room for.
    pub(crate) fn is_too_far(self) -> bool {
        (self.0 & MASK) / STRIDE > MAX_NESTED
    }
}

/// The slot that `cursor` has next, of a sheaf that is installed: for people, and for memory reclaim.
pub(crate) fn next_slot(cursor: usize) -> Option<usize> {
    (cursor.wrapping_sub(AHEAD) & !MASK != 0).then(|| slot_of(cursor))
}

/// Which slot a cursor value means: [`SLOTS`] when it is behind the last.
fn slot_of(cursor: usize) -> usize {
    ((cursor.wrapping_sub(AHEAD) & MASK) / STRIDE).min(SLOTS)
}

impl<W: LocalWord> Cursor<W> {
    /// Reserves the next slot for this context.
    #[inline(always)]
    pub(crate) fn reserve<'a>(self) -> Option<&'a Slot> {
        let cursor = self.0.fetch_add(STRIDE);
        if cursor & MASK >= AHEAD {
            // SAFETY: A cursor before the end stands for a slot of the installed sheaf, which lives
            // until a grace period after this context (2 above).
            Some(unsafe { &*with_exposed_provenance::<Slot>(cursor.wrapping_sub(AHEAD)) })
        } else {
            None
        }
    }

    /// Whether the cursor is behind the last slot; and if so, the value to put right.
    pub(crate) fn used_up(self) -> Option<UsedUp> {
        let cursor = self.0.load();
        (cursor & MASK < AHEAD).then_some(UsedUp(cursor))
    }

    /// Takes the cursor of a used-up sheaf back to just behind its last slot, unless another context
    /// did something first.
    pub(crate) fn take_back(self, seen: UsedUp) {
        self.0.cmpxchg(seen.0, seen.0 & !MASK);
    }

    /// Whether there is a sheaf.
    pub(crate) fn is_installed(self) -> bool {
        next_slot(self.0.load()).is_some()
    }

    /// Exchanges a used-up sheaf for `sheaf`. Gives `sheaf` back where another context did
    /// something first.
    ///
    /// The value may have been away and back: another used-up sheaf is as good.
    pub(crate) fn install<S: Install>(
        self,
        seen: UsedUp,
        sheaf: S,
    ) -> Result<Option<Installed>, S> {
        if self.0.cmpxchg(seen.0, sheaf.first_slot() + AHEAD) != seen.0 {
            return Err(sheaf);
        }
        // SAFETY: Exchanged just now.
        Ok(unsafe { installed(seen.0) })
    }

    /// Removes a used-up sheaf. `Err`: another context did something first.
    pub(crate) fn remove(self, seen: UsedUp) -> Result<Option<Installed>, ()> {
        if self.0.cmpxchg(seen.0, NONE) != seen.0 {
            return Err(());
        }
        // SAFETY: Exchanged just now.
        Ok(unsafe { installed(seen.0) })
    }

    /// Removes whatever sheaf there is, and says which slot was next.
    pub(crate) fn close(self) -> Option<(Installed, usize)> {
        let cursor = self.0.xchg(NONE);
        // SAFETY: Exchanged just now.
        unsafe { from_value(cursor) }
    }
}

/// # Safety
///
/// `cursor` was exchanged for another by the caller.
unsafe fn installed(cursor: usize) -> Option<Installed> {
    // SAFETY: By the safety requirements of this function.
    unsafe { from_value(cursor) }.map(|(sheaf, _)| sheaf)
}

/// The sheaf of a cursor, and the slot that was next.
///
/// # Safety
///
/// `cursor` was exchanged for another by the caller.
pub(crate) unsafe fn from_value(cursor: usize) -> Option<(Installed, usize)> {
    let slot = cursor.wrapping_sub(AHEAD);
    (slot & !MASK != 0).then(|| {
        // SAFETY: By the safety requirements of this function.
        (unsafe { Installed::from_slot(slot) }, slot_of(cursor))
    })
}
