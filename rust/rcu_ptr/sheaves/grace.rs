// SPDX-License-Identifier: GPL-2.0

//! What waits for grace periods, and for whom barriers and the end of a cache wait: which grace periods a batch
//! needs ([`Needs`]), in which [`Epochs`] what waits is counted, closed sheaves whose grace period is
//! [`Polled`], the callbacks that are [`RunningCallbacks`], and objects without a sheaf ([`Strays`]). No kernel in here: the
//! host tests compile it too.

use super::sheaf::SheafChain;
use crate::{
    list::{find_end, End},
    sync::AtomicLink,
};
use core::ptr::with_exposed_provenance_mut;

/// Which grace periods have to be over before slots of a closed sheaf are read and its objects are used again: the
/// callbacks that a batch waits for.
///
/// Two kinds of readers are to be waited for: contexts that are about to write or read a slot, which have
/// preemption disabled, and users that look at objects, inside RCU or the SRCU domain of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    /// One of call_rcu().
    pub(crate) rcu: bool,
    /// One of call_srcu().
    pub(crate) srcu: bool,
}

impl Needs {
    /// For a cache without a domain, or with one whose grace periods wait for RCU as well, or do not.
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

/// Epochs that may be counted in at a time: up to three barriers can have one of their own.
pub(crate) const EPOCHS: usize = 4;

/// The epochs by which what is pending is counted, and which is the current one. A barrier starts the next if its
/// counter is free, and waits for the older ones: for what was there before it, and not for what comes meanwhile.
///
/// An epoch is used again when it is empty. A context that chose the current one some time ago counts in an older one,
/// and a barrier waits for it without need.
pub(crate) struct Epochs {
    turn: AtomicLink,
    /// All that is counted in an epoch began to wait at this time or later.
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

    /// Whether nothing is left of what was counted before `seq`. If something is, what is counted from
    /// here on is told apart from it as soon as there is an epoch.
    pub(crate) fn is_drained(&self, seq: u64, is_empty: impl Fn(usize) -> bool) -> bool {
        loop {
            // ORDERING: Acquire pairs with the exchange below: `since` is that of this turn, or later.
            let turn = self.turn.load_acquire();
            let epoch = (turn % EPOCHS as u64) as usize;
            // ORDERING: Acquire pairs with the releases below: a barrier that goes by the time that another put
            // there has seen what was counted before it end, too.
            if self.since[epoch].load_acquire() >= seq {
                break;
            }
            if is_empty(epoch) {
                // What is counted there from here on is later than `seq`.
                // ORDERING: Release: after the look at the count; pairs with the acquire above.
                self.since[epoch].store_release(seq);
                break;
            }
            let next = (epoch + 1) % EPOCHS;
            if !is_empty(next) {
                return false;
            }
            // Another context may do the same with another time, which is no later than the turn either.
            // ORDERING: Release, as above.
            self.since[next].store_release(seq);
            let _ = self.turn.cmpxchg_full(turn, turn + 1);
        }
        // ORDERING: Acquire, as above.
        (0..EPOCHS).all(|epoch| self.since[epoch].load_acquire() >= seq || is_empty(epoch))
    }
}

/// A grace period that covers all that was done before this was made.
pub(crate) trait GpSnapshot {
    /// Whether it is over.
    fn is_over(&self) -> bool;
}

/// Sheaves that wait together.
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

/// Closed sheaves of a barn without a callback: whoever waits for them polls their grace period and reclaims
/// them. So they depend neither on the task that closed them nor on what else that has to wait for.
///
/// There are two groups. What comes joins the younger one and makes its grace period later; that of the older one
/// stays as it is, however often something comes. There is a younger one only where there is an older one.
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

    /// Adds `chain`, for which `gp` was made later than for all before.
    pub(crate) fn push(&mut self, chain: SheafChain, gp: G) {
        let group = if self.older.chain.is_empty() {
            &mut self.older
        } else {
            &mut self.younger
        };
        group.chain.append(chain);
        group.gp = Some(gp);
    }

