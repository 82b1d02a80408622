// SPDX-License-Identifier: GPL-2.0

//! The per-CPU state of engine `lockless`, the CPU as the algorithm of insert.rs sees it, and CPU
//! hotplug.
//!
//! # Context
//!
//! Any, NMI included, and on any CPU; functions that take the lock of the batches: not NMI.

use super::{
    barrier::Works,
    batches::N_BATCHES,
    block::{self, ClosedList, Layout, Spares},
    drain::{self, CollectWork, CpuBatches, MonitorTimer, PolledWork},
    insert::{self, BlockCpu, BlockFastPath},
    Lockless, Page,
};
use crate::{
    calls::Calls,
    engine::Gauges,
    fault, krcp,
    list::LinkList,
    params,
    platform::{LocalWord, MAX_ALLOCATING},
    stats::{Counter, Stats, NAMES},
    sys::{
        current_block,
        hotplug::Callbacks,
        irq::IrqsOff,
        irq_work::{IrqWork, Urgency},
        pinned_timer::{jiffies, PinnedTimer},
        preempt::{OnCpu, Pinned},
        raw_lock::RawSpinLock,
        slab, trace,
        work::{DelayedWork, OwnerRef, RcuWork, WorkQueues},
    },
};
use kernel::{
    prelude::*,
    static_lock_class,
    sync::atomic::{Acquire, Atomic, AtomicFlag, Full, Relaxed, Release},
};

/// The counters of one CPU. Objects in blocks are counted a block at a time, listed ones one by
/// one; nothing is counted on the fast path.
pub(super) struct Counters([Atomic<u64>; NAMES.len()]);

impl Counters {
    fn new() -> Self {
        Self(core::array::from_fn(|_| Atomic::new(0)))
    }

    /// Adds `n` to `counter`.
    pub(super) fn add(&self, counter: Counter, n: u64) {
        // ORDERING: Release: see `stats()`.
        self.0[counter as usize].fetch_add(n, Release);
    }

    /// Reads the counters in reverse order of their declaration: objects are counted as queued
    /// before they are counted as freed, so that `freed` is not the higher one.
    fn stats(&self) -> Stats {
        let mut values = [0; NAMES.len()];
        for (value, counter) in values.iter_mut().zip(&self.0).rev() {
            // ORDERING: Acquire: sees what was counted before.
            *value = counter.load(Acquire);
        }
        Stats(values)
    }
}

/// The state of one CPU.
#[pin_data]
pub(crate) struct Krcp {
    #[pin]
    pub(super) common: krcp::KrcpCommon<Self, N_BATCHES>,
    /// The CPU's current word, for readers on other CPUs.
    pub(super) current: &'static Atomic<u64>,
    /// Blocks that wait for a batch.
    pub(super) closed: ClosedList<Page>,
    /// Objects in these.
    pub(super) closed_objects: Atomic<usize>,
    /// Objects linked through their fields, as there was no block.
    pub(super) list: LinkList,
    /// The length of `list`.
    pub(super) nr_listed: Atomic<usize>,
    /// When its first object was linked, in jiffies.
    pub(super) list_since: Atomic<u32>,
    /// Spare blocks.
    pub(super) spares: Spares,
    /// The CPU is up and not about to go down. It has a block only then. Written on that CPU.
    pub(super) online: AtomicFlag,
    /// Contexts on the slow path, which may have closed a block and not pushed it to `closed` yet.
    pub(super) slow: Atomic<usize>,
    /// When the monitor runs next, in jiffies, with the topmost bit set; 0 if it is idle.
    pub(super) expires: Atomic<usize>,
    /// When the monitor closes the current block next, and its last period, in jiffies.
    pub(super) drain_at: Atomic<usize>,
    pub(super) period: Atomic<usize>,
    /// Runs with the next tick what can't run in NMI: collects, arms the monitor, starts a refill.
    #[pin]
    pub(super) irq_work: IrqWork<CollectWork>,
    /// The same in hardirq, for PREEMPT_RT: a FIFO task can starve the thread of lazy irq_works.
    #[pin]
    pub(super) hard_irq_work: IrqWork<CollectWork>,
    #[pin]
    pub(super) monitor: PinnedTimer<MonitorTimer>,
    /// Batches that wait for a grace period.
    #[pin]
    pub(super) batches: RawSpinLock<CpuBatches>,
    /// Frees batches whose grace period has ended and whose work item has not run yet.
    #[pin]
    pub(super) polled: DelayedWork<PolledWork>,
    /// A refill was requested and has not been queued since. Used on the CPU itself only.
    pub(super) wants_refill: AtomicFlag,
    /// Set by the shrinker: the next refill is delayed, and limited to one block.
    pub(super) backoff: AtomicFlag,
    pub(super) counters: Counters,
}

