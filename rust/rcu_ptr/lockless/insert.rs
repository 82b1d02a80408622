// SPDX-License-Identifier: GPL-2.0

//! The algorithm: reserves a slot for an object, in any context, and closes blocks. No kernel
//! dependencies: compiled by the host tests, and checked by loom.
//!
//! All functions run on the CPU that owns the word, with preemption disabled, or on a word that is
//! no longer used. So only interrupts and NMIs of this CPU can come between two steps. They run the
//! same code, and to completion before the next step.
//!
//! ```text
//!  insert()        the fast path, in NMI as well: reserves a slot, and stores the entry
//!  insert_slow()   the block is full, or there is none: opens another, and closes the full one
//!  close()         closes the current block
//! ```

use super::block::{self, Layout, SLOT};
use crate::{entry, platform::LocalWord};
use core::ptr::with_exposed_provenance_mut;

/// What the fast path needs of a CPU.
pub(crate) trait BlockFastPath {
    type Block: Layout;
    type Word: LocalWord;

    fn current(&self) -> Self::Word;

    /// Writes `word` to the slot at address `slot`.
    ///
    /// # Safety
    ///
    /// The caller has reserved the slot, and has had preemption disabled since before that.
    #[inline(always)]
    unsafe fn store(&self, slot: usize, word: usize) {
        // SAFETY: By the safety requirements of this function the word belongs to a block, nothing
        // else writes to it, and it is not read before a grace period has passed.
        unsafe { with_exposed_provenance_mut::<usize>(slot).write(word) };
    }
}

/// The kind of an entry (entry.rs).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An object.
    Free,
    /// A callback.
    Call,
}

impl Kind {
    #[inline]
    fn of(entry: usize) -> Self {
        if entry & entry::CALL == 0 {
            Self::Free
        } else {
            Self::Call
        }
    }
}

/// Stores `word` in the slot at address `slot`, and marks the block if that is a callback.
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

/// What the rest of the algorithm needs of a CPU.
///
/// Blocks are passed by their address, and ownership with it: [`Layout::BLOCK`] bytes.
pub(crate) trait BlockCpu: BlockFastPath {
    /// Returns an unused block, if there is one.
    fn take_block(&self) -> Option<usize>;
    /// Gives back a block that was never current, or in which no slot was reserved while it was.
    fn put_block(&self, base: usize);
    /// A block was closed, and is passed on. Its reserved slots, `filled` of them, are all written
    /// by the end of any grace period that starts after this.
    fn on_closed(&self, base: usize, filled: usize);
    /// A block has become current.
    fn on_opened(&self);
}

/// Stores `word` if the current block has a free slot. `kind` is that of `word`; it is passed as a
/// constant, so that the fast path need not test it.
///
/// # Context
///
/// Any, NMI included; preemption disabled.
#[inline(always)]
pub(crate) fn insert<C: BlockFastPath>(cpu: &C, word: usize, kind: Kind) -> bool {
    // One instruction: the block can't be closed, filled up or replaced before the slot is
    // reserved.
    let slot = cpu.current().fetch_add(SLOT.wrapping_neg());
    if C::Block::is_full(slot) {
        return false;
    }
    // ORDERING: None needed. An interrupt may close the block now, but the grace period that
    // reclaim waits for starts after the close, and so can't end before this context enables
    // preemption: the store is visible by then. The caller's unlink is before the close in the
    // program order of this CPU, which starts the grace period, or publishes the block with full
    // ordering to a CPU that does.
    // SAFETY: Reserved just now, with preemption disabled all the time.
    unsafe { put(cpu, slot, word, kind) };
    true
}

/// Stores `entry` after [`insert()`] has failed. Opens `fresh`, or an unused block of the CPU.
/// Returns `false` if there is none; the current word is `Layout::NONE` then.
///
/// # Context
///
/// As for [`insert()`].
#[inline]
pub(crate) fn insert_slow<C: BlockCpu>(cpu: &C, entry: usize, mut fresh: Option<usize>) -> bool {
    let kind = Kind::of(entry);
    loop {
        let word = cpu.current().load();
        if !C::Block::is_full(word) {
            // An interrupt has opened a block.
            if insert(cpu, entry, kind) {
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
                // SAFETY: The block is owned, and so is the slot, which counts as reserved below.
                unsafe { put(cpu, slot, entry, kind) };
                slot - SLOT
            }
            // Resets the word after all reservations that have found no slot, this one included.
            None => C::Block::NONE,
        };
        // If the word has changed, an interrupt has made progress. No ABA: a full block that was
        // closed waits for a grace period, which can't end while preemption is disabled.
        if cpu.current().cmpxchg(word, next) != word {
            continue;
        }
        let base = C::Block::base(word);
        if base != 0 {
            // The word refers to another block: there are no more reservations in this one.
            cpu.on_closed(base, C::Block::CAPACITY);
        }
        if fresh.is_some() {
            cpu.on_opened();
        }
        return fresh.is_some();
    }
}

/// The result of [`close()`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Close {
    /// There was no object. The CPU has no current block now.
    Nothing,
    /// A block with this number of objects was closed. Another one is current if that was wanted
    /// and there was one.
    Closed(usize),
}

/// Closes the current block. With `refill` an unused one becomes current.
///
/// # Context
///
/// On the CPU itself with preemption disabled, NMI included; on any CPU if the word is no longer
/// used.
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
            // None of its slots was ever reserved.
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
        // After this there are no reservations in the block; those before it are counted in `word`.
        if cpu.current().cmpxchg(word, next) == word {
            cpu.on_closed(base, filled);
            return Close::Closed(filled);
        }
    }
}
