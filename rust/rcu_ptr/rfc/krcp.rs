// SPDX-License-Identifier: GPL-2.0

//! The per-CPU state of engine `rfc` (`struct kfree_rcu_cpu`) with its block cache, and CPU
//! hotplug.

use super::{
    arm,
    blocks::{self, Refill},
    bnode::Bnode,
    drain::{self, MonitorWork},
    queue::{self, ArmWork, DeferRest, DeferWork},
    state::{State, N_BATCHES},
    Rcu, Rfc,
};
use crate::{
    calls::Calls,
    engine::Gauges,
    fault, krcp,
    list::LinkList,
    params,
    stats::Counter,
    sys::{
        hotplug::Callbacks,
        irq::IrqsOff,
        irq_work::{IrqWork, Urgency},
        mem,
        raw_lock::RawSpinLock,
        slab, trace,
        work::{DelayedWork, OwnerRef, WorkQueues},
    },
};
use kernel::{
    new_mutex,
    prelude::*,
    static_lock_class,
    sync::{
        atomic::{Atomic, Relaxed},
        Mutex,
    },
};

/// The state of one CPU.
#[pin_data]
pub(crate) struct Krcp {
    #[pin]
    pub(super) common: krcp::KrcpCommon<Self, N_BATCHES>,
    /// A leaf lock: of RCU only grace-period snapshots and polls are called under it. Timers,
    /// irq_works, work items, trace events and debug features have locks of their own, and
    /// tracepoints whose probes may free objects.
    #[pin]
    pub(super) state: RawSpinLock<State<Rcu>>,
    /// Held while objects that are in no batch are freed, so that barriers can wait for them.
    /// Memory reclaim takes it as well: nothing may be allocated under it.
    #[pin]
    pub(super) reclaim: Mutex<()>,
    #[pin]
    pub(super) monitor: DelayedWork<MonitorWork>,
    /// Objects that were deferred because the trylock failed.
    pub(super) deferred: LinkList,
    /// Queues the deferred objects, and does the work of `arm_work`, in hardirq.
    #[pin]
    pub(super) defer_work: IrqWork<DeferWork>,
    /// Queues the deferred objects that are too many for one interrupt.
    #[pin]
    pub(super) defer_rest: DelayedWork<DeferRest>,
    /// Arms the monitor and starts refills for callers that may hold any lock.
    #[pin]
    pub(super) arm_work: IrqWork<ArmWork>,
    /// Counted as [`Counter::Leaked`] without the lock.
    pub(super) leaked: Atomic<u64>,
}

/// Back reference from the work items.
pub(super) type KrcpRef = OwnerRef<Krcp>;

impl Krcp {
    pub(super) fn new(cpu: i32, queues: WorkQueues) -> impl PinInit<Self, Error> {
        // SAFETY: The krcp is pinned, and `Rfc::stop()` ends its work items before it is dropped.
        let owner = |this| unsafe { KrcpRef::new(this) };
        try_pin_init!(&this in Self {
            common <- krcp::KrcpCommon::new(cpu, owner(this), queues),
            state <- RawSpinLock::new(State::new(), c"rcu_ptr_krcp", static_lock_class!()),
            reclaim <- new_mutex!((), "rcu_ptr_reclaim"),
            monitor <- DelayedWork::new(MonitorWork(owner(this))),
            deferred: LinkList::new(),
            defer_work <- IrqWork::new(Urgency::Hard, DeferWork(owner(this))),
            defer_rest <- DelayedWork::new(DeferRest(owner(this))),
            arm_work <- IrqWork::new(Urgency::Lazy, ArmWork(owner(this))),
            leaked: Atomic::new(0),
        })
    }

    /// Calls `f` with the lock held. Not in NMI.
    pub(super) fn with_locked<R>(&self, f: impl FnOnce(&mut State<Rcu>) -> R) -> R {
        let irqs = IrqsOff::save();
        let mut state = self.state.lock(&irqs);
        f(&mut state)
    }
}

impl krcp::KrcpOps for Krcp {
    fn calls(&self) -> &Calls {
        &self.common.calls
    }

    fn gauges(&self) -> Gauges {
        let mut gauges = self.with_locked(|state| Gauges {
            stats: state.stats,
            queued: state.queued.len(),
            in_batches: state.in_batches(),
            cached: state.nr_cached(),
            ..Gauges::default()
        });
        gauges.stats[Counter::Leaked] += self.leaked.load(Relaxed);
        gauges
    }

