// SPDX-License-Identifier: GPL-2.0

//! Bookkeeping of what waits for grace periods, for barriers and the destruction of a cache. No
//! kernel dependencies: compiled by the host tests.
//!
//! - [`Needs`]: which grace periods a batch waits for
//! - [`Epochs`]: counts that barriers compare
//! - [`Polled`]: closed sheaves without a callback
//! - [`RunningCallbacks`]: callbacks in progress
//! - [`Strays`]: freed objects without a sheaf

use super::sheaf::SheafChain;
use crate::{
    list::{find_end, ListEnd},
    sync::AtomicLink,
};
use core::ptr::with_exposed_provenance_mut;

/// Which grace periods have to end before slots of a closed sheaf are read and its objects are
/// reused: the callbacks that a batch waits for.
///
/// Two kinds of readers have to be waited for: contexts that are about to write or read a slot,
/// with preemption disabled, and users that read objects, inside RCU or the SRCU domain of the
/// cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    /// call_rcu()
    pub(crate) rcu: bool,
    /// call_srcu()
    pub(crate) srcu: bool,
}

impl Needs {
    /// For a cache without a domain, or with one whose grace periods also wait for RCU, or do not.
    pub(crate) const fn of(domain_waits_for_rcu: Option<bool>) -> Self {
        match domain_waits_for_rcu {
            None => Self {
                rcu: true,
                srcu: false,
            },
            Some(waits_for_rcu) => Self {
                rcu: !waits_for_rcu,
                srcu: true,
            },
        }
    }

    /// The number of callbacks.
    pub(crate) const fn callbacks(self) -> u32 {
        self.rcu as u32 + self.srcu as u32
    }
}

/// Number of epochs: up to three barriers can have one of their own.
pub(crate) const EPOCHS: usize = 4;

/// Which epoch to count in. A barrier starts the next epoch if that is empty, and waits for the
/// older ones: for what was counted before it, and not for what comes later.
///
/// An epoch is reused when it is empty. A context that read the current one some time ago counts in
/// an older one, for which a barrier then waits without need.
pub(crate) struct Epochs {
    turn: AtomicLink,
    /// Everything counted in an epoch began to wait at this sequence number or later.
    since: [AtomicLink; EPOCHS],
}

impl Epochs {
    pub(crate) fn new() -> Self {
        Self {
            turn: AtomicLink::new(0),
            since: [(); EPOCHS].map(|()| AtomicLink::new(0)),
        }
    }

    /// The epoch to count in.
    pub(crate) fn current(&self) -> usize {
        (self.turn.load_relaxed() % EPOCHS as u64) as usize
    }

    /// Whether nothing that was counted before `seq` is left. If something is, a new epoch is
    /// started when one is free.
    pub(crate) fn is_drained(&self, seq: u64, is_empty: impl Fn(usize) -> bool) -> bool {
        loop {
            // ORDERING: Acquire pairs with the exchange below: `since` is that of this turn, or
            // later.
            let turn = self.turn.load_acquire();
            let epoch = (turn % EPOCHS as u64) as usize;
            // ORDERING: Acquire pairs with the releases below: a context that sees a number stored
            // by another barrier also sees that older counts have dropped to zero.
            if self.since[epoch].load_acquire() >= seq {
                break;
            }
            if is_empty(epoch) {
                // What is counted there from here on is not older than `seq`.
                // ORDERING: Release: after the count was read; pairs with the acquire above.
                self.since[epoch].store_release(seq);
                break;
            }
            let next = (epoch + 1) % EPOCHS;
            if !is_empty(next) {
                return false;
            }
            // Another context may do the same with another number, which is no later than the turn
            // either.
            // ORDERING: Release, as above.
            self.since[next].store_release(seq);
            let _ = self.turn.cmpxchg_full(turn, turn + 1);
        }
        // ORDERING: Acquire, as above.
        (0..EPOCHS).all(|epoch| self.since[epoch].load_acquire() >= seq || is_empty(epoch))
    }
}

/// A snapshot of the grace-period state: it is over after a grace period that covers everything
/// done before it was taken.
pub(crate) trait GpSnapshot {
    /// Whether that grace period is over.
    fn is_over(&self) -> bool;
}

/// Sheaves that wait for the same grace period.
struct Group<G> {
    chain: SheafChain,
    gp: Option<G>,
}

impl<G> Group<G> {
    const fn new() -> Self {
        Self {
            chain: SheafChain::new(),
            gp: None,
        }
    }
}

/// Closed sheaves of a barn without a callback: a task that waits for them polls their grace period
/// and processes them. So they depend neither on the task that closed them nor on what else that
/// waits for.
///
/// There are two groups. New sheaves join the younger one and make its grace period later; that of
/// the older one does not change, however often sheaves are added. There is a younger one only if
/// there is an older one.
pub(crate) struct Polled<G> {
    older: Group<G>,
    younger: Group<G>,
}

