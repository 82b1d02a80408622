// SPDX-License-Identifier: GPL-2.0

//! The spare blocks of each CPU: refilled by a worker when none was found (`fill_page_cache_func()`), and
//! given back when memory is short, with a pause before the next refill (`kfree_rcu_shrink_scan()`).
//!
//! # Context
//!
//! Refills are requested on the CPU that they are for, in any context, NMI included.

use super::{
    drain,
    krcp::{Krcp, KrcpRef},
    Lockless,
};
use crate::{
    fault, params,
    stats::Counter,
    sys::{irq::IrqsOff, preempt::OnCpu, shrinker::Shrink, slab, trace, work::Handler},
};
use kernel::sync::atomic::Relaxed;

/// Requests a refill, as no spare was found: the next tick or run of the monitor starts it.
pub(super) fn request(krcp: &Krcp) {
    krcp.wants_refill.store(true, Relaxed);
}

/// Has the next tick start a requested refill. One that is put off is not asked for again by each free that misses:
/// where the tick is stopped that would be an interrupt each.
pub(super) fn kick(krcp: &Krcp, on: &impl OnCpu) {
    if krcp.wants_refill.load(Relaxed) && !krcp.refill.is_pending() {
        krcp.kick_work.queue(on);
    }
}

/// Starts a requested refill.
///
/// # Context
///
/// Not NMI; the caller, or what it interrupted, holds no lock that a wakeup or a timer takes.
pub(super) fn start(krcp: &Krcp) {
    if krcp.wants_refill.load(Relaxed) {
        queue(krcp);
    }
}

#[cold]
#[inline(never)]
fn queue(krcp: &Krcp) {
    // First: what an NMI requests from here on is queued again, or comes before the item is.
    krcp.wants_refill.store(false, Relaxed);
    let backoff = krcp.backoff.load(Relaxed);
    let delay = if backoff {
        params::refill_delay_jiffies()
    } else {
        0
    };
    // ORDERING: Full, by the workqueue: a run that this finds pending counts the spares afterwards. One that has
    // begun is followed by another.
    if krcp.refill.queue(&krcp.queues.refill, delay) && backoff {
        krcp.counters.add(Counter::Backoffs, 1);
        trace::defer(krcp.cpu, trace::DEFER_REFILL, krcp.waiting());
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
        // A block that is not kept after all is freed, and ends the refill.
        let mut is_kept = true;
        while is_kept && krcp.spares.len() < wanted {
            let Some(page) = fault::alloc_page(slab::GFP_REFILL) else {
                break;
            };
            krcp.keep(Lockless::begin_block(page), |base| {
                Lockless::free_block(base);
                is_kept = false;
            });
            krcp.counters.add(Counter::Refilled, u64::from(is_kept));
            blocks += usize::from(is_kept);
        }
        trace::refill(krcp.cpu, blocks, wanted);
        krcp.backoff.store(false, Relaxed);
    }
}

/// The engine as memory reclaim sees it.
pub(crate) struct LocklessShrinker;

impl Shrink for LocklessShrinker {
    fn count() -> usize {
        Lockless::get()
            .krc
            .iter()
            .map(|krcp| {
                krcp.backoff.store(true, Relaxed);
                krcp.queued() + krcp.spares.len()
            })
            .sum()
    }

    fn scan(goal: usize) -> usize {
        let mut done = 0;
        for krcp in Lockless::get().krc.iter() {
            // Objects count when their batch starts, as in the kernel's shrinker. A CPU without objects is
            // not interrupted, even if it has an empty block.
            let waiting = krcp.queued();
            drain::close_current(&krcp);
            drain::start_batch(&krcp, &IrqsOff::save());
            let blocks = drain::trim_spares(&krcp, 0);
            trace::shrink(krcp.cpu, blocks, waiting);
            done += blocks + waiting;
            if done >= goal {
                break;
            }
        }
        done
    }
}
