// SPDX-License-Identifier: GPL-2.0

//! Freed objects that got no sheaf, linked through their 8-byte link. Used by caches with a destructor or an
//! SRCU domain, of which the engine does not know.
//!
//! Objects are pushed in any context and on any CPU, with one exchange; what takes them takes all. The low bits
//! of a link say where the object that it leads to is counted ([`Epochs`](super::grace::Epochs)).

use super::grace::PLACES;
use crate::sync::AtomicLink;
use core::ptr::with_exposed_provenance_mut;

const PLACE: u64 = PLACES as u64 - 1;
const _: () = assert!(PLACES <= align_of::<u64>() && PLACES.is_power_of_two());

/// The list.
pub(crate) struct Strays(AtomicLink);

impl Strays {
    /// An empty list.
    pub(crate) fn new() -> Self {
        Self(AtomicLink::new(0))
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        // ORDERING: Acquire: see `take()`.
        self.0.load_acquire() == 0
    }

    /// Adds the object at `addr`, counted in `place`, with its link at `link`. `false`: it is the newest already,
    /// and nothing was done.
    ///
    /// # Safety
    ///
    /// The object is aligned to 8 bytes, and `link` is a field of 8 bytes that is unused until it is
    /// taken off the list.
    #[must_use]
    pub(crate) unsafe fn push(&self, addr: usize, link: usize, place: usize) -> bool {
        // SAFETY: By the safety requirements of this function.
        let next = unsafe { &*with_exposed_provenance_mut::<AtomicLink>(link) };
        let mut top = self.0.load_relaxed();
        loop {
            if (top & !PLACE) as usize == addr {
                return false;
            }
            next.store_relaxed(top);
            // ORDERING: Full: the object was out of readers' reach before.
            match self.0.cmpxchg_full(top, addr as u64 | place as u64) {
                Ok(_) => return true,
                Err(now) => top = now,
            }
        }
    }

    /// Takes all of them, for [`next()`].
    pub(crate) fn take(&self) -> u64 {
        // ORDERING: Full: a grace period that begins from here on covers what was before each push.
        self.0.xchg_full(0)
    }
}

/// The first object of a list that was taken, where it is counted, and the rest of the list. `link` is the
/// offset of links.
///
/// # Safety
///
/// `list` is from [`Strays::take()`] or this function, and used once.
pub(crate) unsafe fn next(list: u64, link: usize) -> Option<(usize, usize, u64)> {
    let addr = (list & !PLACE) as usize;
    if addr == 0 {
        return None;
    }
    // SAFETY: By the safety requirements of this function objects on the list have a link there.
    let rest = unsafe { &*with_exposed_provenance_mut::<AtomicLink>(addr + link) }.load_relaxed();
    Some((addr, (list & PLACE) as usize, rest))
}

/// Whether a list that was taken has an end. It has none where an object was pushed again while it was on the list.
///
/// # Safety
///
/// As for [`next()`], but it is not used up.
pub(crate) unsafe fn has_end(list: u64, link: usize, mut step: impl FnMut()) -> bool {
    // Brent's algorithm: in a ring the object that was kept comes again before the next power of two.
    let (mut at, mut kept, mut n) = (list, 0, 0usize);
    // SAFETY: By the safety requirements of this function.
    while let Some((addr, _, rest)) = unsafe { next(at, link) } {
        if addr == kept {
            return false;
        }
        if n & n.wrapping_sub(1) == 0 {
            kept = addr;
        }
        n += 1;
        at = rest;
        step();
    }
    true
}
