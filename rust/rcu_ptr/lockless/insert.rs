// SPDX-License-Identifier: GPL-2.0

//! The algorithm: how an object gets its slot, in any context, and how a block is closed. There is nothing
//! of the kernel in this file: the host tests compile it too, and loom checks it.
//!
//! Everything here runs on the CPU whose word it is, with preemption disabled, or on a word that is no
//! longer used. So between any two steps only interrupts and NMIs of this CPU may come, which run the same
//! code, and to completion before the next step.
//!
//! ```text
//!  insert()        reserve a slot and store: the common path, also of an NMI
//!  insert_slow()   the block is full, or there is none: open another, hand the full one over
//!  close()         take the current block away, with the objects in it
//! ```

use super::block::{self, Layout, SLOT};
use crate::{entry, platform::LocalWord};
use core::ptr::with_exposed_provenance_mut;

/// What the common path needs of a CPU.
pub(crate) trait BlockFastPath {
    /// Its blocks.
    type Block: Layout;
    /// Its current word.
    type Word: LocalWord;

    /// The current word.
    fn current(&self) -> Self::Word;

    /// Writes `word` to the slot at address `slot`.
    ///
    /// # Safety
    ///
    /// The slot is reserved by the caller, whose grace period can't have ended: preemption has been
    /// off since before it was reserved.
    #[inline(always)]
    unsafe fn store(&self, slot: usize, word: usize) {
        // SAFETY: By the safety requirements of this function: a word of a block that is
        // not written to by others, nor read before the grace period.
        unsafe { with_exposed_provenance_mut::<usize>(slot).write(word) };
    }
}

/// What is taken: the words of entry.rs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An object.
    Free,
    /// A callback.
    Call,
}

impl Kind {
    /// That of `word`.
    #[inline]
    fn of(word: usize) -> Self {
        if word & entry::CALL == 0 {
            Self::Free
        } else {
            Self::Call
        }
    }
}

/// Stores `word` to the slot at address `slot`.
///
/// # Safety
///
/// As for [`BlockFastPath::store()`].
#[inline(always)]
unsafe fn put<C: BlockFastPath>(cpu: &C, slot: usize, word: usize, kind: Kind) {
    // SAFETY: By the safety requirements of this function.
    unsafe {
        cpu.store(slot, word);
        if kind == Kind::Call {
            block::mark_call::<C::Block>(slot);
        }
    }
}

/// What the rest of the algorithm needs of it.
///
/// A block is its address here: [`Layout::BLOCK`] bytes, owned by the context that has taken it.
pub(crate) trait BlockCpu: BlockFastPath {
    /// Takes an unused block, if there is one.
    fn take_block(&self) -> Option<usize>;
    /// Gives a block back that has never been current, or was empty all the time.
    fn put_block(&self, base: usize);
    /// Takes over a closed block: all of its reserved slots, `filled` of them, are stored to before
    /// a grace period ends that starts from now on.
    fn on_closed(&self, base: usize, filled: usize);
    /// A block became current.
    fn on_opened(&self);
}

/// Takes `word` if the current block has a slot: the common path. `kind` follows from `word`; it is passed, as it
/// is a constant there.
///
/// # Context
///
/// Any, NMI included; preemption disabled.
#[inline(always)]
pub(crate) fn insert<C: BlockFastPath>(cpu: &C, word: usize, kind: Kind) -> bool {
    // One instruction: the block can't be closed, filled or replaced between its choice and the
    // reservation.
    let slot = cpu.current().fetch_add(SLOT.wrapping_neg());
    if C::Block::is_full(slot) {
        return false;
    }
    // ORDERING: None is needed. An interrupt may close the block now, but the grace period that its
    // reader waits for starts after the close, and so can't end before this context turns preemption
    // on: the store is seen by then. And the caller's unlink is before the close in
    // the program order of this CPU, which starts the grace period (or publishes the block with a
    // full barrier to a CPU that does).
    // SAFETY: Reserved just now, preemption has been off all the time.
    unsafe { put(cpu, slot, word, kind) };
    true
}

/// Takes `taken` when [`insert()`] found no slot; uses `fresh` as the next block, or one of its
/// own. Returns `false` if there is no block; the current word is `Layout::NONE` then.
///
/// # Context
///
/// As for [`insert()`].
#[inline]
pub(crate) fn insert_slow<C: BlockCpu>(cpu: &C, taken: usize, mut fresh: Option<usize>) -> bool {
    let kind = Kind::of(taken);
    loop {
        let word = cpu.current().load();
        if !C::Block::is_full(word) {
            // An interrupt has opened a block.
            if insert(cpu, taken, kind) {
                if let Some(base) = fresh {
                    cpu.put_block(base);
                }
                return true;
            }
            continue;
        }
        if fresh.is_none() {
            fresh = cpu.take_block();
        }
        let next = match fresh {
            Some(base) => {
                let slot = C::Block::first(base);
                // SAFETY: The block is owned here, so the slot is; it counts as reserved below.
                unsafe { put(cpu, slot, taken, kind) };
                slot - SLOT
            }
            // Undoes what reservations without a slot have subtracted, this one included.
            None => C::Block::NONE,
        };
        // If the word has changed, an interrupt made progress. No ABA: a full block that was closed waits
        // for a grace period, which can't end meanwhile.
        if cpu.current().cmpxchg(word, next) != word {
            continue;
        }
        let base = C::Block::base(word);
        if base != 0 {
            // No more reservations in it: the word names another block.
            cpu.on_closed(base, C::Block::CAPACITY);
        }
        if fresh.is_some() {
            cpu.on_opened();
        }
        return fresh.is_some();
    }
}

/// What [`close()`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Close {
    /// No object: the CPU has no current block now.
    Nothing,
    /// Objects: their block is closed, and another one current if there was one.
    Closed(usize),
}

/// Closes the current block, whatever is in it; a fresh one takes its place if `refill`.
///
/// # Context
///
/// On the CPU itself, NMI included, preemption disabled; or anywhere when its word is no longer used.
#[inline]
pub(crate) fn close<C: BlockCpu>(cpu: &C, refill: bool) -> Close {
    let mut fresh = None;
    loop {
        let word = cpu.current().load();
        let base = C::Block::base(word);
        let filled = C::Block::filled(word);
        if base == 0 {
            if let Some(base) = fresh {
                cpu.put_block(base);
            }
            return Close::Nothing;
        }
        if filled == 0 {
            if cpu.current().cmpxchg(word, C::Block::NONE) != word {
                continue;
            }
            // No slot of it was ever reserved.
            cpu.put_block(base);
            if let Some(base) = fresh {
                cpu.put_block(base);
            }
            return Close::Nothing;
        }
        if refill && fresh.is_none() {
            fresh = cpu.take_block();
        }
        let next = fresh.map_or(C::Block::NONE, C::Block::first);
        // From this step on no reservation finds the block; before it each was counted in the word.
        if cpu.current().cmpxchg(word, next) == word {
            cpu.on_closed(base, filled);
            return Close::Closed(filled);
        }
    }
}
