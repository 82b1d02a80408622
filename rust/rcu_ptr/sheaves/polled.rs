// SPDX-License-Identifier: GPL-2.0

//! Closed sheaves of a barn without a callback: whoever waits for them polls their grace period and reclaims
//! them. So they depend neither on the task that closed them nor on what else that has
//! to wait for.
//!
//! There are two groups. What comes joins the younger one and makes its grace period later; that of the older one
//! stays as it is, however often something comes.

use super::sheaf::Chain;

/// A grace period that covers all that was done before this was made.
pub(crate) trait GracePeriod {
    /// Whether it is over.
    fn is_over(&self) -> bool;
}

/// Sheaves that wait together.
struct Group<G> {
    chain: Chain,
    gp: Option<G>,
}

impl<G> Group<G> {
    const fn new() -> Self {
        Self {
            chain: Chain::new(),
            gp: None,
        }
    }
}

/// The groups. There is a younger one only where there is an older one.
pub(crate) struct Polled<G> {
    older: Group<G>,
    younger: Group<G>,
}

impl<G: GracePeriod> Polled<G> {
    /// No sheaves.
    pub(crate) const fn new() -> Self {
        Self {
            older: Group::new(),
            younger: Group::new(),
        }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.older.chain.is_empty()
    }

    /// Adds `chain`, for which `gp` was made later than for all before.
    pub(crate) fn push(&mut self, chain: Chain, gp: G) {
        let group = if self.older.chain.is_empty() {
            &mut self.older
        } else {
            &mut self.younger
        };
        group.chain.append(chain);
        group.gp = Some(gp);
    }

    /// Takes those whose grace period is over.
    pub(crate) fn take(&mut self) -> Chain {
        let mut over = Chain::new();
        while self.older.gp.as_ref().is_some_and(GracePeriod::is_over) {
            let younger = core::mem::replace(&mut self.younger, Group::new());
            over.append(core::mem::replace(&mut self.older, younger).chain);
        }
        over
    }
}
