// SPDX-License-Identifier: GPL-2.0

//! The krcp: what each CPU has of this engine besides its current word, and its work items.

use super::{
    batch::{BatchWork, Batches, EarlyWork, N_BATCHES},
    block::ClosedList,
    monitor::{MonitorTimer, Tick},
    refill::RefillWork,
    spare::Spares,
    Page,
};
use crate::{
    params,
    rfc::list::DeferredList,
    sys::{
        current_block,
        irq::IrqsOff,
        irq_work::{IrqWork, Urgency},
        pinned_timer::PinnedTimer,
        raw_lock::RawSpinLock,
        work::{DelayedWork, OwnerRef, RcuWork, WorkQueue},
    },
};
use kernel::{
    prelude::*,
    static_lock_class,
    sync::{
        atomic::{Atomic, AtomicFlag, Relaxed},
        Arc,
    },
};

/// Events of one CPU since the module was loaded, counted where they are rare.
pub(super) struct Events {
    /// Objects by kind, counted when their blocks are sorted.
    pub(super) slab: Atomic<u64>,
    pub(super) vmalloc: Atomic<u64>,
    pub(super) list: Atomic<u64>,
    pub(super) sync: Atomic<u64>,
    pub(super) freed: Atomic<u64>,
    pub(super) freed_early: Atomic<u64>,
    pub(super) leaked: Atomic<u64>,
    pub(super) batches: Atomic<u64>,
    pub(super) batches_busy: Atomic<u64>,
    pub(super) refilled: Atomic<u64>,
    pub(super) backoffs: Atomic<u64>,
    pub(super) shrunk: Atomic<u64>,
}

/// One CPU's part of the engine.
#[pin_data]
pub(super) struct Krcp {
    /// The CPU whose objects these are.
    pub(super) cpu: i32,
    /// Its current word, as others see it.
    pub(super) current: &'static Atomic<u64>,
    /// Blocks that wait for a batch.
    pub(super) closed: ClosedList<Page>,
    /// Objects in them.
    pub(super) closed_objects: Atomic<usize>,
    /// Objects linked through their fields, as no block was to be had.
    pub(super) list: DeferredList,
    /// How many.
    pub(super) listed: Atomic<usize>,
    /// Blocks that nobody uses.
    pub(super) spares: Spares,
    /// Whether the CPU is up and stays so: otherwise it has no block, and gets none. Changed on that CPU.
    pub(super) online: AtomicFlag,
    /// Contexts off the common path, which may have closed a block and not handed it over yet.
    pub(super) slow: Atomic<usize>,
    /// When the monitor runs next, in jiffies with the lowest bit set; 0: it is idle.
    pub(super) expires: Atomic<usize>,
    /// When the current block is closed next, and how long the monitor slept last: the monitor's.
    pub(super) drain_at: Atomic<usize>,
    pub(super) period: Atomic<usize>,
    /// Takes over from NMI with the next tick.
    #[pin]
    pub(super) tick: IrqWork<Tick>,
    #[pin]
    pub(super) monitor: PinnedTimer<MonitorTimer>,
    /// Batches in flight.
    #[pin]
    pub(super) batches: RawSpinLock<Batches>,
    #[pin]
    batch0: RcuWork<BatchWork>,
    #[pin]
    batch1: RcuWork<BatchWork>,
    #[pin]
    batch2: RcuWork<BatchWork>,
    #[pin]
    batch3: RcuWork<BatchWork>,
    /// Frees what need not wait for them.
    #[pin]
    pub(super) early: DelayedWork<EarlyWork>,
    /// Refills the spares.
    #[pin]
    pub(super) refill: DelayedWork<RefillWork>,
    /// A refill is wanted or on its way.
    pub(super) refilling: AtomicFlag,
    /// Nobody has started it yet.
    pub(super) start_refill: AtomicFlag,
    /// The shrinker was here: the next refill waits, and is small.
    pub(super) backoff: AtomicFlag,
    pub(super) events: Events,
    /// Where all of it runs.
    pub(super) wq: Arc<WorkQueue>,
    /// But for refills.
    pub(super) refill_wq: Arc<WorkQueue>,
}

