// SPDX-License-Identifier: GPL-2.0

//! The current word of a CPU: which block is being filled, and its next free slot, in one word, so
//! that one instruction reserves a slot.
//!
//! A block is aligned to its size. Its lower part is a header, slots fill the rest from the top
//! downwards; the word is the address of the next free slot:
//!
//! ```text
//!  base                 base + header                            base + block
//!   | header (headroom)     | slot  slot  slot <- next | filled  filled |
//!                                                ^ word
//! ```
//!
//! To reserve is to subtract 8 from the word. A word that points into the header (all offset bits
//! above the header's are clear) means that there is no slot; no block at all is the topmost word of
//! a header at address 0. Reservations that find no slot go on subtracting, which the rest of the
//! header has room for: each such context puts the word right before it returns, so the outstanding
//! ones are those of contexts nested in each other on one CPU, and there are far fewer than
//! [`Layout::HEADROOM`] levels of those (a task, softirq, hardirq, NMI, and exceptions in them).

/// The size of a pointer slot.
pub(crate) const SLOT: u64 = 8;

/// Sizes of a block.
pub(crate) trait Layout {
    /// Bytes of a block: a power of two, and its alignment.
    const BLOCK: u64;
    /// Bytes of its header: a power of two.
    const HEADER: u64;

    /// Slots of a block.
    const CAPACITY: usize = ((Self::BLOCK - Self::HEADER) / SLOT) as usize;
    /// Contexts of one CPU that may find no slot before the first of them has put the word right.
    const HEADROOM: u64 = Self::HEADER / SLOT - 1;
    /// No block, no slot.
    const NONE: u64 = Self::HEADER - SLOT;

    /// Whether `word` names no slot: its block is full, or there is none.
    #[inline(always)]
    fn is_full(word: u64) -> bool {
        word & (Self::BLOCK - Self::HEADER) == 0
    }

    /// The block of `word`; 0: none.
    #[inline(always)]
    fn base(word: u64) -> u64 {
        word & !(Self::BLOCK - 1)
    }

    /// The word of an empty block.
    #[inline(always)]
    fn first(base: u64) -> u64 {
        base + Self::BLOCK - SLOT
    }

    /// Slots of the block of `word` that are reserved, [`Layout::CAPACITY`] at most.
    #[inline(always)]
    fn filled(word: u64) -> usize {
        if Self::is_full(word) {
            Self::CAPACITY
        } else {
            ((Self::first(Self::base(word)) - word) / SLOT) as usize
        }
    }
}
