// SPDX-License-Identifier: GPL-2.0

//! Batches: sheaves that wait for an SRCU domain as well, and objects without a sheaf ([`Strays`]).
//!
//! ```text
//!   sheaves, strays ---> waiting ---> a batch ---> both grace periods over ---> the worker
//!                                       ^ as soon as one is free
//! ```
//!
//! Slots are written with preemption disabled, which RCU waits for and SRCU does not. A batch waits
//! for both, starting after its sheaves were closed ([`Needs`]); the callback that comes last
//! continues.
//!
//! When all batches are busy, new sheaves and strays wait for the first one that becomes free. More
//! batches would not shorten that: each starts grace periods of its own, and those started during
//! the same one end together.

use super::{
    barrier,
    cache::{Cache, CacheRef},
    grace::{Needs, Strays},
    pcs::{Here, Pcs, PcsCounter},
    sheaf::SheafChain,
};
use crate::sys::{
    debug,
    gp::{self, Callback, RcuHead},
    irq::IrqsOff,
    preempt::PreemptOff,
    raw_lock::RawSpinLock,
    srcu::Domain,
};
use core::{
    cell::UnsafeCell,
    mem::offset_of,
    ptr::{with_exposed_provenance_mut, NonNull},
};
use kernel::{
    prelude::*,
    static_lock_class,
    sync::atomic::{Acquire, Atomic, Full, Relaxed},
};

/// Batches per cache. A grace period of SRCU takes several of RCU, and readers may prolong it.
const BATCHES: usize = 8;

/// State of a batch: unused.
const FREE: u32 = 0;
/// Waiting, or being processed.
const TAKEN: u32 = 1;
/// Its grace periods are over, and its strays are left for the worker.
const OVER: u32 = 2;

/// Sheaves and strays that wait for the same grace periods.
struct CacheBatch {
    rcu: RcuHead,
    srcu: RcuHead,
    cache: CacheRef,
    state: Atomic<u32>,
    /// Grace periods still in progress.
    left: Atomic<u32>,
    /// [`SheafChain::into_first()`]
    chain: Atomic<usize>,
    /// [`Strays::take()`]
    strays: Atomic<u64>,
}

const RCU: usize = offset_of!(CacheBatch, rcu);
const SRCU: usize = offset_of!(CacheBatch, srcu);

// SAFETY: While the batch waits, the heads are RCU's; they are not accessed otherwise.
unsafe impl Sync for CacheBatch {}
// SAFETY: As above.
unsafe impl Send for CacheBatch {}

/// The batches of a cache.
#[pin_data]
pub(super) struct CacheBatches {
    batches: [CacheBatch; BATCHES],
    /// Sheaves not yet in a batch.
    #[pin]
    waiting: RawSpinLock<SheafChain>,
}

impl CacheBatches {
    /// Creates unused batches.
    pub(super) fn new(cache: CacheRef) -> impl PinInit<Self> {
        let batch = move |_| CacheBatch {
            rcu: UnsafeCell::new([0; 2]),
            srcu: UnsafeCell::new([0; 2]),
            cache,
            state: Atomic::new(FREE),
            left: Atomic::new(0),
            chain: Atomic::new(0),
            strays: Atomic::new(0),
        };
        pin_init!(Self {
            batches: core::array::from_fn(batch),
            waiting <- RawSpinLock::new(
                SheafChain::new(),
                c"rcu_ptr_waiting",
                static_lock_class!()
            ),
        })
    }

    /// Whether all batches are idle.
    fn are_idle(&self) -> bool {
        // ORDERING: Acquire pairs with the exchange when a batch is freed.
        self.batches.iter().all(|b| b.state.load(Acquire) == FREE)
    }

    /// Whether strays are left for the worker.
    pub(super) fn any_over(&self) -> bool {
        self.batches.iter().any(|b| b.state.load(Relaxed) == OVER)
    }
}

/// RCU callback of a batch, whose head is `AT` bytes into it.
struct BatchCallback<const AT: usize>;

impl<const AT: usize> Callback for BatchCallback<AT> {
    unsafe fn run(head: NonNull<RcuHead>) {
        // SAFETY: `begin()` passed the head of a batch, which lives as long as it waits.
        unsafe { gp_over(head.byte_sub(AT).cast()) };
    }
}

/// # Safety
///
/// `batch` waits, and one of its grace periods is over.
unsafe fn gp_over(batch: NonNull<CacheBatch>) {
    // SAFETY: By the safety requirements of this function.
    let batch = unsafe { batch.as_ref() };
    let cache = batch.cache;
    // ORDERING: Full: the last one to decrement sees that both have ended.
    if batch.left.fetch_sub(1, Full) != 1 {
        return;
    }
    cache.running.enter();
    // SAFETY: From `start_batches()`.
    let chain = unsafe { SheafChain::from_first(batch.chain.xchg(0, Relaxed)) };
    if !chain.is_empty() {
        let node = Here::new(&cache, &PreemptOff::new()).pcs().node();
        cache.barns[node].add_backlog(chain);
    }
    if batch.strays.load(Relaxed) == 0 {
        batch.state.xchg(FREE, Full);
        cache.start_batches();
    } else {
        batch.state.xchg(OVER, Full);
    }
    cache.queue_backlog();
    cache.callback_done();
}

