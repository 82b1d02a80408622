// SPDX-License-Identifier: GPL-2.0

//! The spare blocks of each CPU: refilled by a worker when none was found (`fill_page_cache_func()`), and
//! given back when memory is short, with a pause before the next refill (`kfree_rcu_shrink_scan()`).
//!
//! # Context
//!
//! Refills are requested on the CPU that they are for, in any context, NMI included.

use super::{krcp::Krcp, Lockless};
use crate::{
    fault,
    stats::Counter,
    sys::{preempt::OnCpu, slab, trace},
};
use kernel::sync::atomic::Relaxed;

/// Requests a refill, as no spare was found: the next tick or run of the monitor starts it.
pub(super) fn request(krcp: &Krcp) {
    krcp.wants_refill.store(true, Relaxed);
}

/// Has the next tick start a requested refill. One that is put off is not asked for again by each free that misses:
/// where the tick is stopped that would be an interrupt each.
pub(super) fn kick(krcp: &Krcp, on: &impl OnCpu) {
    if krcp.wants_refill.load(Relaxed) && !krcp.common.refill.is_pending() {
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
    // Cleared first: what an NMI requests after this is queued again, what it requested before is seen by
    // this refill.
    krcp.wants_refill.store(false, Relaxed);
    let backoff = krcp.backoff.load(Relaxed);
    if krcp.common.queue_refill(backoff, krcp.waiting()) && backoff {
        krcp.counters.add(Counter::Backoffs, 1);
    }
}

/// The refill, in its worker.
pub(super) fn refill(krcp: &Krcp) {
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
        krcp.put_spare(Lockless::begin_block(page), |base| {
            Lockless::free_block(base);
            is_kept = false;
        });
        krcp.counters.add(Counter::Refilled, u64::from(is_kept));
        blocks += usize::from(is_kept);
    }
    trace::refill(krcp.common.cpu, blocks, wanted);
    krcp.backoff.store(false, Relaxed);
}