/// Back reference from the work items.
pub(super) type KrcpRef = OwnerRef<Krcp>;

impl Krcp {
    pub(super) fn new(cpu: i32, queues: WorkQueues) -> impl PinInit<Self, Error> {
        // SAFETY: The krcp is pinned, and `Lockless::stop()` ends its work items before it is
        // dropped.
        let owner = |this| unsafe { KrcpRef::new(this) };
        try_pin_init!(&this in Self {
            common <- krcp::KrcpCommon::new(cpu, owner(this), queues),
            current: current_block::of(cpu),
            closed: ClosedList::new(),
            closed_objects: Atomic::new(0),
            list: LinkList::new(),
            nr_listed: Atomic::new(0),
            list_since: Atomic::new(0),
            spares: Spares::new(),
            online: AtomicFlag::new(false),
            slow: Atomic::new(0),
            expires: Atomic::new(0),
            drain_at: Atomic::new(0),
            period: Atomic::new(0),
            irq_work <- IrqWork::new(Urgency::Lazy, CollectWork(owner(this))),
            hard_irq_work <- IrqWork::new(Urgency::Hard, CollectWork(owner(this))),
            monitor <- PinnedTimer::new(
                c"rcu_ptr_monitor",
                static_lock_class!(),
                MonitorTimer(owner(this)),
            ),
            batches <- RawSpinLock::new(
                CpuBatches::new(),
                c"rcu_ptr_batches",
                static_lock_class!(),
            ),
            polled <- DelayedWork::new(PolledWork(owner(this))),
            wants_refill: AtomicFlag::new(false),
            backoff: AtomicFlag::new(false),
            counters: Counters::new(),
        })
    }

    /// Calls `f` with the lock of the batches held.
    pub(super) fn with_locked<R>(&self, irqs: &IrqsOff, f: impl FnOnce(&mut CpuBatches) -> R) -> R {
        f(&mut self.batches.lock(irqs))
    }

    /// The limit of spare blocks.
    #[inline]
    pub(super) fn max_spares(&self) -> usize {
        if self.online.load(Relaxed) {
            params::min_cached_objs()
        } else {
            0
        }
    }

    /// Adds an unused block to the spares; calls `excess` with each block beyond the limit.
    pub(super) fn put_spare(&self, base: usize, excess: impl FnMut(usize)) {
        self.spares.put(base, || self.max_spares(), excess);
    }

    /// Requests a refill of the spares, which the next tick or run of the monitor starts. On this
    /// CPU, in any context.
    fn request_refill(&self) {
        self.wants_refill.store(true, Relaxed);
    }

    /// Queues the irq_work that starts a requested refill. Not if a delayed refill is pending:
    /// where the tick is stopped each free would cause an interrupt.
    fn queue_refill_irq_work(&self, on: &impl OnCpu) {
        if self.wants_refill.load(Relaxed) && !self.common.refill.is_pending() {
            self.irq_work.queue(on);
        }
    }

    /// Starts a requested refill.
    ///
    /// # Context
    ///
    /// Not NMI; neither the caller nor the interrupted context holds a lock that a wakeup or a
    /// timer takes.
    pub(super) fn start_refill(&self) {
        if self.wants_refill.load(Relaxed) {
            self.start_requested_refill();
        }
    }

    #[cold]
    #[inline(never)]
    fn start_requested_refill(&self) {
        // Cleared first: a request of an NMI after this requeues the worker, which runs after one
        // before this.
        self.wants_refill.store(false, Relaxed);
        let backoff = self.backoff.load(Relaxed);
        if self.common.queue_refill(backoff, self.waiting()) && backoff {
            self.counters.add(Counter::Backoffs, 1);
        }
    }
}

impl Works for Krcp {
    fn flush_polled(&self) {
        self.polled.flush();
    }

    fn flush_running(&self) {
        self.common
            .batch_works
            .iter()
            .for_each(RcuWork::flush_running);
    }

    fn flush_waiting(&self) {
        self.common.batch_works.iter().for_each(RcuWork::flush);
    }
}

/// The current word of this CPU, which is all that the fast path needs.
#[derive(Clone, Copy)]
pub(super) struct CurrentWord<'a>(Pinned<'a>);

