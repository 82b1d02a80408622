// SPDX-License-Identifier: GPL-2.0

//! When the block cache of a CPU is refilled (`fill_page_cache_func()`). No kernel in here: the host tests
//! compile it too.
//!
//! A context that finds no block notes it under the lock, and queues an irq_work if no refill is on its way. One
//! refill runs at a time, and looks again when it has ended: what found none meanwhile gets another.

use super::{
    arm::Kick,
    bnode::Bnode,
    state::{Push, State},
};
use crate::{platform::Platform, stats::Counter};

/// A CPU's blocks, and where they come from.
pub(crate) trait Refill {
    /// Page size and grace periods of its blocks.
    type Platform: Platform;

    /// Calls `f` with the lock held.
    fn with<R>(&self, f: impl FnOnce(&mut State<Self::Platform>) -> R) -> R;

    /// Blocks that a CPU keeps.
    fn limit(&self) -> usize;

    /// A block from a fresh page.
    fn alloc(&self) -> Option<Bnode<Self::Platform>>;

    /// Gives the page of one back.
    fn free(&self, bnode: Bnode<Self::Platform>);

    /// Has the worker call [`refill()`], after a pause if memory was short. So many objects wait.
    fn queue(&self, backoff: bool, waiting: usize);

    /// A refill has ended that brought `blocks` of `wanted`.
    fn ended(&self, blocks: usize, wanted: usize);
}

/// How soon a refill has to be started after a push, where a CPU `keeps` blocks.
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
/// Any but NMI; no lock is held that a timer takes, or a wakeup.
pub(crate) fn start(cpu: &impl Refill) {
    let mut waiting = 0;
    let (begin, backoff) = cpu.with(|state| {
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

/// The worker: brings blocks, one only where memory was short.
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
    while cpu.with(|state| state.online && state.nr_cached() < wanted(state)) {
        let Some(bnode) = cpu.alloc() else {
            break;
        };
        let unused = cpu.with(|state| {
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
    let wanted = cpu.with(|state| {
        let wanted = wanted(state);
        state.end_refill();
        wanted
    });
    cpu.ended(blocks, wanted);
    start(cpu);
}
