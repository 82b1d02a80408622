// SPDX-License-Identifier: GPL-2.0

//! The words of a CPU that its contexts share: cursors, pointers, and lists of closed sheaves. No
//! kernel dependencies: compiled by the host tests.
//!
//! A cursor names the installed sheaf and its next slot in one word. A context reserves a slot by
//! one addition, so an NMI can't intervene between finding the sheaf and reserving the slot. The
//! slot is accessed later, and the context may be interrupted before. Therefore:
//!
//! 1. A slot of the rcu sheaf is read a grace period after the sheaf was closed. Every context that
//!    had reserved a slot runs with preemption disabled, which the grace period waits for.
//! 2. An emptied allocation sheaf is filled or freed a grace period after it was retired, for the
//!    same reason; or where no context of the CPU can be in the middle of an operation
//!    ([`Quiescent`]).
//! 3. A cursor is only exchanged on its own CPU, or on another once that CPU no longer uses it: it
//!    is dead, or the cache is destroyed. So the grace period of 1 begins after all that contexts
//!    of the CPU did before they reserved: readers could no longer find the objects in those slots.
//!
//! The word is the address of the slot plus the bytes of the head, so that it wraps into the first
//! bytes of a sheaf when the slots are used up: a test of a few bits detects that.
//!
//! A context that finds no slot has advanced the cursor anyway. It corrects the cursor before it
//! enables preemption (`install()` or `remove()`). So a cursor is never further past the last
//! slot than contexts can nest on a CPU, and the head of the sheaf is longer than that. If more are
//! nested, each first checks for headroom and makes room ([`Cursor::rewind()`]); contexts that nest
//! before that check are not covered.

use super::{
    geometry::{Slot, SHEAF_BYTES, SLOTS},
    sheaf::{Closed, Install, Installed, SheafChain, END, MASK, STRIDE},
};
use crate::platform::{LocalWord, MAX_ALLOCATING};
use core::ptr::with_exposed_provenance;

/// Distance of a cursor from its slot.
const AHEAD: usize = SHEAF_BYTES - END;

/// Value of a cursor without a sheaf.
pub(crate) const NONE: usize = END + AHEAD;

/// Contexts that can nest on a CPU: task, softirq, interrupt, NMI, and exceptions inside. If there
/// are more, the cursor is rewound.
const MAX_NESTED: usize = 6;
const _: () = assert!(
    AHEAD / STRIDE > MAX_NESTED,
    "cursors may run into the next sheaf"
);

/// Proof that no context of this CPU is in the middle of an operation on its sheaves.
///
/// # Invariants
///
/// The value lives in a context that was preemptible before it came here, with preemption disabled
/// since; or no context of the CPU uses the cache as long as the value lives.
pub(crate) struct Quiescent(());

impl Quiescent {
    /// Creates the proof.
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

/// The value of a cursor past the last slot.
#[derive(Clone, Copy)]
pub(crate) struct UsedUp(usize);

impl UsedUp {
    /// Whether more contexts than expected have advanced the cursor past the last slot.
    pub(crate) fn exceeds_nesting(self) -> bool {
        self.contexts() > MAX_NESTED
    }

    /// Whether a sheaf may be allocated: not by more than [`MAX_ALLOCATING`] contexts.
    pub(crate) fn may_allocate(self) -> bool {
        self.contexts() <= MAX_ALLOCATING
    }

    /// Contexts that have found no slot, and are not done yet.
    fn contexts(self) -> usize {
        (self.0 & MASK) / STRIDE
    }
}

/// The next slot of `cursor`, if a sheaf is installed. For statistics and the shrinker.
pub(crate) fn next_slot(cursor: usize) -> Option<usize> {
    (cursor.wrapping_sub(AHEAD) & !MASK != 0).then(|| slot_of(cursor))
}

/// The slot of a cursor value; [`SLOTS`] if it is past the last.
fn slot_of(cursor: usize) -> usize {
    ((cursor.wrapping_sub(AHEAD) & MASK) / STRIDE).min(SLOTS)
}

impl<W: LocalWord> Cursor<W> {
    /// Reserves the next slot for this context.
    #[inline(always)]
    pub(crate) fn reserve<'a>(self) -> Option<&'a Slot> {
        let cursor = self.0.fetch_add(STRIDE);
        if cursor & MASK >= AHEAD {
            // SAFETY: A cursor before the end is that of a slot of the installed sheaf, which lives
            // until a grace period after this context (2 above).
            Some(unsafe { &*with_exposed_provenance::<Slot>(cursor.wrapping_sub(AHEAD)) })
        } else {
            None
        }
    }

