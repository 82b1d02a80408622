// SPDX-License-Identifier: GPL-2.0

//! The krcp: what each CPU has of this engine, its lock, and its work items (`struct
//! kfree_rcu_cpu`); and what happens when the CPU comes or goes.

use super::{
    arm,
    drain::{self, BatchWork, MonitorWork},
    queue::{self, ArmWork, DeferRest, DeferWork},
    refill::{self, RefillWork},
    state::{State, N_BATCHES},
    Rcu, Rfc,
};
use crate::{
    calls::Calls,
    engine::Gauges,
    list::DeferredList,
    stats::Counter,
    sys::{
        hotplug::Callbacks,
        irq::IrqsOff,
        irq_work::{IrqWork, Urgency},
        raw_lock::RawSpinLock,
        work::{DelayedWork, OwnerRef, RcuWork, WorkQueues},
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
use pin_init::pin_init_array_from_fn;

/// One CPU's part of the engine.
#[pin_data]
pub(crate) struct Krcp {
    /// The CPU whose objects these are.
    pub(super) cpu: i32,
    /// Nothing of the kernel's but grace-period snapshots is called with it held: timers, irq_works, work
    /// items, trace events and debug features have locks of their own, and clients that free objects from
    /// their tracepoints.
    #[pin]
    pub(super) state: RawSpinLock<State<Rcu>>,
    /// Held while objects are freed that are in no batch, so that a barrier can wait for them. Memory
    /// reclaim takes it too: nothing may be allocated under it.
    #[pin]
    pub(super) reclaim: Mutex<()>,
    /// The work items that free batches.
    #[pin]
    pub(super) batch_works: [RcuWork<BatchWork>; N_BATCHES],
    /// The monitor.
    #[pin]
    pub(super) monitor: DelayedWork<MonitorWork>,
    /// Refills the block cache.
    #[pin]
    pub(super) refill: DelayedWork<RefillWork>,
    /// Objects whose trylock failed.
    pub(super) deferred: DeferredList,
    /// Takes them over, and does the work of `arm_work` at once.
    #[pin]
    pub(super) defer_work: IrqWork<DeferWork>,
    /// Takes over what is too much for one interrupt.
    #[pin]
    pub(super) defer_rest: DelayedWork<DeferRest>,
    /// Arms the monitor and starts refills for callers that may hold any lock.
    #[pin]
    pub(super) arm_work: IrqWork<ArmWork>,
    /// Callbacks whose grace period is over.
    #[pin]
    pub(super) calls: Calls,
    /// Objects leaked for misuse.
    pub(super) leaked: Atomic<u64>,
    /// Where all of it runs.
    pub(super) queues: WorkQueues,
}

/// A krcp as its own work items know it.
pub(super) type KrcpRef = OwnerRef<Krcp>;

impl Krcp {
    /// The krcp of `cpu`, in place.
    pub(super) fn new(cpu: i32, queues: WorkQueues) -> impl PinInit<Self, Error> {
        // SAFETY: The krcp is pinned, and `Rfc::stop()` ends its work items before it is dropped.
        let owner = |this| unsafe { KrcpRef::new(this) };
        try_pin_init!(&this in Self {
            cpu,
            state <- RawSpinLock::new(State::new(), c"rcu_ptr_krcp", static_lock_class!()),
            reclaim <- new_mutex!((), "rcu_ptr_reclaim"),
            batch_works <- pin_init_array_from_fn(|index| {
                RcuWork::new(BatchWork { krcp: owner(this), index })
            }),
            monitor <- DelayedWork::new(MonitorWork(owner(this))),
            refill <- DelayedWork::for_refills(RefillWork(owner(this))),
            deferred: DeferredList::new(),
            defer_work <- IrqWork::new(Urgency::Hard, DeferWork(owner(this))),
            defer_rest <- DelayedWork::new(DeferRest(owner(this))),
            arm_work <- IrqWork::new(Urgency::Lazy, ArmWork(owner(this))),
            calls <- Calls::new(queues.clone()),
            leaked: Atomic::new(0),
            queues,
        })
    }

    /// Calls `f` with the lock held. Not in NMI.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut State<Rcu>) -> R) -> R {
        let irqs = IrqsOff::save();
        let mut state = self.state.lock(&irqs);
        f(&mut state)
    }

    /// What debugfs shows.
    pub(super) fn gauges(&self) -> Gauges {
        let (invoked, lost) = self.calls.ended();
        let mut gauges = self.with(|state| Gauges {
            cpu: self.cpu,
            stats: state.stats,
            queued: state.queued.len(),
            in_batches: state.in_batches(),
            ready: 0,
            cached: state.nr_cached(),
        });
        gauges.ready = self.calls.ready();
        gauges.stats[Counter::Leaked] += self.leaked.load(Relaxed) + lost;
        gauges.stats[Counter::Invoked] = invoked;
        gauges
    }
}

/// CPU hotplug: a dead CPU's objects are taken over, a batch is made of them, and its cached blocks are
/// freed. Nothing runs on the way down.
///
/// | what is left when the CPU is dead | taken by | when |
/// |---|---|---|
/// | deferred objects | `dead()` queues them | once it is dead |
/// | queued objects | `dead()` frees what is ready and makes a batch of the rest; where both batches are busy the monitor does so, on any CPU | once it is dead |
/// | batches | their work items, on any CPU | after their grace periods |
/// | callbacks whose grace period is over | their workers, on any CPU | at any time |
/// | cached blocks | `dead()` frees them | once it is dead |
/// | an irq_work that could not be queued on the way down | `online()` queues it | when the CPU is back |
pub(crate) struct KrcHotplug;

impl Callbacks for KrcHotplug {
    fn prepare(cpu: i32) {
        Rfc::get().krc.of(cpu).with(|state| state.online = true);
    }

    fn online(cpu: i32) {
        let krcp = Rfc::get().krc.of(cpu);
        krcp.defer_work.make_up();
        krcp.arm_work.make_up();
    }

    /// The irq_work that takes over deferred objects may never run again, and the monitor is not waited
    /// for. Other timers and work items of the CPU migrate by themselves.
    fn dead(cpu: i32) {
        let krcp = Rfc::get().krc.of(cpu);
        arm::died(&*krcp);
        krcp.with(|state| state.online = false);
        queue::take_over(&krcp);
        refill::drop_cached(&krcp);
        drain::run(&krcp);
    }
}