/// A krcp as its own work items know it.
pub(super) type KrcpRef = OwnerRef<Krcp>;

impl Krcp {
    /// The krcp of `cpu`, in place.
    pub(super) fn new(
        cpu: i32,
        wq: Arc<WorkQueue>,
        refill_wq: Arc<WorkQueue>,
    ) -> impl PinInit<Self, Error> {
        // SAFETY: The krcp is pinned, and `Lockless::stop()` ends its work items before it is dropped.
        let owner = |this| unsafe { KrcpRef::new(this) };
        try_pin_init!(&this in Self {
            current: current_block::of(cpu),
            cpu,
            closed: ClosedList::new(),
            closed_objects: Atomic::new(0),
            list: DeferredList::new(),
            listed: Atomic::new(0),
            spares: Spares::new(),
            online: AtomicFlag::new(false),
            slow: Atomic::new(0),
            expires: Atomic::new(0),
            drain_at: Atomic::new(0),
            period: Atomic::new(0),
            tick <- IrqWork::new(Urgency::Lazy, Tick(owner(this))),
            monitor <- PinnedTimer::new(
                c"rcu_ptr_monitor",
                static_lock_class!(),
                MonitorTimer(owner(this)),
            ),
            batches <- RawSpinLock::new(Batches::new(), c"rcu_ptr_batches", static_lock_class!()),
            batch0 <- RcuWork::new(BatchWork { krcp: owner(this), index: 0 }),
            batch1 <- RcuWork::new(BatchWork { krcp: owner(this), index: 1 }),
            batch2 <- RcuWork::new(BatchWork { krcp: owner(this), index: 2 }),
            batch3 <- RcuWork::new(BatchWork { krcp: owner(this), index: 3 }),
            early <- DelayedWork::new(EarlyWork(owner(this))),
            refill <- DelayedWork::new(RefillWork(owner(this))),
            refilling: AtomicFlag::new(false),
            start_refill: AtomicFlag::new(false),
            backoff: AtomicFlag::new(false),
            events: Events {
                slab: Atomic::new(0),
                vmalloc: Atomic::new(0),
                list: Atomic::new(0),
                sync: Atomic::new(0),
                freed: Atomic::new(0),
                freed_early: Atomic::new(0),
                leaked: Atomic::new(0),
                batches: Atomic::new(0),
                batches_busy: Atomic::new(0),
                refilled: Atomic::new(0),
                backoffs: Atomic::new(0),
                shrunk: Atomic::new(0),
            },
            wq,
            refill_wq,
        })
    }

    /// Calls `f` with the lock of the batches held.
    ///
    /// # Context
    ///
    /// Any but NMI.
    pub(super) fn with<R>(&self, irqs: &IrqsOff, f: impl FnOnce(&mut Batches) -> R) -> R {
        f(&mut self.batches.lock(irqs))
    }

    /// Spare blocks that may be kept.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    #[inline]
    pub(super) fn max_spares(&self) -> usize {
        if self.online.load(Relaxed) {
            params::min_cached_objs()
        } else {
            0
        }
    }

    /// Keeps an unused block as a spare; what is too much goes to `excess`.
    ///
    /// # Context
    ///
    /// Any, NMI included, if `excess` allows it; on any CPU.
    pub(super) fn keep(&self, base: u64, excess: impl FnMut(u64)) {
        self.spares.keep(base, || self.max_spares(), excess);
    }

    /// The work item of batch `i`.
    pub(super) fn batch_work(&self, i: usize) -> &RcuWork<BatchWork> {
        const { assert!(N_BATCHES == 4) };
        match i {
            0 => &self.batch0,
            1 => &self.batch1,
            2 => &self.batch2,
            _ => &self.batch3,
        }
    }

    /// Waits until all batches are freed, and their callbacks have come.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(super) fn flush_batches(&self) {
        for i in 0..N_BATCHES {
            self.batch_work(i).flush();
        }
        // Now, as what was taken from a batch was so before its own work came.
        self.early.flush();
    }

    /// Waits until what was taken from batches so far is freed.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(super) fn settle_batches(&self) {
        self.early.flush();
        for i in 0..N_BATCHES {
            self.batch_work(i).settle();
        }
    }
}
