// SPDX-License-Identifier: GPL-2.0

//! The current word, for all states of a block.

use crate::lockless::block::{Layout, SLOT};

/// A layout with these sizes of block and header.
struct Page<const BLOCK: usize, const HEADER: usize>;

impl<const BLOCK: usize, const HEADER: usize> Layout for Page<BLOCK, HEADER> {
    const BLOCK: usize = BLOCK;
    const HEADER: usize = HEADER;
}

/// Fills a block at `base` slot by slot, and continues without slots as far as the headroom
/// reaches.
fn fills<L: Layout>(base: usize) {
    let mut word = L::first(base);
    for filled in 0..L::CAPACITY {
        assert!(!L::is_full(word));
        assert_eq!(L::base(word), base);
        assert_eq!(L::filled(word), filled);
        assert!(word >= base + L::HEADER && word < base + L::BLOCK);
        word -= SLOT;
    }
    // Full, and then as many reservations as the headroom allows.
    for _ in 0..=L::HEADROOM {
        assert!(L::is_full(word));
        assert_eq!(L::base(word), base);
        assert_eq!(L::filled(word), L::CAPACITY);
        word = word.wrapping_sub(SLOT);
    }
    // One more would be in the block below.
    assert_ne!(L::base(word), base);
}

#[test]
fn every_state_of_a_block() {
    for base in [1 << 12, 1 << 20, 0xffff_8880_0000_1000, usize::MAX << 13] {
        fills::<Page<4096, 256>>(base);
    }
    // arm64's largest pages.
    fills::<Page<65536, 256>>(0xffff_0000_0001_0000);
    fills::<Page<64, 32>>(1 << 6);
}

#[test]
fn no_block() {
    type L = Page<4096, 256>;
    let mut word = L::NONE;
    for _ in 0..=L::HEADROOM {
        assert!(L::is_full(word));
        assert_eq!(L::base(word), 0);
        word = word.wrapping_sub(SLOT);
    }
}
