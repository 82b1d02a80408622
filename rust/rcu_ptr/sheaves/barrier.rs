// SPDX-License-Identifier: GPL-2.0

//! The barrier: when it returns, objects that were freed before may be allocated again, or are back
//! in the slab.
//!
//! A freed object is in an rcu sheaf or a closed sheaf of a CPU; or in a sheaf that is counted
//! ([`Pending`]), from before it is closed until it is in a barn; or it is a stray, and counted
//! too. Each CPU closes its sheaves in an interrupt, so that no task has to be scheduled there, and
//! they are left with their cache ([`Polled`](super::grace::Polled)). CPUs without freed objects
//! are not interrupted. If a CPU that has some is going down or up, the barrier waits for the end
//! of the hotplug operation, whose callback takes everything.

use super::{
    cache::Cache,
    caches::CachePin,
    exchange::{self, Words},
    grace::EPOCHS,
    pcs::{Here, PcsCounter},
    reclaim,
    sheaf::SheafChain,
    Sheaves,
};
use crate::{
    platform::LocalWord,
    sys::{
        context::{self, CpusStay},
        gp::{self, Snapshot},
        irq,
        preempt::PreemptOff,
        trace, wait,
    },
};
use core::ptr;
use kernel::sync::atomic::{Acquire, Atomic, AtomicFlag, Full, Relaxed};

/// Sequence number of the last barrier. All waiters of this file wait on its address.
static BARRIER_SEQ: Atomic<u64> = Atomic::new(0);

/// Tasks in [`wait_until()`]: most of the time there is none to wake.
static WAITERS: Atomic<u32> = Atomic::new(0);

/// Counts what waits for a grace period, by epoch: so a barrier depends neither on callbacks of
/// others nor on sheaves that are closed meanwhile. Any context, NMI included.
pub(super) struct Pending([Atomic<u32>; EPOCHS]);

impl Pending {
    pub(super) fn new() -> Self {
        Self([const { Atomic::new(0) }; EPOCHS])
    }

    pub(super) fn count(&self, epoch: usize) {
        // ORDERING: Full, so that a context that sees the sheaf off the CPU sees it counted.
        self.0[epoch].fetch_add(1, Full);
    }

    /// Returns whether nothing is left in `epoch`.
    pub(super) fn uncount(&self, epoch: usize) -> bool {
        // ORDERING: Full pairs with the acquire of waiters, which then see the work done.
        self.0[epoch].fetch_sub(1, Full) == 1
    }

    pub(super) fn is_empty(&self, epoch: usize) -> bool {
        self.0[epoch].load(Acquire) == 0
    }

    pub(super) fn total(&self) -> usize {
        self.0.iter().map(|n| n.load(Acquire) as usize).sum()
    }
}

/// Starts a barrier: what was counted before the call belongs to lower sequence numbers.
pub(super) fn next_seq() -> u64 {
    // ORDERING: Full: sheaves that the barrier saw off a CPU were counted before.
    BARRIER_SEQ.fetch_add(1, Full) + 1
}

/// Wakes the waiters for a count, for the last pin, for sheaves that were closed or for the
/// destruction of a cache.
///
/// # Context
///
/// Softirq or task. What they wait for was changed with full ordering.
#[inline]
pub(super) fn wake() {
    // ORDERING: After the full barrier of the context that made the change, which pairs with that
    // of `wait_until()`: either this sees the waiter, or the waiter sees the change.
    if WAITERS.load(Relaxed) > 0 {
        wait::wake(&BARRIER_SEQ);
    }
}

/// Waits until `done` returns `true`.
///
/// # Context
///
/// May sleep; `done` may not.
pub(super) fn wait_until(done: impl Fn() -> bool) {
    // ORDERING: Full, before `done` is first called: see `wake()`.
    WAITERS.fetch_add(1, Full);
    wait::until(&BARRIER_SEQ, &done);
    WAITERS.fetch_sub(1, Relaxed);
}

/// Caches handled per interrupt.
const PER_INTERRUPT: usize = 16;

/// What a CPU is asked to close, and the result.
struct Request {
    cache: Option<CachePin>,
    /// [`SheafChain::into_first()`]
    closed: Atomic<usize>,
    /// A count dropped to zero.
    wakes: AtomicFlag,
}

type Requests = [Request; PER_INTERRUPT];

