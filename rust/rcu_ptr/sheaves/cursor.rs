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
//!    ([`Quiescent`]).
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
//! others, and makes some ([`Cursor::rewind()`]): contexts that nest before that
//! look is over are not covered.

use super::{
    geometry::{Slot, SHEAF_BYTES, SLOTS},
    sheaf::{Closed, Install, Installed, SheafChain, END, MASK, STRIDE},
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
pub(crate) struct Quiescent(());

impl Quiescent {
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
    pub(crate) fn exceeds_nesting(self) -> bool {
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
    pub(crate) fn rewind(self, seen: UsedUp) {
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

/// The value of a [`LocalPtr`] that is disabled for good.
pub(crate) const DISABLED: usize = 1;

/// A slot for one pointer; 0: empty.
///
/// The context that changes a value to 0 owns it. ABA does no harm: a value that was taken and put back in
/// between is owned by the slot again.
#[derive(Clone, Copy)]
pub(crate) struct LocalPtr<W>(pub(crate) W);

impl<W: LocalWord> LocalPtr<W> {
    /// Returns whether it holds a pointer, or is disabled ([`DISABLED`]).
    #[inline(always)]
    pub(crate) fn is_set(self) -> bool {
        self.0.load() != 0
    }

    /// Takes what is there.
    #[inline(always)]
    pub(crate) fn take(self) -> Option<usize> {
        let mut value = self.0.load();
        while value > DISABLED {
            match self.0.cmpxchg(value, 0) {
                was if was == value => return Some(value),
                was => value = was,
            }
        }
        None
    }

    /// Whether `value` is there.
    #[inline(always)]
    pub(crate) fn is(self, value: usize) -> bool {
        self.0.load() == value
    }

    /// Takes `value` if it is there. Returns whether it was.
    #[inline]
    pub(crate) fn remove(self, value: usize) -> bool {
        self.0.load() == value && self.0.cmpxchg(value, 0) == value
    }

    /// Puts `value` there if nothing is. Returns whether it did.
    #[inline(always)]
    pub(crate) fn put(self, value: usize) -> bool {
        self.0.load() == 0 && self.0.cmpxchg(0, value) == 0
    }
}

/// Closed sheaves of this CPU, newest first. Pushed one by one and taken all at once, so that ABA does
/// no harm to a push.
#[derive(Clone, Copy)]
pub(crate) struct LocalList<W> {
    pub(crate) head: W,
    /// The count, for other CPUs to read.
    pub(crate) len: W,
}

impl<W: LocalWord> LocalList<W> {
    /// Adds `sheaf`. Returns how many there are.
    #[inline]
    pub(crate) fn push(self, sheaf: Closed) -> usize {
        self.len.fetch_add(1);
        let mut old = self.head.load();
        loop {
            // SAFETY: A sheaf that was pushed here. If a context that came in between has taken it, it
            // waits for a grace period, and this one for that context: preemption is off.
            let len = unsafe { sheaf.link(old) };
            match self.head.cmpxchg(old, sheaf.addr()) {
                was if was == old => return len,
                was => old = was,
            }
        }
    }

    /// Takes everything.
    #[inline]
    pub(crate) fn take(self) -> SheafChain {
        if self.head.load() == 0 {
            return SheafChain::new();
        }
        // SAFETY: What the word leads to was pushed here, and is this caller's from now on.
        let chain = unsafe { SheafChain::from_first(self.head.xchg(0)) };
        self.len.fetch_add(chain.len().wrapping_neg());
        chain
    }
}
