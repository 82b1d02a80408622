// SPDX-License-Identifier: GPL-2.0

//! The block cache of each CPU: filled by a worker when it was found empty (blocks.rs), and given back when
//! memory is short, with a pause before the next refill (`kfree_rcu_shrink_scan()`).
//!
//! # Context
//!
//! Any but NMI, no raw spinlock held.

use super::{
    blocks::{self, Refill},
    bnode::Bnode,
    drain,
    krcp::{Krcp, KrcpRef},
    state::State,
    Rcu, Rfc,
};
use crate::{
    fault, params,
    sys::{mem, shrinker::Shrink, slab, trace, work::Handler},
};

/// The worker.
pub(super) struct RefillWork(pub(super) KrcpRef);

impl Handler for RefillWork {
    fn run(&self) {
        blocks::refill(&*self.0);
    }
}

impl Refill for Krcp {
    type Platform = Rcu;

    fn with<R>(&self, f: impl FnOnce(&mut State<Rcu>) -> R) -> R {
        self.with(f)
    }

    fn limit(&self) -> usize {
        params::min_cached_objs()
    }

    fn alloc(&self) -> Option<Bnode<Rcu>> {
        let page = fault::alloc_page(slab::GFP_REFILL)?;
        // SAFETY: A fresh page, given away here.
        Some(unsafe { Bnode::from_page(page) })
    }

    fn free(&self, bnode: Bnode<Rcu>) {
        // SAFETY: The block is owned, and every block's page comes from `alloc_page()`.
        unsafe { mem::free_page(bnode.into_page()) };
    }

    fn queue(&self, backoff: bool, waiting: usize) {
        let mut delay = 0;
        if backoff {
            delay = params::refill_delay_jiffies();
            trace::defer(self.cpu, trace::DEFER_REFILL, waiting);
        }
        self.refill.queue(&self.queues.refill, delay);
    }

    fn ended(&self, blocks: usize, wanted: usize) {
        trace::refill(self.cpu, blocks, wanted);
    }
}

/// Keeps an emptied block for later, or gives its page back.
pub(super) fn put(krcp: &Krcp, bnode: Bnode<Rcu>) {
    // The limit is read under the lock: see `trim()`.
    if let Some(bnode) = krcp.with(|state| state.put_cached(bnode, params::min_cached_objs())) {
        krcp.free(bnode);
    }
}

/// Frees blocks beyond a limit that was set just now. Blocks that are put later see the new limit: they
/// take the lock after this.
pub(super) fn trim(krcp: &Krcp) {
    while let Some(bnode) = krcp.with(|state| state.take_excess(params::min_cached_objs())) {
        krcp.free(bnode);
    }
}

/// Gives all cached blocks back. Returns how many.
pub(super) fn drop_cached(krcp: &Krcp) -> usize {
    let mut cached = krcp.with(State::take_cached);
    let mut dropped = 0;
    while let Some(bnode) = cached.pop() {
        krcp.free(bnode);
        dropped += 1;
    }
    dropped
}

/// The engine as memory reclaim sees it.
pub(crate) struct KrcShrinker;

impl Shrink for KrcShrinker {
    fn count() -> usize {
        Rfc::get()
            .krc
            .iter()
            .map(|krcp| {
                krcp.with(|state| {
                    state.backoff = true;
                    state.queued.len() + state.nr_cached()
                })
            })
            .sum()
    }

    fn scan(goal: usize) -> usize {
        let mut done = 0;
        for krcp in Rfc::get().krc.iter() {
            let blocks = drop_cached(&krcp);
            // Objects that are not ready count as well, as their batch starts here.
            let waiting = krcp.with(|state| state.queued.len());
            let freed = drain::run(&krcp);
            trace::shrink(krcp.cpu, blocks, freed);
            done += blocks + waiting.max(freed);
            if done >= goal {
                break;
            }
        }
        done
    }
}