    fn free_batch(&self, index: usize) {
        match self.with_locked(|state| state.take_batch(index)) {
            Some(objects) if objects.is_empty() => {}
            Some(objects) => {
                drain::free_objects(self, objects, Some(index));
            }
            // A barrier has freed the batch, and the slot has another one since.
            None => {
                self.common.batch_works[index].queue(&self.common.queues.reclaim);
            }
        }
    }

    fn refill(&self) {
        blocks::refill(self);
    }

    fn shrinkable(&self) -> usize {
        self.with_locked(|state| {
            state.backoff = true;
            state.queued.len() + state.nr_cached()
        })
    }

    fn shrink(&self) -> usize {
        let blocks = self.drop_cached();
        let waiting = self.with_locked(|state| state.queued.len());
        let freed = drain::run(self);
        trace::shrink(self.common.cpu, blocks, freed);
        // The objects that were not freed are in a batch now.
        blocks + waiting.max(freed)
    }
}

impl Refill for Krcp {
    type Platform = Rcu;

    fn with_locked<R>(&self, f: impl FnOnce(&mut State<Rcu>) -> R) -> R {
        self.with_locked(f)
    }

    fn limit(&self) -> usize {
        params::min_cached_objs()
    }

    fn alloc(&self) -> Option<Bnode<Rcu>> {
        let page = fault::alloc_page(slab::GFP_REFILL)?;
        // SAFETY: A fresh page, given away here.
        Some(unsafe { Bnode::from_page(page) })
    }

    fn free(&self, bnode: Bnode<Rcu>) {
        // SAFETY: The block is owned, and every block's page comes from `alloc_page()`.
        unsafe { mem::free_page(bnode.into_page()) };
    }

    fn queue(&self, backoff: bool, waiting: usize) {
        self.common.queue_refill(backoff, waiting);
    }

    fn ended(&self, blocks: usize, wanted: usize) {
        trace::refill(self.common.cpu, blocks, wanted);
    }
}

// Blocks of the cache. Any context but NMI, no raw spinlock held.
impl Krcp {
    /// Caches an emptied block, or frees its page.
    pub(super) fn put_block(&self, bnode: Bnode<Rcu>) {
        // The limit is read under the lock: see `trim_cached()`.
        if let Some(bnode) =
            self.with_locked(|state| state.put_cached(bnode, params::min_cached_objs()))
        {
            self.free(bnode);
        }
    }

    /// Frees cached blocks beyond a limit that was set just now. Blocks that are put later see the
    /// new limit: they take the lock after this.
    pub(super) fn trim_cached(&self) {
        while let Some(bnode) =
            self.with_locked(|state| state.take_excess(params::min_cached_objs()))
        {
            self.free(bnode);
        }
    }

    /// Frees all cached blocks. Returns how many.
    pub(super) fn drop_cached(&self) -> usize {
        let mut cached = self.with_locked(State::take_cached);
        let mut dropped = 0;
        while let Some(bnode) = cached.pop() {
            self.free(bnode);
            dropped += 1;
        }
        dropped
    }
}

/// CPU hotplug: when a CPU is dead its objects become a batch, and its cached blocks are freed.
///
/// | of the dead CPU | handled by | when |
/// |---|---|---|
/// | deferred objects | `dead()` queues them | once it is dead |
/// | queued objects | `dead()` frees them or makes a batch | once it is dead |
/// | the same, if both batches are busy | the monitor, on any CPU | within the drain interval |
/// | batches | their work items, on any CPU | after their grace periods |
/// | ready callbacks | their workers, on any CPU | at any time |
/// | cached blocks | `dead()` frees them | once it is dead |
/// | an irq_work that was not queued | `online()` queues it | when the CPU is online again |
pub(crate) struct RfcHotplug;

impl Callbacks for RfcHotplug {
    fn prepare(cpu: i32) {
        Rfc::get()
            .krc
            .of(cpu)
            .with_locked(|state| state.online = true);
    }

    fn online(cpu: i32) {
        let krcp = Rfc::get().krc.of(cpu);
        krcp.defer_work.queue_if_due();
        krcp.arm_work.queue_if_due();
    }

    /// Queues the deferred objects, as the irq_work may never run again. Timers and work items of
    /// the CPU migrate.
    fn dead(cpu: i32) {
        let krcp = Rfc::get().krc.of(cpu);
        arm::cpu_dead(&*krcp);
        krcp.with_locked(|state| state.online = false);
        queue::requeue_deferred(&krcp);
        krcp.drop_cached();
        drain::run(&krcp);
    }
}
