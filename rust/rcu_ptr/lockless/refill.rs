// SPDX-License-Identifier: GPL-2.0

//! The spare blocks of each CPU: filled by a worker when none was found, with a pause after memory
//! pressure (`fill_page_cache_func()`).

use super::{
    krcp::{Krcp, KrcpRef},
    Lockless,
};
use crate::{
    fault, params,
    sys::{trace, work::Handler},
};
use kernel::sync::atomic::{Full, Relaxed};

/// No spare was found: the next tick or monitor starts a refill.
///
/// # Context
///
/// Any, NMI included.
pub(super) fn want(krcp: &Krcp) {
    if krcp.refilling.load(Relaxed) || krcp.refilling.xchg(true, Full) {
        return;
    }
    krcp.start_refill.store(true, Relaxed);
    if krcp.backoff.load(Relaxed) {
        krcp.events.backoffs.add(1, Relaxed);
        trace::defer(krcp.cpu, trace::DEFER_REFILL, krcp.waiting());
    }
}

/// Starts a refill that is wanted.
///
/// # Context
///
/// Hardirq or softirq.
pub(super) fn start(krcp: &Krcp) {
    if krcp.start_refill.load(Relaxed) && krcp.start_refill.xchg(false, Full) {
        let delay = if krcp.backoff.load(Relaxed) {
            params::refill_delay_jiffies()
        } else {
            0
        };
        krcp.refill.queue(&krcp.wq, delay);
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
        while krcp.online.load(Relaxed) && krcp.spares.len() < wanted {
            let Some(page) = fault::alloc_page() else {
                break;
            };
            let base = Lockless::begin_block(page);
            if !krcp.spares.put(base, limit) {
                Lockless::free_block(base);
                break;
            }
            krcp.events.refilled.add(1, Relaxed);
            blocks += 1;
        }
        trace::refill(krcp.cpu, blocks, wanted);
        krcp.backoff.store(false, Relaxed);
        // ORDERING: Full by the exchange; pairs with `want()`.
        krcp.refilling.xchg(false, Full);
    }
}
