// SPDX-License-Identifier: GPL-2.0

//! Objects that own memory, and counts of their drops: each has to be dropped once, and not while a
//! reader has it. Functions may sleep unless they say otherwise.

use crate::{
    rcu_ptr::{self, Cache, RcuKBox},
    sys::cpu,
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
    },
};

/// Counts of the objects of one test.
pub(crate) struct DropCounts {
    made: Atomic<usize>,
    dropped: Atomic<usize>,
    /// Dropped with BH disabled.
    pub(crate) bh_off: Atomic<usize>,
    /// Dropped in a task that may sleep.
    pub(crate) in_task: Atomic<usize>,
    /// Dropped twice.
    pub(crate) twice: Atomic<usize>,
    /// Damaged when they were dropped.
    pub(crate) broken: Atomic<usize>,
    /// Checks by readers.
    pub(crate) checks: Atomic<usize>,
    /// Subset of `checks`: the object had been dropped, or was damaged.
    pub(crate) early: Atomic<usize>,
}

fn count(n: &Atomic<usize>, what: bool) {
    n.fetch_add(usize::from(what), Relaxed);
}

impl DropCounts {
    pub(crate) const fn new() -> Self {
        Self {
            made: Atomic::new(0),
            dropped: Atomic::new(0),
            bh_off: Atomic::new(0),
            in_task: Atomic::new(0),
            twice: Atomic::new(0),
            broken: Atomic::new(0),
            checks: Atomic::new(0),
            early: Atomic::new(0),
        }
    }

    pub(crate) fn made(&self) -> usize {
        self.made.load(Relaxed)
    }

    pub(crate) fn dropped(&self) -> usize {
        self.dropped.load(Relaxed)
    }

    /// Waits for all drops. Returns whether `made` objects were made, and [`Self::is_balanced()`].
    pub(crate) fn all_dropped(&self, made: usize) -> bool {
        rcu_ptr::barrier();
        self.is_balanced() && self.made() == made
    }

    /// Whether every object has been dropped once, intact, and not under a reader.
    pub(crate) fn is_balanced(&self) -> bool {
        let [twice, broken, early] =
            [&self.twice, &self.broken, &self.early].map(|n| n.load(Relaxed));
        let (made, dropped) = (self.made(), self.dropped());
        let balanced = made == dropped && twice == 0 && broken == 0 && early == 0;
        if !balanced {
            pr_info!(
                "{made} made, {dropped} dropped: {twice} twice, {broken} broken, {early} early\n"
            );
        }
        balanced
    }
}

const LIVE: u64 = 0x11fe_11fe_11fe_11fe;
const DROPPED: u64 = 0xdead_0000_0000_dead;

/// An object that owns a word in another allocation, and optionally a reference.
pub(crate) struct Owner {
    drops: &'static DropCounts,
    pub(crate) key: u64,
    state: Atomic<u64>,
    owned: RcuKBox<u64>,
    _shared: Option<Arc<u64>>,
}

impl Owner {
    fn around(
        drops: &'static DropCounts,
        key: u64,
        owned: RcuKBox<u64>,
        shared: Option<Arc<u64>>,
    ) -> Self {
        count(&drops.made, true);
        Self {
            drops,
            key,
            state: Atomic::new(LIVE),
            owned,
            _shared: shared,
        }
    }

    /// # Context
    ///
    /// May sleep.
    pub(crate) fn new(drops: &'static DropCounts, key: u64) -> Result<Self> {
        let owned = RcuKBox::new(!key, GFP_KERNEL)?;
        Ok(Self::around(drops, key, owned, None))
    }

    /// As [`Self::new()`], with a reference to `shared`.
    pub(crate) fn sharing(drops: &'static DropCounts, key: u64, shared: &Arc<u64>) -> Result<Self> {
        let owned = RcuKBox::new(!key, GFP_KERNEL)?;
        Ok(Self::around(drops, key, owned, Some(shared.clone())))
    }

    /// # Context
    ///
    /// Any, NMI included.
    pub(crate) fn new_nolock(drops: &'static DropCounts, key: u64) -> Option<Self> {
        let owned = RcuKBox::new_nolock(!key).ok()?;
        Some(Self::around(drops, key, owned, None))
    }

    fn is_intact(&self) -> bool {
        self.state.load(Relaxed) == LIVE && *self.owned == !self.key
    }

    /// Checks the object repeatedly, as a reader: it must not change meanwhile.
    pub(crate) fn check_intact(&self) {
        let intact = (0..20).all(|_| self.is_intact());
        count(&self.drops.checks, true);
        count(&self.drops.early, !intact);
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let state = self.state.xchg(DROPPED, Relaxed);
        count(&self.drops.twice, state == DROPPED);
        count(
            &self.drops.broken,
            state != LIVE && state != DROPPED || *self.owned != !self.key,
        );
        count(&self.drops.bh_off, cpu::is_bh_off());
        count(&self.drops.in_task, cpu::may_sleep());
        count(&self.drops.dropped, true);
    }
}

/// An element of a chain, which owns the next: its drop starts the grace period of the next.
#[pin_data]
pub(crate) struct Link {
    pub(crate) owner: Owner,
    pub(crate) next: Option<RcuKBox<Link>>,
}

/// Elements of a chain.
pub(crate) const CHAIN: u64 = 8;

/// Makes a chain and returns its first element.
pub(crate) fn chain(drops: &'static DropCounts) -> Result<Option<RcuKBox<Link>>> {
    let mut next = None;
    for key in 0..CHAIN {
        let owner = Owner::new(drops, key)?;
        next = Some(RcuKBox::new(Link { owner, next }, GFP_KERNEL)?);
    }
    Ok(next)
}

/// Drops a chain without waiting for its destructors.
pub(crate) fn drop_chain() -> Result {
    static DROPS: DropCounts = DropCounts::new();
    chain(&DROPS).map(drop)
}

/// Frees objects of a cache that is never destroyed, without waiting for their destructors.
pub(crate) fn forget_cache(objects: usize) -> Result {
    static DROPS: DropCounts = DropCounts::new();
    let cache = Cache::new(c"rcu_ptr_forgotten_rs")?;
    for key in 0..objects as u64 {
        drop(cache.alloc(Owner::new(&DROPS, key)?, GFP_KERNEL)?.share());
    }
    core::mem::forget(cache);
    Ok(())
}