/// Waits until every object of cache `of`, or of all caches, that was freed before the call may be
/// allocated again, or is back in the slab. Calls `meanwhile` before it waits: if a grace period
/// passes there, none is waited for again.
///
/// # Context
///
/// May sleep.
pub(super) fn barrier(sheaves: &Sheaves, of: Option<&Cache>, meanwhile: impl FnOnce()) {
    let is_selected = |cache: &Cache| of.is_none_or(|of| ptr::eq(of, cache));
    let mut closed = false;
    for cpu in crate::sys::percpu::possible_cpus() {
        closed |= close_caches(sheaves, cpu, is_selected);
    }
    for cache in sheaves.each(|c| is_selected(c) && !c.strays.is_empty()) {
        cache.start_batches();
    }
    if cfg!(CONFIG_LOCKDEP) {
        sheaves
            .each(is_selected)
            .for_each(|cache| cache.will_wait());
    }
    let seq = next_seq();
    // Sheaves that are counted from here on get another epoch.
    let _ = sheaves.next(0, |cache| {
        is_selected(cache) && {
            cache.is_drained(seq);
            false
        }
    });
    let snapshot = closed.then(Snapshot::take);
    meanwhile();
    if snapshot.is_some_and(|snapshot| !snapshot.is_over()) {
        gp::synchronize();
    }
    for cache in sheaves.each(|c| is_selected(c) && c.has_backlog()) {
        if cache.dtor.is_some() {
            // Destructors may take long, and other caches must not wait for them.
            cache.queue_backlog();
        } else {
            reclaim::process_backlog(&cache);
        }
    }
    for cache in sheaves.each(|c| is_selected(c) && !c.is_drained(seq)) {
        reclaim::process_until(&cache, || cache.is_drained(seq));
    }
    if of.is_none() {
        sheaves.wait_for_destroys();
    }
}

/// Closes the sheaves of `cpu` with freed objects, in all requested caches. They are left with
/// their caches at once, so that other barriers and destroys do not wait for this task. Returns
/// whether some of them wait for a grace period.
fn close_caches(sheaves: &Sheaves, cpu: i32, is_selected: impl Fn(&Cache) -> bool) -> bool {
    let (mut last, mut closed_some) = (0, false);
    loop {
        let mut requests: Requests = core::array::from_fn(|_| Request {
            cache: None,
            closed: Atomic::new(0),
            wakes: AtomicFlag::new(false),
        });
        for request in &mut requests {
            request.cache = sheaves.next(last, |cache| {
                is_selected(cache) && cache.pcs.of(cpu).may_hold()
            });
            match &request.cache {
                Some(cache) => last = cache.id,
                None => break,
            }
        }
        if requests[0].cache.is_none() {
            return closed_some;
        }
        while !close_on(cpu, &requests) {
            // The CPU is going down or up, and that may depend on what was closed so far.
            gp::synchronize();
            for cache in sheaves.each(|c| is_selected(c) && c.has_backlog()) {
                cache.queue_backlog();
            }
        }
        for Request {
            cache,
            closed,
            wakes,
        } in requests
        {
            let Some(cache) = cache else {
                return closed_some;
            };
            // SAFETY: From `close()`.
            let chain = unsafe { SheafChain::from_first(closed.load(Relaxed)) };
            if wakes.load(Relaxed) {
                wake();
            }
            if !chain.is_empty() {
                trace::sheaf_wait(&cache.name, cpu, || (chain.len(), chain.nr_full()));
                if cache.srcu.is_some() {
                    cache.wait_for_readers(chain);
                } else {
                    // ORDERING: The close happened before the end of the interrupt.
                    reclaim::leave_closed(&cache, cache.pcs.of(cpu).node(), chain);
                    closed_some = true;
                }
            }
        }
    }
}

/// Has `cpu` close what is requested. Returns `false` if the CPU is going down or up.
fn close_on(cpu: i32, requests: &Requests) -> bool {
    let here = |requests: &Requests, _: &_| {
        let pin = PreemptOff::new();
        for request in requests {
            let Some(cache) = &request.cache else { return };
            let here = Here::new(cache, &pin);
            here.add(PcsCounter::Waited, request.close(cache, cpu, &here.words()));
        }
    };
    if irq::call_on(cpu, requests, here) {
        return true;
    }
    let Some(_stay) = CpusStay::try_new() else {
        return false;
    };
    if context::is_online(cpu) {
        return false;
    }
    // Nothing runs there. It holds sheaves only after an incomplete hotplug operation.
    for request in requests {
        let Some(cache) = &request.cache else { break };
        let pcs = cache.pcs.of(cpu).get_ref();
        pcs.add(PcsCounter::Waited, request.close(cache, cpu, &pcs.quiet()));
    }
    true
}

impl Request {
    /// Closes what `cpu` has of `cache`, and records it for a context that may wake waiters.
    /// Returns the number of sheaves.
    fn close(&self, cache: &Cache, cpu: i32, words: &Words<impl LocalWord>) -> usize {
        let uncount = |stamp| self.wakes.store(cache.uncount(stamp), Relaxed);
        let chain = exchange::close_all(words, || cache.count(cpu), uncount);
        let sheaves = chain.len();
        self.closed.store(chain.into_first(), Relaxed);
        sheaves
    }
}