    /// Returns the value of the cursor if it is past the last slot.
    pub(crate) fn used_up(self) -> Option<UsedUp> {
        let cursor = self.0.load();
        (cursor & MASK < AHEAD).then_some(UsedUp(cursor))
    }

    /// Moves the cursor of a used-up sheaf back to just past its last slot, unless another
    /// context changed it first.
    pub(crate) fn rewind(self, seen: UsedUp) {
        self.0.cmpxchg(seen.0, seen.0 & !MASK);
    }

    /// Whether a sheaf is installed.
    pub(crate) fn is_installed(self) -> bool {
        next_slot(self.0.load()).is_some()
    }

    /// Replaces a used-up sheaf by `sheaf`, which is returned as an error if another context
    /// changed the cursor first.
    ///
    /// ABA is harmless: any used-up sheaf may be replaced.
    pub(crate) fn install<S: Install>(
        self,
        seen: UsedUp,
        sheaf: S,
    ) -> Result<Option<Installed>, S> {
        if self.0.cmpxchg(seen.0, sheaf.first_slot() + AHEAD) != seen.0 {
            return Err(sheaf);
        }
        // SAFETY: Exchanged above.
        Ok(unsafe { installed(seen.0) })
    }

    /// Removes a used-up sheaf. Fails if another context changed the cursor first.
    pub(crate) fn remove(self, seen: UsedUp) -> Result<Option<Installed>, ()> {
        if self.0.cmpxchg(seen.0, NONE) != seen.0 {
            return Err(());
        }
        // SAFETY: Exchanged above.
        Ok(unsafe { installed(seen.0) })
    }

    /// Removes any sheaf. Returns it with the slot that was next.
    pub(crate) fn close(self) -> Option<(Installed, usize)> {
        let cursor = self.0.xchg(NONE);
        // SAFETY: Exchanged above.
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

/// The value of a [`LocalPtr`] that is permanently disabled.
pub(crate) const DISABLED: usize = 1;

/// One pointer; 0 if empty.
///
/// The context that changes a value to 0 owns it. ABA is harmless: a value that was taken and put
/// back in between is owned by the word again.
#[derive(Clone, Copy)]
pub(crate) struct LocalPtr<W>(pub(crate) W);

impl<W: LocalWord> LocalPtr<W> {
    /// Whether it holds a pointer, or is disabled ([`DISABLED`]).
    #[inline(always)]
    pub(crate) fn is_set(self) -> bool {
        !self.0.is_zero()
    }

    /// Removes the pointer.
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

    /// Whether it holds `value`.
    #[inline(always)]
    pub(crate) fn is(self, value: usize) -> bool {
        self.0.load() == value
    }

    /// Removes `value` if it holds that. Returns whether it did.
    #[inline]
    pub(crate) fn remove(self, value: usize) -> bool {
        self.0.load() == value && self.0.cmpxchg(value, 0) == value
    }

    /// Stores `value` if it is empty. Returns whether it did.
    #[inline(always)]
    pub(crate) fn put(self, value: usize) -> bool {
        self.0.is_zero() && self.0.cmpxchg(0, value) == 0
    }
}

/// Closed sheaves of this CPU, newest first. Pushed one by one and taken all at once, so ABA does
/// not harm a push.
#[derive(Clone, Copy)]
pub(crate) struct LocalList<W> {
    pub(crate) head: W,
    /// Number of sheaves, for other CPUs to read.
    pub(crate) len: W,
}

impl<W: LocalWord> LocalList<W> {
    /// Adds `sheaf`. Returns the number of sheaves.
    #[inline]
    pub(crate) fn push(self, sheaf: Closed) -> usize {
        self.len.fetch_add(1);
        let mut old = self.head.load();
        loop {
            // SAFETY: `old` was pushed here. If an interrupting context has taken it, it waits for
            // a grace period, which waits for this context: preemption is off.
            let len = unsafe { sheaf.link(old) };
            match self.head.cmpxchg(old, sheaf.addr()) {
                was if was == old => return len,
                was => old = was,
            }
        }
    }

    /// Removes all sheaves.
    #[inline]
    pub(crate) fn take(self) -> SheafChain {
        if self.head.load() == 0 {
            return SheafChain::new();
        }
        // SAFETY: What the word points to was pushed here, and belongs to this caller after the
        // exchange.
        let chain = unsafe { SheafChain::from_first(self.head.xchg(0)) };
        self.len.fetch_add(chain.len().wrapping_neg());
        chain
    }
}
