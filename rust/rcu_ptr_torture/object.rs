// SPDX-License-Identifier: GPL-2.0

//! The contents of an object: a header that describes it, and canaries, which follow from the
//! header, in all other words (of large objects in some) except those of the field.
//!
//! ```text
//! word 0   header: generation, source, words, field       or, if the field is there,
//! ...      canaries                                       word 3
//! ```
//!
//! Readers get the address, with [`TAG`] set if the header is at word 3.

use crate::random::{mix, STEP};
use core::{
    ops::Range,
    ptr::{with_exposed_provenance_mut, NonNull},
};

/// Set in an address if the field is at the start, and the header behind it.
const TAG: usize = 1;
const HEADER_BEHIND: usize = 3;
/// Words at each end of a large object that are checked.
const ENDS: usize = 5;

/// The allocator of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Source {
    Kmalloc,
    KmallocNolock,
    Vmalloc,
    Kvmalloc,
    Slab,
    Cache,
    SmallCache,
}

impl Source {
    pub(crate) const ALL: [Self; 7] = [
        Self::Kmalloc,
        Self::KmallocNolock,
        Self::Vmalloc,
        Self::Kvmalloc,
        Self::Slab,
        Self::Cache,
        Self::SmallCache,
    ];

    /// Whether it is a cache with sheaves.
    pub(crate) fn is_cache(self) -> bool {
        matches!(self, Self::Cache | Self::SmallCache)
    }
}

/// A header: generation (32 bits), source (4), words (14), whether the field has two words (1), its
/// offset in words (9).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header(u64);

impl Header {
    /// Packs the parts, which have to fit.
    pub(crate) fn new(
        generation: u64,
        source: Source,
        words: usize,
        field: usize,
        wide: bool,
    ) -> Self {
        Self(
            generation << 32
                | (source as u64) << 24
                | (words as u64) << 10
                | u64::from(wide) << 9
                | field as u64 & 0x1ff,
        )
    }

    /// The source; `None` if this is no header.
    pub(crate) fn source(self) -> Option<Source> {
        Source::ALL.get((self.0 >> 24 & 0xf) as usize).copied()
    }

    fn words(self) -> usize {
        (self.0 >> 10 & 0x3fff) as usize
    }

    /// The offset of the field in words.
    pub(crate) fn field(self) -> usize {
        (self.0 & 0x1ff) as usize
    }

    /// Whether there is room for an rcu_head at its start.
    pub(crate) fn has_head(self) -> bool {
        self.field() == 0 && self.is_field(1)
    }

    fn is_field(self, word: usize) -> bool {
        let wide = usize::from(self.0 & 1 << 9 != 0);
        word >= self.field() && word <= self.field() + wide
    }

    /// The canary of each word.
    fn canaries(self) -> impl Fn(usize) -> u64 {
        let first = mix(self.0);
        move |word| first.wrapping_add((word as u64).wrapping_mul(STEP))
    }
}

/// An object as readers find it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found(usize);

impl Found {
    /// An object whose field is at word `field`.
    pub(crate) fn new(object: NonNull<u8>, field: usize) -> Self {
        let tag = if field == 0 { TAG } else { 0 };
        Self(object.as_ptr().expose_provenance() | tag)
    }

    /// Converts the result of [`Found::bits()`] back; 0 is none.
    pub(crate) fn from_bits(bits: usize) -> Option<Self> {
        (bits != 0).then_some(Self(bits))
    }

    pub(crate) fn bits(self) -> usize {
        self.0
    }

    pub(crate) fn address(self) -> usize {
        self.0 & !TAG
    }

    pub(crate) fn start(self) -> *mut u8 {
        with_exposed_provenance_mut(self.address())
    }

    fn at(self) -> usize {
        if self.0 & TAG != 0 {
            HEADER_BEHIND
        } else {
            0
        }
    }

    /// # Safety
    ///
    /// The object has a word there.
    unsafe fn word(self, i: usize) -> *mut u64 {
        // SAFETY: By the safety requirements of this function.
        unsafe { self.start().cast::<u64>().add(i) }
    }

    /// Writes header and canaries.
    ///
    /// # Safety
    ///
    /// The caller owns the object, which is as large as `header` says.
    pub(crate) unsafe fn fill(self, header: Header) {
        let canary = header.canaries();
        for range in places(header.words()) {
            for i in range {
                // SAFETY: By the safety requirements of this function.
                unsafe { self.word(i).write_volatile(canary(i)) };
            }
        }
        // SAFETY: By the safety requirements of this function.
        unsafe { self.word(self.at()).write_volatile(header.0) };
    }

    /// Reads the header.
    ///
    /// # Safety
    ///
    /// The object was filled, and is not freed.
    pub(crate) unsafe fn header(self) -> Header {
        // SAFETY: By the safety requirements of this function.
        Header(unsafe { self.word(self.at()).read_volatile() })
    }

    /// Whether the object is unchanged since it was filled with `header`.
    ///
    /// # Safety
    ///
    /// As for [`Found::header()`], whose result `header` is.
    pub(crate) unsafe fn is_intact(self, header: Header) -> bool {
        let (canary, at) = (header.canaries(), self.at());
        for range in places(header.words()) {
            for i in range {
                // SAFETY: By the safety requirements of this function.
                let found = unsafe { self.word(i).read_volatile() };
                if found != canary(i) && i != at && !header.is_field(i) {
                    return false;
                }
            }
        }
        // SAFETY: As above.
        header.source().is_some() && unsafe { self.header() } == header
    }
}

/// The words that have canaries.
fn places(words: usize) -> [Range<usize>; 2] {
    let head = words.min(ENDS);
    [0..head, words.saturating_sub(ENDS).max(head)..words]
}

/// The smallest number of words of an object with a header and a field of one or two words at word
/// `field`.
pub(crate) fn min_words(field: usize, wide: bool) -> usize {
    let behind = if field == 0 { HEADER_BEHIND } else { 0 };
    (field + 1 + usize::from(wide)).max(behind + 1)
}