impl<'a> CurrentWord<'a> {
    #[inline(always)]
    pub(super) fn new(on: &'a impl OnCpu) -> Self {
        Self(on.pinned())
    }
}

impl LocalWord for CurrentWord<'_> {
    #[inline(always)]
    fn load(self) -> usize {
        current_block::this().read(&self.0) as usize
    }

    #[inline(always)]
    fn fetch_add(self, n: usize) -> usize {
        current_block::this().fetch_add(n as u64, &self.0) as usize
    }

    #[inline(always)]
    fn cmpxchg(self, old: usize, new: usize) -> usize {
        current_block::this().cmpxchg(old as u64, new as u64, &self.0) as usize
    }
}

impl BlockFastPath for CurrentWord<'_> {
    type Block = Page;
    type Word = Self;

    #[inline(always)]
    fn current(&self) -> Self {
        *self
    }
}

/// This CPU on the slow path. While the value lives, barriers assume that a block may be closed and
/// not yet be on the closed list.
pub(super) struct Slow<'a> {
    on: Pinned<'a>,
    krcp: &'a Krcp,
}

impl<'a> Slow<'a> {
    /// Enters the slow path on the CPU of `krcp`.
    #[inline]
    pub(super) fn new(on: &'a impl OnCpu, krcp: &'a Krcp) -> Self {
        // ORDERING: Full: a CPU that sees a later change of the current word sees this.
        krcp.slow.fetch_add(1, Full);
        Self {
            on: on.pinned(),
            krcp,
        }
    }
}

impl Slow<'_> {
    /// Whether this context may allocate a block: not more than [`MAX_ALLOCATING`] of them.
    fn may_allocate(&self) -> bool {
        self.krcp.slow.load(Relaxed) <= MAX_ALLOCATING
    }
}

impl Drop for Slow<'_> {
    #[inline]
    fn drop(&mut self) {
        // ORDERING: Full: a CPU that sees this sees the blocks that were pushed.
        self.krcp.slow.fetch_add(0usize.wrapping_sub(1), Full);
    }
}

impl<'a> BlockFastPath for Slow<'a> {
    type Block = Page;
    type Word = CurrentWord<'a>;

    #[inline(always)]
    fn current(&self) -> CurrentWord<'a> {
        CurrentWord(self.on)
    }
}

impl BlockCpu for Slow<'_> {
    fn take_block(&self) -> Option<usize> {
        if self.krcp.max_spares() == 0 {
            return None;
        }
        let base = self.krcp.spares.take().or_else(|| {
            self.krcp.request_refill();
            let page = self.may_allocate().then(fault::alloc_page_nolock).flatten();
            let Some(page) = page else {
                // The call may return false, and may be the last one: make sure that the refill
                // starts.
                self.krcp.queue_refill_irq_work(&self.on);
                return None;
            };
            let base = page.as_ptr().expose_provenance();
            // SAFETY: A fresh page. The next tick registers it with kmemleak: not possible in NMI.
            unsafe { block::begin::<Page>(base, false) };
            Some(base)
        })?;
        // SAFETY: Owned, by the line above.
        unsafe { block::stamp(base, jiffies() as u32) };
        Some(base)
    }

    /// Pages can't be freed in NMI: if the spares are full the block is closed, without an object.
    fn put_block(&self, base: usize) {
        self.krcp
            .put_spare(base, |base| self.krcp.hand_over(base, 0));
    }

    fn on_closed(&self, base: usize, filled: usize) {
        self.krcp.hand_over(base, filled);
        drain::collect_soon(self.krcp, &self.on);
    }

    fn on_opened(&self) {
        drain::arm_monitor(self.krcp, &self.on);
    }
}

impl Krcp {
    fn hand_over(&self, base: usize, filled: usize) {
        self.closed_objects.add(filled, Relaxed);
        // SAFETY: The caller gives the closed block away; preemption is disabled, by [`Slow::on`].
        unsafe { self.closed.push(base, filled) };
    }

    /// Objects in the current block.
    fn in_current(&self) -> usize {
        let word = self.current.load(Relaxed) as usize;
        if Page::base(word) == 0 {
            0
        } else {
            Page::filled(word)
        }
    }

    /// Objects in closed blocks and on the list.
    pub(super) fn waiting(&self) -> usize {
        self.closed_objects.load(Relaxed) + self.nr_listed.load(Relaxed)
    }

    /// Objects whose grace period has not been requested.
    pub(super) fn queued(&self) -> usize {
        self.in_current() + self.waiting()
    }
}

impl krcp::KrcpOps for Krcp {
    fn calls(&self) -> &Calls {
        &self.common.calls
    }

