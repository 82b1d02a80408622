// SPDX-License-Identifier: GPL-2.0

//! Refills the spare blocks of a CPU, in a worker, after a context has found none
//! (`fill_page_cache_func()`).
//!
//! # Context
//!
//! Refills are requested on their own CPU, in any context, NMI included.

use super::{krcp::Krcp, Lockless};
use crate::{
    fault,
    stats::Counter,
    sys::{preempt::OnCpu, slab, trace},
};
use kernel::sync::atomic::Relaxed;

/// Requests a refill, which the next tick or run of the monitor starts.
pub(super) fn request(krcp: &Krcp) {
    krcp.wants_refill.store(true, Relaxed);
}

/// Queues the irq_work that starts a requested refill. Not if a delayed refill is pending: where
/// the tick is stopped each free would cause an interrupt.
pub(super) fn queue_irq_work(krcp: &Krcp, on: &impl OnCpu) {
    if krcp.wants_refill.load(Relaxed) && !krcp.common.refill.is_pending() {
        krcp.irq_work.queue(on);
    }
}

/// Starts a requested refill.
///
/// # Context
///
/// Not NMI; neither the caller nor the interrupted context holds a lock that a wakeup or a timer
/// takes.
pub(super) fn start(krcp: &Krcp) {
    if krcp.wants_refill.load(Relaxed) {
        queue(krcp);
    }
}

#[cold]
#[inline(never)]
fn queue(krcp: &Krcp) {
    // Cleared first: a request of an NMI after this requeues the worker, which runs after one
    // before this.
    krcp.wants_refill.store(false, Relaxed);
    let backoff = krcp.backoff.load(Relaxed);
    if krcp.common.queue_refill(backoff, krcp.waiting()) && backoff {
        krcp.counters.add(Counter::Backoffs, 1);
    }
}

/// Allocates spare blocks up to the limit, or one after memory pressure.
pub(super) fn refill(krcp: &Krcp) {
    let limit = krcp.max_spares();
    let wanted = if krcp.backoff.load(Relaxed) {
        limit.min(1)
    } else {
        limit
    };
    let mut blocks = 0;
    // A block beyond the limit, which may have been lowered, is freed, and ends the refill.
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
