// SPDX-License-Identifier: GPL-2.0

//! The spare blocks of each CPU: filled by a worker when none was found, with a pause after memory
//! pressure (`fill_page_cache_func()`).

use super::{
    krcp::{Krcp, KrcpRef},
    Lockless,
};
use crate::{
    fault, params,
    sys::{preempt::OnCpu, trace, work::Handler},
};
use kernel::sync::atomic::{Full, Relaxed};

/// No spare was found: the next tick or run of the monitor starts a refill.
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

/// Has a tick come for a refill that is wanted and not started.
///
/// # Context
///
/// Any, NMI included, on this CPU.
pub(super) fn hurry(krcp: &Krcp, on: &impl OnCpu) {
    if krcp.start_refill.load(Relaxed) {
        krcp.tick.queue(on);
    }
}

/// Starts a refill that is wanted.
///
/// # Context
///
/// Any but NMI; no lock is held that a wakeup takes.
pub(super) fn start(krcp: &Krcp) {
    if krcp.start_refill.load(Relaxed) && krcp.start_refill.xchg(false, Full) {
        let delay = if krcp.backoff.load(Relaxed) {
            params::refill_delay_jiffies()
        } else {
            0
        };
        krcp.refill.queue(&krcp.refill_wq, delay);
    }
}

/// The worker.
pub(super) struct RefillWork(pub(super) KrcpRef);

impl Handler for RefillWork {
    fn run(&self) {
        let krcp = &*self.0;
        let limit = krcp.max_spares();
        let wanted = if krcp.backoff.load(Relaxed) {
            limit.min(1)
        } else {
            limit
        };
        let mut blocks = 0;
        // What is not kept after all is given back, and ends this.
        let mut is_kept = true;
        while is_kept && krcp.spares.len() < wanted {
            let Some(page) = fault::alloc_page() else {
                break;
            };
            krcp.keep(Lockless::begin_block(page), |base| {
                Lockless::free_block(base);
                is_kept = false;
            });
            krcp.events.refilled.add(u64::from(is_kept), Relaxed);
            blocks += usize::from(is_kept);
        }
        trace::refill(krcp.cpu, blocks, wanted);
        krcp.backoff.store(false, Relaxed);
        // ORDERING: Full by the exchange; pairs with `want()`.
        krcp.refilling.xchg(false, Full);
    }
}
