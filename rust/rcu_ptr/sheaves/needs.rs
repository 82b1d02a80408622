// SPDX-License-Identifier: GPL-2.0

//! Which grace periods have to be over before slots of a closed sheaf are read and its objects are used again.
//!
//! Two kinds of readers are to be waited for: contexts that are about to write or read a slot, which have
//! preemption disabled, and users that look at objects, inside RCU or the SRCU domain of the cache.

/// Which callbacks a batch waits for.
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