    /// Takes those whose grace period is over.
    pub(crate) fn take(&mut self) -> SheafChain {
        let mut over = SheafChain::new();
        while self.older.gp.as_ref().is_some_and(GpSnapshot::is_over) {
            let younger = core::mem::replace(&mut self.younger, Group::new());
            over.append(core::mem::replace(&mut self.older, younger).chain);
        }
        over
    }
}

/// Counts the RCU callbacks of a cache that are running. A callback drops its last pending count before it is done
/// with the cache, so `destroy()` reads this counter after the pending counts, which are in many words.
pub(crate) struct RunningCallbacks(AtomicLink);

impl RunningCallbacks {
    pub(crate) fn new() -> Self {
        Self(AtomicLink::new(0))
    }

    /// One begins: what it has to do is counted, and will be until after this.
    pub(crate) fn enter(&self) {
        self.add(1);
    }

    /// One ends. Returns whether it was the last; the cache may be gone, unless something else is counted.
    pub(crate) fn leave(&self) -> bool {
        self.add(u64::MAX) == 1
    }

    fn add(&self, n: u64) -> u64 {
        let mut now = self.0.load_relaxed();
        loop {
            // ORDERING: Full: before what it takes off the counts, or after all that it did.
            match self.0.cmpxchg_full(now, now.wrapping_add(n)) {
                Ok(_) => return now,
                Err(other) => now = other,
            }
        }
    }

    /// Whether `nothing_is_counted` returns `true`, and none runs after that.
    pub(crate) fn is_idle_after(&self, nothing_is_counted: impl FnOnce() -> bool) -> bool {
        // ORDERING: Acquire of the counts, before this is read: a context that took one off had entered.
        nothing_is_counted() && self.0.load_acquire() == 0
    }
}

/// What of a link says in which epoch the object that it leads to is counted.
const EPOCH: u64 = EPOCHS as u64 - 1;
const _: () = assert!(EPOCHS <= align_of::<u64>() && EPOCHS.is_power_of_two());

/// Freed objects that got no sheaf, linked through their 8-byte link. Used by caches with a destructor or an
/// SRCU domain, of which the engine does not know. Pushed in any context and on any CPU, with one exchange, and taken
/// all at once. The low bits of a link are the epoch of the object that it leads to.
pub(crate) struct Strays(AtomicLink);

impl Strays {
    pub(crate) fn new() -> Self {
        Self(AtomicLink::new(0))
    }

    pub(crate) fn is_empty(&self) -> bool {
        // ORDERING: Acquire: see `take()`.
        self.0.load_acquire() == 0
    }

    /// Adds the object at `addr`, counted in `epoch`, with its link at `link`. `false`: it is the newest already,
    /// and nothing was done.
    ///
    /// # Safety
    ///
    /// The object is aligned to 8 bytes, and `link` is a field of 8 bytes that is unused until it is
    /// taken off the list.
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
            // ORDERING: Full: the object was out of readers' reach before.
            match self.0.cmpxchg_full(top, addr as u64 | epoch as u64) {
                Ok(_) => return true,
                Err(now) => top = now,
            }
        }
    }

    /// Takes all of them, for [`Self::next()`].
    pub(crate) fn take(&self) -> u64 {
        // ORDERING: Full: a grace period that begins from here on covers what was before each push.
        self.0.xchg_full(0)
    }

    /// The first object of a list that was taken, where it is counted, and the rest of the list. `link` is the
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
        // SAFETY: By the safety requirements of this function objects on the list have a link there.
        let next = unsafe { &*with_exposed_provenance_mut::<AtomicLink>(addr + link) };
        Some((addr, (list & EPOCH) as usize, next.load_relaxed()))
    }

    /// Whether a list that was taken has an end. It has none where an object was pushed again while it was on the list.
    ///
    /// # Safety
    ///
    /// As for [`Self::next()`], but it is not used up.
    pub(crate) unsafe fn has_end(list: u64, link: usize, step: impl FnMut()) -> bool {
        // SAFETY: By the safety requirements of this function.
        let next = |at| unsafe { Self::next(at, link) }.map_or(0, |(_, _, rest)| rest);
        matches!(find_end(list, usize::MAX, next, step), End::After(_))
    }
}
