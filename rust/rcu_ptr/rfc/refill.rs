// SPDX-License-Identifier: GPL-2.0

//! The block cache of each CPU: filled by a worker when it was found empty (`fill_page_cache_func()`), and
//! given back when memory is short, with a pause before the next refill (`kfree_rcu_shrink_scan()`).

use super::{
    bnode::Bnode,
    drain,
    krcp::{Krcp, KrcpRef},
    state::State,
    Rcu, Rfc,
};
use crate::{
    fault, params,
    stats::Event,
    sys::{mem, shrinker::Shrink, slab, trace, work::Handler},
};

/// Starts a refill if one is due.
///
/// # Context
///
/// Any but NMI; no lock is held that a timer takes, or a wakeup.
pub(super) fn start(krcp: &Krcp) {
    let mut waiting = 0;
    let (begin, backoff) = krcp.with(|state| {
        let begin = state.begin_refill();
        let backoff = begin && state.backoff;
        state.stats[Event::Backoffs] += u64::from(backoff);
        waiting = state.queued.len();
        (begin, backoff)
    });
    if !begin {
        return;
    }
    let mut delay = 0;
    if backoff {
        delay = params::refill_delay_jiffies();
        trace::defer(krcp.cpu, trace::DEFER_REFILL, waiting);
    }
    krcp.refill.queue(&krcp.queues.refill, delay);
}

/// The worker.
pub(super) struct RefillWork(pub(super) KrcpRef);

impl Handler for RefillWork {
    fn run(&self) {
        let krcp = &*self.0;
        let wanted = |state: &State<Rcu>| {
            let limit = params::min_cached_objs();
            if state.backoff {
                limit.min(1)
            } else {
                limit
            }
        };
        let mut blocks = 0;
        while krcp.with(|state| state.online && state.nr_cached() < wanted(state)) {
            let Some(page) = fault::alloc_page(slab::GFP_REFILL) else {
                break;
            };
            // SAFETY: A fresh page, given away here.
            let bnode = unsafe { Bnode::<Rcu>::from_page(page) };
            let unused = krcp.with(|state| {
                let unused = state.put_cached(bnode, params::min_cached_objs());
                state.stats[Event::Refilled] += u64::from(unused.is_none());
                unused
            });
            if let Some(bnode) = unused {
                // SAFETY: The page from above.
                unsafe { mem::free_page(bnode.into_page()) };
                break;
            }
            blocks += 1;
        }
        let wanted = krcp.with(|state| {
            let wanted = wanted(state);
            state.end_refill();
            wanted
        });
        trace::refill(krcp.cpu, blocks, wanted);
        start(krcp);
    }
}

/// Keeps an emptied block for later, or gives its page back.
///
/// # Context
///
/// Any but NMI, no raw spinlock held.
pub(super) fn put(krcp: &Krcp, bnode: Bnode<Rcu>) {
    // The limit is read under the lock: see `trim()`.
    if let Some(bnode) = krcp.with(|state| state.put_cached(bnode, params::min_cached_objs())) {
        // SAFETY: The block is owned, and every block's page comes from `alloc_page()`.
        unsafe { mem::free_page(bnode.into_page()) };
    }
}

/// Frees blocks beyond a limit that was set just now. Blocks that are put later see the new limit: they
/// take the lock after this.
///
/// # Context
///
/// As for [`put()`].
pub(super) fn trim(krcp: &Krcp) {
    while let Some(bnode) = krcp.with(|state| state.take_excess(params::min_cached_objs())) {
        // SAFETY: The block is owned, and every block's page comes from `alloc_page()`.
        unsafe { mem::free_page(bnode.into_page()) };
    }
}

/// Gives all cached blocks back. Returns how many.
///
/// # Context
///
/// As for [`put()`].
pub(super) fn drop_cached(krcp: &Krcp) -> usize {
    let mut cached = krcp.with(State::take_cached);
    let mut dropped = 0;
    while let Some(bnode) = cached.pop() {
        // SAFETY: The block is owned, and every block's page comes from `alloc_page()`.
        unsafe { mem::free_page(bnode.into_page()) };
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
