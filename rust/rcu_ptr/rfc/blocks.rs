// SPDX-License-Identifier: GPL-2.0

//! Refills the block cache of a CPU (`fill_page_cache_func()`). No kernel dependencies: compiled by
//! the host tests.
//!
//! A context that finds no block records that under the lock, and queues an irq_work if no refill
//! is under way. One refill runs at a time. When it ends it checks whether a context has found no
//! block meanwhile, and starts another.

use super::{
    arm::Kick,
    bnode::Bnode,
    state::{Push, State},
};
use crate::{platform::Platform, stats::Counter};

/// The block cache of a CPU.
pub(crate) trait Refill {
    type Platform: Platform;

    /// Calls `f` with the lock held.
    fn with_locked<R>(&self, f: impl FnOnce(&mut State<Self::Platform>) -> R) -> R;

    /// The limit of cached blocks.
    fn limit(&self) -> usize;

    /// Allocates a block.
    fn alloc(&self) -> Option<Bnode<Self::Platform>>;

    /// Frees the page of a block.
    fn free(&self, bnode: Bnode<Self::Platform>);

    /// Queues the worker that calls [`refill()`], with a delay if `backoff`; `waiting` objects are
    /// queued.
    fn queue(&self, backoff: bool, waiting: usize);

    /// Emits the trace event of a refill that has allocated `blocks` of `wanted`.
    fn ended(&self, blocks: usize, wanted: usize);
}

/// How soon a refill has to be started after a push, if the CPU `keeps` blocks at all.
#[inline]
pub(crate) fn refill_for(pushed: Push, keeps: impl Fn() -> bool) -> Kick {
    match pushed {
        Push::List | Push::NoRoom if keeps() => Kick::Now,
        _ => Kick::No,
    }
}

/// Starts a refill if one is due.
///
/// # Context
///
/// Any but NMI; no lock is held that a timer or a wakeup takes.
pub(crate) fn start(cpu: &impl Refill) {
    let mut waiting = 0;
    let (begin, backoff) = cpu.with_locked(|state| {
        let begin = state.begin_refill();
        let backoff = begin && state.backoff;
        state.stats[Counter::Backoffs] += u64::from(backoff);
        waiting = state.queued.len();
        (begin, backoff)
    });
    if begin {
        cpu.queue(backoff, waiting);
    }
}

/// The worker: allocates blocks up to the limit, or one after memory pressure.
pub(crate) fn refill<C: Refill>(cpu: &C) {
    let wanted = |state: &State<C::Platform>| {
        let limit = cpu.limit();
        if state.backoff {
            limit.min(1)
        } else {
            limit
        }
    };
    let mut blocks = 0;
    while cpu.with_locked(|state| state.online && state.nr_cached() < wanted(state)) {
        let Some(bnode) = cpu.alloc() else {
            break;
        };
        let unused = cpu.with_locked(|state| {
            let unused = state.put_cached(bnode, cpu.limit());
            state.stats[Counter::Refilled] += u64::from(unused.is_none());
            unused
        });
        if let Some(bnode) = unused {
            cpu.free(bnode);
            break;
        }
        blocks += 1;
    }
    let wanted = cpu.with_locked(|state| {
        let wanted = wanted(state);
        state.end_refill();
        wanted
    });
    cpu.ended(blocks, wanted);
    start(cpu);
}