    fn gauges(&self) -> Gauges {
        let irqs = IrqsOff::save();
        let (mixed, list) = self.with_locked(&irqs, |batches| drain::counts(batches));
        let mut stats = self.counters.stats();
        stats[Counter::QueuedMixed] =
            (self.in_current() + self.closed_objects.load(Relaxed) + mixed) as u64;
        Gauges {
            stats,
            queued: self.queued(),
            in_batches: mixed + list,
            cached: self.spares.len(),
            ..Gauges::default()
        }
    }

    /// Does nothing if [`PolledWork`] has freed the batch.
    fn free_batch(&self, index: usize) {
        let irqs = IrqsOff::save();
        // The slot is free for a new batch before the objects of this one are freed.
        let taken = self.with_locked(&irqs, |batches| batches.take(index));
        drop(irqs);
        if let Some(batch) = taken {
            drain::free(self, index, batch);
        }
        let irqs = IrqsOff::save();
        if self.with_locked(&irqs, CpuBatches::retry) {
            drain::start_batch(self, &irqs);
        }
    }

    /// Up to the limit, or one block after memory pressure.
    fn refill(&self) {
        let limit = self.max_spares();
        let wanted = if self.backoff.load(Relaxed) {
            limit.min(1)
        } else {
            limit
        };
        let mut blocks = 0;
        // A block beyond the limit, which may have been lowered, is freed, and ends the refill.
        let mut is_kept = true;
        while is_kept && self.spares.len() < wanted {
            let Some(page) = fault::alloc_page(slab::GFP_REFILL) else {
                break;
            };
            self.put_spare(Lockless::begin_block(page), |base| {
                Lockless::free_block(base);
                is_kept = false;
            });
            self.counters.add(Counter::Refilled, u64::from(is_kept));
            blocks += usize::from(is_kept);
        }
        trace::refill(self.common.cpu, blocks, wanted);
        self.backoff.store(false, Relaxed);
    }

    fn shrinkable(&self) -> usize {
        self.backoff.store(true, Relaxed);
        self.queued() + self.spares.len()
    }

    fn shrink(&self) -> usize {
        // A CPU without objects is not interrupted, even if it has an empty block.
        let waiting = self.queued();
        drain::close_current(self);
        drain::start_batch(self, &IrqsOff::save());
        let blocks = drain::trim_spares(self, 0);
        trace::shrink(self.common.cpu, blocks, waiting);
        blocks + waiting
    }
}

/// CPU hotplug: a CPU that goes down closes its block itself, in `teardown()`, and opens no other.
/// Objects that are queued on it after that are linked, and `dead()`, on another CPU, makes a batch
/// of them.
///
/// | of the CPU | handled by | when |
/// |---|---|---|
/// | the current block | `teardown()`, on the CPU itself | before it goes down |
/// | objects linked since | `dead()` makes a batch of them | once it is dead |
/// | batches | their work items, on any CPU | after their grace periods |
/// | the overflow | the work item of a batch | when a slot is free |
/// | ready callbacks | their workers, on any CPU | at any time |
/// | spare blocks | `dead()` frees them | once it is dead |
/// | an irq_work that was not queued | `online()` queues it | when the CPU is online again |
pub(crate) struct LocklessHotplug;

impl Callbacks for LocklessHotplug {
    fn prepare(_cpu: i32) {}

    fn online(cpu: i32) {
        let krcp = Lockless::get().krc.of(cpu);
        krcp.online.store(true, Relaxed);
        krcp.irq_work.queue_if_due();
    }

    /// From here on the CPU has no block, and objects are linked. So no block has to be closed on a
    /// dead CPU, and a barrier need not wait until the CPU is dead.
    fn teardown(cpu: i32) {
        let krcp = Lockless::get().krc.of(cpu);
        let irqs = IrqsOff::save();
        // ORDERING: None needed: read on this CPU only. Interrupts open no block after this.
        krcp.online.store(false, Relaxed);
        insert::close(&Slow::new(&irqs, &krcp), false);
        drain::start_batch(&krcp, &irqs);
    }

    /// Stops the monitor's timer, which may have migrated. Nothing arms it again, as only frees on
    /// this CPU do.
    fn dead(cpu: i32) {
        let krcp = Lockless::get().krc.of(cpu);
        krcp.monitor.cancel_sync();
        krcp.expires.store(0, Relaxed);
        drain::start_batch(&krcp, &IrqsOff::save());
        drain::trim_spares(&krcp, 0);
    }
}