impl Cache {
    /// Whether no stray of `epoch` is pending. Leaked strays stay counted: once there are some, the
    /// list and the batches are checked instead of the count.
    pub(super) fn has_no_strays(&self, epoch: usize) -> bool {
        if self.strays_pending.is_empty(epoch) {
            return true;
        }
        // Checked in the order in which strays move.
        self.lost_strays.load(Relaxed) && self.strays.is_empty() && self.batches.are_idle()
    }

    /// Whether objects that find no sheaf become strays; otherwise the engine frees them.
    #[inline]
    pub(super) fn uses_strays(&self) -> bool {
        self.dtor.is_some() || self.srcu.is_some()
    }

    /// Number of objects that were passed to the engine for want of a sheaf.
    pub(super) fn nr_engine_fallbacks(&self) -> u64 {
        if self.uses_strays() {
            return 0;
        }
        let of = |pcs: Pin<&Pcs>| pcs.counted(PcsCounter::EngineFallback);
        self.pcs.iter().map(of).sum()
    }

    /// Starts batches for waiting sheaves and strays, as long as there are free batches.
    ///
    /// # Context
    ///
    /// Any but NMI, called from code that had interrupts on.
    pub(super) fn start_batches(&self) {
        let all = &self.batches;
        loop {
            let has_chain = {
                let irqs = IrqsOff::save();
                let waiting = all.waiting.lock(&irqs);
                !waiting.is_empty()
            };
            if !has_chain && self.strays.is_empty() {
                return;
            }
            // ORDERING: What waits was pushed before, fully ordered or under the lock, and batches
            // are freed fully ordered: if none is free here, the context that frees one sees what
            // waits.
            let mut free = all.batches.iter();
            let Some(batch) = free.find(|b| b.state.cmpxchg(FREE, TAKEN, Full).is_ok()) else {
                return;
            };
            let chain = {
                let irqs = IrqsOff::save();
                let mut waiting = all.waiting.lock(&irqs);
                core::mem::replace(&mut *waiting, SheafChain::new())
            };
            let strays = self.strays.take();
            if chain.is_empty() && strays == 0 {
                // Another context was faster.
                batch.state.xchg(FREE, Full);
                continue;
            }
            batch.chain.store(chain.into_first(), Relaxed);
            batch.strays.store(strays, Relaxed);
            self.begin(batch);
        }
    }

    /// Has `chain` wait for all kinds of readers of the cache.
    ///
    /// # Context
    ///
    /// As for [`Self::start_batches()`].
    pub(super) fn wait_for_readers(&self, chain: SheafChain) {
        {
            let irqs = IrqsOff::save();
            self.batches.waiting.lock(&irqs).append(chain);
        }
        self.start_batches();
    }

    /// Starts the grace periods of `batch`, after all that is in it was closed or pushed.
    fn begin(&self, batch: &CacheBatch) {
        let needs = Needs::of(self.srcu.map(Domain::waits_for_rcu));
        batch.left.store(needs.callbacks(), Relaxed);
        let batch = NonNull::from(batch);
        if needs.rcu {
            // SAFETY: The head of a batch that was free; destroying the cache waits for it.
            unsafe { gp::call::<BatchCallback<RCU>>(batch.byte_add(RCU).cast()) };
        }
        if let Some(domain) = self.srcu {
            // SAFETY: As above.
            unsafe { domain.call::<BatchCallback<SRCU>>(batch.byte_add(SRCU).cast()) };
        }
    }

    /// Processes strays whose grace periods are over.
    ///
    /// # Context
    ///
    /// May sleep. The cache is not destroyed meanwhile.
    pub(super) fn process_strays(&self) {
        for batch in &self.batches.batches {
            if batch.state.cmpxchg(OVER, TAKEN, Full).is_err() {
                continue;
            }
            let list = batch.strays.xchg(0, Relaxed);
            // SAFETY: From `Strays::take()`; their grace periods are over.
            unsafe { self.process_list(list) };
            batch.state.xchg(FREE, Full);
            if self.lost_strays.load(Relaxed) {
                // What was lost is not uncounted: waiters look at the batches then.
                barrier::wake();
            }
            self.start_batches();
        }
    }

    /// # Safety
    ///
    /// `list` consists of strays whose grace periods are over.
    unsafe fn process_list(&self, mut list: u64) {
        // A double free makes the list cyclic, and its links can't be trusted.
        // SAFETY: By the safety requirements of this function.
        if !unsafe { Strays::has_end(list, self.link, gp::cond_resched) } {
            let counted = self.strays_pending.total();
            self.lost_strays.store(true, Relaxed);
            return debug::warn_endless(counted);
        }
        // SAFETY: By the safety requirements of this function.
        while let Some((addr, epoch, rest)) = unsafe { Strays::next(list, self.link) } {
            list = rest;
            self.destruct(addr);
            self.free_to_slab(&mut [with_exposed_provenance_mut(addr)]);
            if self.strays_pending.uncount(epoch) {
                barrier::wake();
            }
            gp::cond_resched();
        }
    }
}
