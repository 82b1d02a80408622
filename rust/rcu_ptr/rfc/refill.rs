// SPDX-License-Identifier: GPL-2.0

//! The block cache of each CPU: filled by a worker when it was found empty, with a pause after
//! memory pressure (`fill_page_cache_func()`).

use super::{
    bnode::Bnode,
    krcp::{Krcp, KrcpRef},
    state::State,
    Rcu,
};
use crate::{
    fault, params,
    sys::{mem, trace, work::Handler},
};
use kernel::sync::atomic::{Full, Relaxed};

/// Starts a refill unless one is on its way.
///
/// # Context
///
/// Any but NMI, with the lock held: the caller may be inside the scheduler, so the worker is woken
/// from a timer.
pub(super) fn start(krcp: &Krcp, state: &mut State<Rcu>) {
    if params::min_cached_objs() == 0 || !state.online {
        return;
    }
    // ORDERING: Full, as `atomic_xchg()` in the original; pairs with the store in `run()`: who gets
    // `false` sees what the last refill did.
    if krcp.refilling.xchg(true, Full) {
        return;
    }
    if krcp.backoff.load(Relaxed) {
        let delay = params::refill_delay_jiffies();
        trace::defer(krcp.cpu, trace::DEFER_REFILL, state.queued.len());
        state.stats.backoffs += 1;
        // With a raw spinlock held the delay may not be 0.
        krcp.refill.queue(&krcp.refill_wq, delay.max(1));
    } else {
        krcp.refill_timer.kick();
    }
}

/// Wakes the worker from hardirq.
pub(super) struct RefillTimer(pub(super) KrcpRef);

impl Handler for RefillTimer {
    fn run(&self) {
        self.0.refill.queue(&self.0.refill_wq, 0);
    }
}

/// The worker.
pub(super) struct RefillWork(pub(super) KrcpRef);

impl Handler for RefillWork {
    fn run(&self) {
        let krcp = &*self.0;
        let limit = params::min_cached_objs();
        let wanted = if krcp.backoff.load(Relaxed) {
            limit.min(1)
        } else {
            limit
        };
        let mut blocks = 0;
        while krcp.with(|state| state.online && state.nr_cached() < wanted) {
            let Some(page) = fault::alloc_page() else {
                break;
            };
            // SAFETY: A fresh page, given away here.
            let bnode = unsafe { Bnode::<Rcu>::from_page(page) };
            let unused = krcp.with(|state| {
                let unused = state.put_cached(bnode, limit);
                state.stats.refilled += u64::from(unused.is_none());
                unused
            });
            if let Some(bnode) = unused {
                // SAFETY: The page from above.
                unsafe { mem::free_page(bnode.into_page()) };
                break;
            }
            blocks += 1;
        }
        trace::refill(krcp.cpu, blocks, wanted);
        krcp.backoff.store(false, Relaxed);
        // ORDERING: Full by the exchange; pairs with `start()`.
        krcp.refilling.xchg(false, Full);
    }
}

/// Keeps an emptied block for later, or gives its page back.
///
/// # Context
///
/// Any but NMI, no raw spinlock held.
pub(super) fn put(krcp: &Krcp, bnode: Bnode<Rcu>) {
    let limit = params::min_cached_objs();
    if let Some(bnode) = krcp.with(|state| state.put_cached(bnode, limit)) {
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