impl<G: GpSnapshot> Polled<G> {
    pub(crate) const fn new() -> Self {
        Self {
            older: Group::new(),
            younger: Group::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.older.chain.is_empty()
    }

    /// Adds `chain`, with a `gp` that was taken later than all before.
    pub(crate) fn push(&mut self, chain: SheafChain, gp: G) {
        let group = if self.older.chain.is_empty() {
            &mut self.older
        } else {
            &mut self.younger
        };
        group.chain.append(chain);
        group.gp = Some(gp);
    }

    /// Removes the sheaves whose grace period is over.
    pub(crate) fn take(&mut self) -> SheafChain {
        let mut over = SheafChain::new();
        while self.older.gp.as_ref().is_some_and(GpSnapshot::is_over) {
            let younger = core::mem::replace(&mut self.younger, Group::new());
            over.append(core::mem::replace(&mut self.older, younger).chain);
        }
        over
    }
}

/// Counts the running RCU callbacks of a cache. A callback drops its last pending count before its
/// last access to the cache, so `destroy()` reads this counter after the pending counts, which are
/// in many words.
pub(crate) struct RunningCallbacks(AtomicLink);

impl RunningCallbacks {
    pub(crate) fn new() -> Self {
        Self(AtomicLink::new(0))
    }

    /// A callback starts. What it processes stays counted until after this.
    pub(crate) fn enter(&self) {
        self.add(1);
    }

    /// A callback ends. Returns whether it was the last. The cache may be freed, unless something
    /// else is counted.
    pub(crate) fn leave(&self) -> bool {
        self.add(u64::MAX) == 1
    }

    fn add(&self, n: u64) -> u64 {
        let mut now = self.0.load_relaxed();
        loop {
            // ORDERING: Full: before the callback uncounts anything, or after all that it did.
            match self.0.cmpxchg_full(now, now.wrapping_add(n)) {
                Ok(_) => return now,
                Err(other) => now = other,
            }
        }
    }

    /// Whether `nothing_is_counted` returns `true`, and no callback runs after that.
    pub(crate) fn is_idle_after(&self, nothing_is_counted: impl FnOnce() -> bool) -> bool {
        // ORDERING: The counts are read before, with acquire: a context that has uncounted
        // something had entered.
        nothing_is_counted() && self.0.load_acquire() == 0
    }
}

/// The bits of a link that hold the epoch of the object that it points to.
const EPOCH: u64 = EPOCHS as u64 - 1;
const _: () = assert!(EPOCHS <= align_of::<u64>() && EPOCHS.is_power_of_two());

/// Freed objects that found no sheaf, linked through their 8-byte link. Used by caches with a
/// destructor or an SRCU domain, which the engine does not support. Pushed in any context and on
/// any CPU by one exchange, and taken all at once. The low bits of a link are the epoch of the
/// object that it points to.
pub(crate) struct Strays(AtomicLink);

impl Strays {
    pub(crate) fn new() -> Self {
        Self(AtomicLink::new(0))
    }

    pub(crate) fn is_empty(&self) -> bool {
        // ORDERING: Acquire: see `take()`.
        self.0.load_acquire() == 0
    }

    /// Adds the object at `addr`, counted in `epoch`, with its link at `link`. Returns `false`,
    /// with no change, if it is the newest already.
    ///
    /// # Safety
    ///
    /// The object is aligned to 8 bytes, and `link` is a field of 8 bytes that is unused until the
    /// object is off the list.
    #[must_use]
    pub(crate) unsafe fn push(&self, addr: usize, link: usize, epoch: usize) -> bool {
        // SAFETY: By the safety requirements of this function.
        let next = unsafe { &*with_exposed_provenance_mut::<AtomicLink>(link) };
        let mut top = self.0.load_relaxed();
        loop {
            if (top & !EPOCH) as usize == addr {
                return false;
            }
            next.store_relaxed(top);
            // ORDERING: Full: readers could no longer find the object before this.
            match self.0.cmpxchg_full(top, addr as u64 | epoch as u64) {
                Ok(_) => return true,
                Err(now) => top = now,
            }
        }
    }

    /// Removes all objects, for [`Self::next()`].
    pub(crate) fn take(&self) -> u64 {
        // ORDERING: Full: a grace period that starts after this covers what was done before each
        // push.
        self.0.xchg_full(0)
    }

    /// Returns the first object of a taken list, its epoch, and the rest of the list. `link` is the
    /// offset of links.
    ///
    /// # Safety
    ///
    /// `list` is from [`Self::take()`] or this function, and used once.
    pub(crate) unsafe fn next(list: u64, link: usize) -> Option<(usize, usize, u64)> {
        let addr = (list & !EPOCH) as usize;
        if addr == 0 {
            return None;
        }
        // SAFETY: By the safety requirements of this function objects on the list have a link
        // there.
        let next = unsafe { &*with_exposed_provenance_mut::<AtomicLink>(addr + link) };
        Some((addr, (list & EPOCH) as usize, next.load_relaxed()))
    }

    /// Whether a taken list ends. It does not if an object was pushed again while it was on the
    /// list.
    ///
    /// # Safety
    ///
    /// As for [`Self::next()`], but `list` is not used up.
    pub(crate) unsafe fn has_end(list: u64, link: usize, step: impl FnMut()) -> bool {
        // SAFETY: By the safety requirements of this function.
        let next = |at| unsafe { Self::next(at, link) }.map_or(0, |(_, _, rest)| rest);
        matches!(find_end(list, usize::MAX, next, step), ListEnd::At(_))
    }
}
