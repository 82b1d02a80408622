// SPDX-License-Identifier: GPL-2.0

//! The barn: full and empty sheaves of a node (`struct node_barn`), and how many of them are surplus.
//!
//! Sheaves are always accepted; a worker brings the stock down to its limit, and takes away what was not
//! needed for a whole interval: the smallest stock of that interval.

use super::sheaf::{EmptySheaf, FullSheaf, Stack};

/// Objects that a refill brings for each allocation that found none.
const GROWTH: usize = 8;

/// What a barn holds, under its lock.
pub(crate) struct Stock {
    full: Stack<FullSheaf>,
    empty: Stack<EmptySheaf>,
    /// The smallest stock since the last [`Stock::idle()`].
    low_full: usize,
    low_empty: usize,
    /// Sheaves of each kind to keep at most.
    limit: usize,
    /// And this many more, while objects are allocated from the slab.
    extra: usize,
    /// Collects objects of this node that were freed on others.
    pub(crate) remote_frees: Option<FullSheaf>,
    /// Some were freed since the last [`Stock::idle()`].
    had_remote: bool,
}

/// Sheaves in excess of the limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Surplus {
    pub(crate) full: usize,
    pub(crate) empty: usize,
}

impl Stock {
    /// An empty barn for up to `limit` full and as many empty sheaves.
    pub(crate) const fn new(limit: usize) -> Self {
        Self {
            full: Stack::new(),
            empty: Stack::new(),
            low_full: 0,
            low_empty: 0,
            limit,
            extra: 0,
            remote_frees: None,
            had_remote: false,
        }
    }

    /// All sheaves.
    pub(crate) fn all(&self) -> Surplus {
        Surplus {
            full: self.full.len(),
            empty: self.empty.len(),
        }
    }

    /// Full sheaves.
    pub(crate) fn nr_full(&self) -> usize {
        self.full.len()
    }

    /// Empty sheaves.
    pub(crate) fn nr_empty(&self) -> usize {
        self.empty.len()
    }

    /// Full sheaves to bring after `missed` failed allocations, with `capacity` objects in a sheaf.
    ///
    /// The missing objects most likely wait for a grace period now, and until that is over as many are needed
    /// again, several times.
    pub(crate) fn wanted(&self, missed: usize, capacity: usize) -> usize {
        let sheaves = (GROWTH * missed).div_ceil(capacity.max(1));
        sheaves.min(self.limit.saturating_sub(self.full.len()))
    }

    /// Takes a full sheaf; the collected objects where there is no other.
    pub(crate) fn take_full(&mut self) -> Option<FullSheaf> {
        let sheaf = self.full.pop().or_else(|| self.remote_frees.take());
        self.low_full = self.low_full.min(self.full.len());
        sheaf
    }

    /// Takes an empty sheaf.
    pub(crate) fn take_empty(&mut self) -> Option<EmptySheaf> {
        let sheaf = self.empty.pop();
        self.low_empty = self.low_empty.min(self.empty.len());
        sheaf
    }

    /// Adds a full sheaf.
    pub(crate) fn put_full(&mut self, sheaf: FullSheaf) {
        self.full.push(sheaf);
    }

    /// Adds an empty sheaf.
    pub(crate) fn put_empty(&mut self, sheaf: EmptySheaf) {
        self.empty.push(sheaf);
    }

    /// Collects `object`, in an empty sheaf of this barn where a new one is needed. `false`: there
    /// is none.
    pub(crate) fn put_remote(&mut self, object: usize, capacity: usize) -> bool {
        self.had_remote = true;
        if let Some(sheaf) = &mut self.remote_frees {
            if sheaf.push(object, capacity) {
                return true;
            }
        }
        let Some(empty) = self.take_empty() else {
            return false;
        };
        let fresh = empty.start(1, object).done();
        if let Some(full) = self.remote_frees.replace(fresh) {
            self.put_full(full);
        }
        true
    }

    /// Changes how many sheaves of each kind to keep at most.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Allows `sheaves` of each kind on top of the limit.
    pub(crate) fn allow(&mut self, sheaves: usize) {
        self.extra = sheaves;
    }

    /// What is above the limit, and above what is allowed on top of it.
    pub(crate) fn excess(&self) -> Surplus {
        Surplus {
            full: self.full.len().saturating_sub(self.limit + self.extra),
            empty: self.empty.len().saturating_sub(self.limit + self.extra),
        }
    }

    /// The stock that was not needed since the last call; begins a new interval.
    pub(crate) fn idle(&mut self) -> Surplus {
        let surplus = Surplus {
            full: self.low_full,
            empty: self.low_empty,
        };
        // No more objects come from other nodes: those that did are in a sheaf as any other.
        if !core::mem::take(&mut self.had_remote) {
            if let Some(sheaf) = self.remote_frees.take() {
                self.put_full(sheaf);
            }
        }
        self.low_full = self.full.len();
        self.low_empty = self.empty.len();
        surplus
    }

    /// Whether a later [`Stock::idle()`] may find something.
    pub(crate) fn may_idle(&self) -> bool {
        self.full.len() > 0 || self.empty.len() > 0 || self.remote_frees.is_some()
    }

    /// Takes everything.
    pub(crate) fn take_all(&mut self) -> (Stack<FullSheaf>, Stack<EmptySheaf>) {
        if let Some(sheaf) = self.remote_frees.take() {
            self.full.push(sheaf);
        }
        (self.full.take(), self.empty.take())
    }
}
