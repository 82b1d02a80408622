// SPDX-License-Identifier: GPL-2.0

//! The reserve of a node: single objects for allocations that can neither wait nor lock. No kernel
//! dependencies: compiled by the host tests.
//!
//! ```text
//!   head: the next to be taken          tail: the next to be filled
//!    v                                   v
//!  | o | o | o | o | o | o | o | o | o |   |   |   |   a ring of slots
//! ```
//!
//! Objects are taken at the head, on any CPU and in any context, by one exchange of that word, and
//! added at the tail by one caller at a time. The object is read before the exchange. `head` only
//! grows, so a successful exchange shows that the slot was not taken meanwhile, and a slot is only
//! filled again when `head` is past it. A failed exchange shows that another context has taken an
//! object: the ring as a whole always makes progress.
//!
//! Sheaves would not do: a context that takes one takes all of its objects, and others find
//! nothing.

use crate::sync::AtomicLink;
use core::ops::Deref;

/// A ring buffer of objects.
pub(crate) struct Reserve<P> {
    slots: P,
    head: AtomicLink,
    tail: AtomicLink,
    /// Objects that are promised: they are no surplus.
    keep: usize,
    /// `head` at the last call of [`Reserve::idle()`].
    seen: AtomicLink,
}

impl<P: Deref<Target = [AtomicLink]>> Reserve<P> {
    /// Creates an empty ring of `slots`, of which `keep` are to stay filled.
    pub(crate) fn new(slots: P, keep: usize) -> Self {
        Self {
            slots,
            head: AtomicLink::new(0),
            tail: AtomicLink::new(0),
            keep,
            seen: AtomicLink::new(0),
        }
    }

    /// The number of objects that are promised.
    pub(crate) fn keep(&self) -> usize {
        self.keep
    }

    /// The number of objects, at some moment during the call.
    pub(crate) fn len(&self) -> usize {
        // In this order, so that the difference is not negative.
        let head = self.head.load_acquire();
        (self.tail.load_acquire() - head) as usize
    }

    /// Whether promised objects are missing.
    pub(crate) fn is_short(&self) -> bool {
        self.len() < self.keep
    }

    /// The number of empty slots.
    pub(crate) fn missing(&self) -> usize {
        self.slots.len().saturating_sub(self.len())
    }

    /// The slot of a position.
    fn slot(&self, position: u64) -> Option<&AtomicLink> {
        let i = position.checked_rem(self.slots.len() as u64)?;
        self.slots.get(i as usize)
    }

    pub(crate) fn take(&self) -> Option<usize> {
        self.take_above(0)
    }

    /// Takes an object if there are more than `keep`.
    fn take_above(&self, keep: u64) -> Option<usize> {
        loop {
            // ORDERING: Acquire pairs with the exchange of the last take: the tail below is the one
            // that it saw, or a later one. Read again after a failed exchange, which orders
            // nothing.
            let head = self.head.load_acquire();
            // The tail only grows: as many objects are still there when the head is exchanged.
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

    /// Takes an object that is not promised: the ring may have been replaced since
    /// [`Self::surplus()`] was read.
    pub(crate) fn take_surplus(&self) -> Option<usize> {
        self.take_above(self.keep as u64)
    }

    /// Adds `object`, one caller at a time. Returns `false` if there is no slot.
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

    /// The surplus, if no object was taken since the last call.
    pub(crate) fn idle(&self) -> usize {
        let head = self.head.load_relaxed();
        if self.seen.load_relaxed() != head {
            self.seen.store_relaxed(head);
            return 0;
        }
        self.surplus()
    }

    /// The number of objects that are not promised.
    pub(crate) fn surplus(&self) -> usize {
        self.len().saturating_sub(self.keep)
    }
}
