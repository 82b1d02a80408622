// SPDX-License-Identifier: GPL-2.0

//! Pending counts are kept per epoch. A barrier starts a new epoch if its counter is free, and waits for the
//! older ones: for what was there before it, and not for what comes meanwhile.
//!
//! A place is used again when it is empty. A context that counts may have chosen its place some time ago: then it
//! counts in an older one, and a barrier waits for it without need.

use crate::sync::AtomicLink;

/// Counters, one per epoch: up to three barriers can have an epoch of their own at a time.
pub(crate) const PLACES: usize = 4;

/// Which place is counted in, and since when.
pub(crate) struct Epochs {
    turn: AtomicLink,
    /// All that is counted in a place began to wait at this time or later.
    since: [AtomicLink; PLACES],
}

impl Epochs {
    /// All places are of time 0.
    pub(crate) fn new() -> Self {
        Self {
            turn: AtomicLink::new(0),
            since: [(); PLACES].map(|()| AtomicLink::new(0)),
        }
    }

    /// The place to count in.
    pub(crate) fn place(&self) -> usize {
        (self.turn.load_relaxed() % PLACES as u64) as usize
    }

    /// Whether nothing is left of what was counted before `time`. If something is, what is counted from
    /// here on is told apart from it as soon as there is a place.
    pub(crate) fn is_past(&self, time: u64, is_empty: impl Fn(usize) -> bool) -> bool {
        loop {
            // ORDERING: Acquire pairs with the exchange below: `since` is that of this turn, or later.
            let turn = self.turn.load_acquire();
            let place = (turn % PLACES as u64) as usize;
            // ORDERING: Acquire pairs with the releases below: a barrier that goes by the time that another put
            // there has seen what was counted before it end, too.
            if self.since[place].load_acquire() >= time {
                break;
            }
            if is_empty(place) {
                // What is counted there from here on is later than `time`.
                // ORDERING: Release: after the look at the count; pairs with the acquire above.
                self.since[place].store_release(time);
                break;
            }
            let next = (place + 1) % PLACES;
            if !is_empty(next) {
                return false;
            }
            // Another context may do the same with another time, which is no later than the turn either.
            // ORDERING: Release, as above.
            self.since[next].store_release(time);
            let _ = self.turn.cmpxchg_full(turn, turn + 1);
        }
        // ORDERING: Acquire, as above.
        (0..PLACES).all(|place| self.since[place].load_acquire() >= time || is_empty(place))
    }
}
