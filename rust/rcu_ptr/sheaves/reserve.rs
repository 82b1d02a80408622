// SPDX-License-Identifier: GPL-2.0

//! The reserve of a node: single objects for allocations that can neither wait nor lock.
//!
//! ```text
//!   head: the next to be taken          tail: the next to be filled
//!    v                                   v
//!  | o | o | o | o | o | o | o | o | o |   |   |   |   a ring of slots
//! ```
//!
//! Objects are taken at the head, on any CPU and in any context, with one exchange of that word, and added at the
//! tail by one caller at a time. The object is read before the exchange. `head` only grows, so an exchange that
//! succeeds says that the slot was not taken meanwhile, and a slot is only filled again when `head` is past it. One
//! that fails says that another context has got an object: the ring as a whole always makes progress.
//!
//! Sheaves would not do: with one all of its objects are taken, and others find nothing.

use crate::sync::AtomicLink;
use core::ops::Deref;

/// The ring.
pub(crate) struct Reserve<P> {
    slots: P,
    head: AtomicLink,
    tail: AtomicLink,
    /// Objects that stay while none is taken.
    keep: usize,
    /// `head` when [`Reserve::idle()`] was last called.
    seen: AtomicLink,
}

impl<P: Deref<Target = [AtomicLink]>> Reserve<P> {
    /// An empty ring of these `slots`, of which `keep` are to stay filled.
    pub(crate) fn new(slots: P, keep: usize) -> Self {
        Self {
            slots,
            head: AtomicLink::new(0),
            tail: AtomicLink::new(0),
            keep,
            seen: AtomicLink::new(0),
        }
    }

    /// Objects that are promised.
    pub(crate) fn keep(&self) -> usize {
        self.keep
    }

    /// Objects in it, at some moment during the call.
    pub(crate) fn len(&self) -> usize {
        // In this order, so that the difference is not negative.
        let head = self.head.load_acquire();
        (self.tail.load_acquire() - head) as usize
    }

    /// Whether something of what is promised is missing.
    pub(crate) fn is_short(&self) -> bool {
        self.len() < self.keep
    }

    /// Objects that are missing.
    pub(crate) fn missing(&self) -> usize {
        self.slots.len().saturating_sub(self.len())
    }

    /// The slot that a position stands for.
    fn slot(&self, position: u64) -> Option<&AtomicLink> {
        let i = position.checked_rem(self.slots.len() as u64)?;
        self.slots.get(i as usize)
    }

    /// Takes an object.
    pub(crate) fn take(&self) -> Option<usize> {
        self.take_above(0)
    }

    /// Takes an object if more than `keep` are there.
    fn take_above(&self, keep: u64) -> Option<usize> {
        loop {
            // ORDERING: Acquire pairs with the exchange of who took last: the tail below is the one that it saw, or
            // a later one. Again after an exchange that failed, which orders nothing.
            let head = self.head.load_acquire();
            // The tail only grows: as many are there still when the head is exchanged.
            // ORDERING: Acquire pairs with the release in `put()`: the slot is filled.
            if self.tail.load_acquire() - head <= keep {
                return None;
            }
            let object = self.slot(head)?.load_relaxed();
            // ORDERING: Full pairs with the acquire in `put()`: the slot was read before.
            if self.head.cmpxchg_full(head, head + 1).is_ok() {
                return Some(object as usize);
            }
        }
    }

    /// Takes an object that is not promised: this may be another ring than that whose surplus was looked at.
    pub(crate) fn take_surplus(&self) -> Option<usize> {
        self.take_above(self.keep as u64)
    }

    /// Adds `object`, one caller at a time. `false`: there is no slot.
    pub(crate) fn put(&self, object: usize) -> bool {
        let tail = self.tail.load_relaxed();
        // ORDERING: Acquire pairs with the exchange in `take()`.
        if tail - self.head.load_acquire() >= self.slots.len() as u64 {
            return false;
        }
        let Some(slot) = self.slot(tail) else {
            return false;
        };
        slot.store_relaxed(object as u64);
        // ORDERING: Release pairs with the acquire in `take()`.
        self.tail.store_release(tail + 1);
        true
    }

    /// Objects in excess of those that are to stay, if none was taken since the last call.
    pub(crate) fn idle(&self) -> usize {
        let head = self.head.load_relaxed();
        if self.seen.load_relaxed() != head {
            self.seen.store_relaxed(head);
            return 0;
        }
        self.surplus()
    }

    /// Objects in excess of those that are to stay.
    pub(crate) fn surplus(&self) -> usize {
        self.len().saturating_sub(self.keep)
    }
}
