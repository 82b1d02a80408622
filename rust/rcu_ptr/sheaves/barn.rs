// SPDX-License-Identifier: GPL-2.0

//! The barn: full and empty sheaves of a node (`struct node_barn`), and how many of them are
//! surplus. No kernel dependencies: compiled by the host tests.
//!
//! Sheaves are always accepted. A worker frees those above the limit, and those that were not
//! needed for a whole interval: the smallest stock of that interval.

use super::sheaf::{EmptySheaf, FullSheaf, Stack};

/// Objects allocated by a refill per allocation that found no sheaf.
const GROWTH: usize = 8;

/// The contents of a barn, protected by its lock.
pub(crate) struct Stock {
    full: Stack<FullSheaf>,
    empty: Stack<EmptySheaf>,
    /// The smallest stock since the last [`Stock::idle()`].
    low_full: usize,
    low_empty: usize,
    /// Maximum number of full, and of empty, sheaves.
    limit: usize,
    /// Allowed on top of the limit, while objects are allocated from the slab.
    extra: usize,
    /// Collects objects of this node that were freed on other nodes.
    pub(crate) remote_frees: Option<FullSheaf>,
    /// Set by remote frees since the last [`Stock::idle()`].
    had_remote: bool,
}

/// Numbers of sheaves to be freed.
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

    /// The numbers of sheaves.
    pub(crate) fn all(&self) -> Surplus {
        Surplus {
            full: self.full.len(),
            empty: self.empty.len(),
        }
    }

    pub(crate) fn nr_full(&self) -> usize {
        self.full.len()
    }

    pub(crate) fn nr_empty(&self) -> usize {
        self.empty.len()
    }

    /// Full sheaves to add after `missed` allocations found no sheaf, with `capacity` objects in a
    /// sheaf.
    ///
    /// The missing objects most likely wait for a grace period; as many are needed again several
    /// times before it ends.
    pub(crate) fn wanted(&self, missed: usize, capacity: usize) -> usize {
        let sheaves = (GROWTH * missed).div_ceil(capacity.max(1));
        sheaves.min(self.limit.saturating_sub(self.full.len()))
    }

    /// Removes a full sheaf, or the remotely freed objects if there is no other.
    pub(crate) fn take_full(&mut self) -> Option<FullSheaf> {
        let sheaf = self.full.pop().or_else(|| self.remote_frees.take());
        self.low_full = self.low_full.min(self.full.len());
        sheaf
    }

    /// Removes an empty sheaf.
    pub(crate) fn take_empty(&mut self) -> Option<EmptySheaf> {
        let sheaf = self.empty.pop();
        self.low_empty = self.low_empty.min(self.empty.len());
        sheaf
    }

    pub(crate) fn put_full(&mut self, sheaf: FullSheaf) {
        self.full.push(sheaf);
    }

    pub(crate) fn put_empty(&mut self, sheaf: EmptySheaf) {
        self.empty.push(sheaf);
    }

    /// Adds a remotely freed object, using an empty sheaf of this barn if needed. Returns `false`
    /// if there is none.
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

    /// Sets the limit.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Sets how many sheaves are allowed on top of the limit.
    pub(crate) fn allow(&mut self, sheaves: usize) {
        self.extra = sheaves;
    }

    /// Sheaves above the limit and what is allowed on top of it.
    pub(crate) fn excess(&self) -> Surplus {
        Surplus {
            full: self.full.len().saturating_sub(self.limit + self.extra),
            empty: self.empty.len().saturating_sub(self.limit + self.extra),
        }
    }

    /// Sheaves that were not needed since the last call. Starts a new interval.
    pub(crate) fn idle(&mut self) -> Surplus {
        let surplus = Surplus {
            full: self.low_full,
            empty: self.low_empty,
        };
        // No remote frees in this interval: release the partial sheaf.
        if !core::mem::take(&mut self.had_remote) {
            if let Some(sheaf) = self.remote_frees.take() {
                self.put_full(sheaf);
            }
        }
        self.low_full = self.full.len();
        self.low_empty = self.empty.len();
        surplus
    }

    /// Whether a later [`Stock::idle()`] may return something.
    pub(crate) fn may_idle(&self) -> bool {
        self.full.len() > 0 || self.empty.len() > 0 || self.remote_frees.is_some()
    }

    /// Removes all sheaves.
    pub(crate) fn take_all(&mut self) -> (Stack<FullSheaf>, Stack<EmptySheaf>) {
        if let Some(sheaf) = self.remote_frees.take() {
            self.full.push(sheaf);
        }
        (self.full.take(), self.empty.take())
    }
}
