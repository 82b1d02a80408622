// SPDX-License-Identifier: GPL-2.0

//! Engine `rfc`: the cover letter's design. A krcp per CPU under a raw spinlock; blocks of slab and
//! of vmalloc pointers, and a list through the objects; two batches in flight per CPU; a monitor.
//!
//! ```text
//!  queue.rs        object -> block of its channel, or list          (any context but NMI)
//!  nolock.rs       object -> list, or deferred to queue.rs          (any context)
//!  refill.rs       keeps blocks at hand
//!  monitor.rs      after 5 s, or a jiffy when a block is full: what is ready is freed, the rest
//!  batch.rs        becomes a batch, waits for a grace period and is freed
//!  barrier.rs      until all of that is done
//!  shrink.rs       memory is short      hotplug.rs     a CPU comes or goes
//! ```

pub(crate) mod arm;
mod barrier;
mod batch;
pub(crate) mod bnode;
mod hotplug;
mod krcp;
pub(crate) mod list;
mod monitor;
mod nolock;
mod queue;
mod refill;
mod shrink;
pub(crate) mod state;
pub(crate) mod takeover;

use crate::{
    engine::{Engine, Gauges},
    platform::Platform,
    sys::{
        gp::Snapshot,
        hotplug::{Hotplug, IrqWorksRun},
        irq::IrqsOff,
        mem,
        percpu::PerCpu,
        shrinker::Shrinker,
        trace, work,
    },
};
use core::ptr::{self, NonNull};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, Mutex,
    },
};
use krcp::Krcp;
pub(crate) use state::Stats;

/// The kernel's RCU and pages, for the algorithm files.
pub(crate) struct Rcu;

impl Platform for Rcu {
    type Snap = Snapshot;

    const BLOCK_BYTES: usize = mem::PAGE_SIZE;

    #[inline]
    fn snapshot() -> Snapshot {
        Snapshot::take()
    }

    #[inline]
    fn is_over(snap: &Snapshot) -> bool {
        snap.is_over()
    }
}

/// The engine as loaded.
#[pin_data]
pub(crate) struct Rfc {
    krc: PerCpu<Krcp>,
    /// Barriers take turns.
    #[pin]
    barrier: Mutex<()>,
    /// Twice the turns that are done, and 1 while one is taken. Written under `barrier`.
    turns: Atomic<usize>,
}

/// The instance, from [`Rfc::start()`] to its drop.
static INSTANCE: Atomic<*mut Rfc> = Atomic::new(ptr::null_mut());

/// Keeps the engine running; dropping it drains and stops it.
pub(crate) struct Running {
    shrinker: Option<Shrinker<shrink::KrcShrinker>>,
    hotplug: Option<Hotplug<hotplug::KrcHotplug>>,
}

impl Rfc {
    /// Sets up the krcp of every possible CPU, the shrinker and the hotplug callbacks.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn start(irq_works: &IrqWorksRun) -> Result<Running> {
        let wq = Arc::new(work::WorkQueue::new(c"rcu_ptr_reclaim")?, GFP_KERNEL)?;
        let refill_wq = Arc::new(work::WorkQueue::for_refills(c"rcu_ptr_refill")?, GFP_KERNEL)?;
        let krc = PerCpu::new(|cpu| Krcp::new(cpu, wq.clone(), refill_wq.clone()))?;
        let rfc = KBox::pin_init(
            pin_init!(Rfc {
                krc,
                barrier <- new_mutex!((), "rcu_ptr_barrier"),
                turns: Atomic::new(0),
            }),
            GFP_KERNEL,
        )?;
        // SAFETY: It stays where it is until it is dropped.
        let rfc = KBox::into_raw(unsafe { Pin::into_inner_unchecked(rfc) });
        // ORDERING: Nobody can look before module init has returned, or before the registrations
        // below, which order it themselves.
        INSTANCE.store(rfc, Relaxed);
        let mut running = Running {
            shrinker: None,
            hotplug: None,
        };
        // On an error the drop of `running` undoes what was done.
        running.hotplug = Some(Hotplug::register(c"rcu_ptr:krc", irq_works)?);
        running.shrinker = Some(Shrinker::register(c"rcu_ptr-krc")?);
        Ok(running)
    }

    /// The running engine.
    #[inline]
    fn get() -> &'static Rfc {
        // SAFETY: Set by `start()` before anything that calls this is reachable: the exports are
        // resolved after module init, the callbacks registered after the store. Reset in the drop
        // of `Running`, when the users of the exports are gone and the callbacks unregistered.
        unsafe { &*INSTANCE.load(Relaxed) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shrinker = None;
        self.hotplug = None;
        Rfc::get().stop();
        let rfc = INSTANCE.load(Relaxed);
        INSTANCE.store(ptr::null_mut(), Relaxed);
        // SAFETY: `start()` made it with `KBox::into_raw()`; `stop()` has ended all its work, and
        // nobody else can reach it any more.
        drop(unsafe { KBox::from_raw(rfc) });
    }
}

impl Rfc {
    /// Drains everything and ends all work items. Nobody queues any more: the module has no users. CPUs may
    /// go down and come up meanwhile: their hotplug callbacks are gone, so that nothing queues an irq_work
    /// that was ended here, and what they left is drained here.
    fn stop(&self) {
        for krcp in self.krc.iter() {
            krcp.defer_work.sync();
            krcp.arm_work.sync();
        }
        barrier::barrier(self);
        for krcp in self.krc.iter() {
            krcp.defer_rest.cancel_sync();
            krcp.refill.cancel_sync();
            krcp.monitor.cancel_sync();
            krcp.flush_batches();
            refill::drop_cached(&krcp);
        }
    }
}

impl Engine for Rfc {
    #[inline]
    unsafe fn queue(object: NonNull<u8>, field: NonNull<u8>, caller: usize) {
        // SAFETY: By the safety requirements of this function.
        unsafe { queue::queue(Self::get(), object, field, caller) };
    }

    #[inline]
    unsafe fn queue_nolock(object: NonNull<u8>, field: NonNull<u8>, caller: usize) {
        // SAFETY: By the safety requirements of this function.
        unsafe { nolock::queue(Self::get(), object, field, caller) };
    }

    unsafe fn try_queue_nolock(object: NonNull<u8>, caller: usize) -> bool {
        // SAFETY: By the safety requirements of this function.
        unsafe { nolock::try_queue(Self::get(), object, caller) }
    }

    unsafe fn queue_mightsleep(object: NonNull<u8>, caller: usize) {
        // SAFETY: By the safety requirements of this function.
        unsafe { queue::queue_mightsleep(Self::get(), object, caller) };
    }

    fn barrier() {
        barrier::barrier(Self::get());
    }

    fn trim() {
        for krcp in Self::get().krc.iter() {
            refill::trim(&krcp);
        }
    }

    fn heed_interval() {
        for krcp in Self::get().krc.iter() {
            monitor::arm(&krcp, 1);
        }
    }

    fn word(cpu: i32, index: usize) -> usize {
        let krcp = Self::get().krc.of(cpu);
        match index {
            0 => krcp.lock_word(),
            1 => krcp.with(|state| state.queued.list.word()),
            2 => krcp.deferred.word(),
            _ => 0,
        }
    }

    fn leaked() {
        let irqs = IrqsOff::save();
        Self::get().krc.this(&irqs).refused.add(1, Relaxed);
    }

    fn gauges(cpu: i32) -> Gauges {
        let krcp = Self::get().krc.of(cpu);
        krcp.with(|state| Gauges {
            cpu,
            stats: Stats {
                leaked: state.stats.leaked + krcp.refused.load(Relaxed),
                ..state.stats
            },
            queued: state.queued.len(),
            in_batches: state.in_batches(),
            cached: state.nr_cached(),
        })
    }
}

fn counts(objects: &state::Objects<Rcu>) -> trace::Counts {
    trace::Counts {
        slab: objects.bnodes[state::Channel::Slab as usize].objects(),
        vmalloc: objects.bnodes[state::Channel::Vmalloc as usize].objects(),
        list: objects.list.len(),
        mixed: 0,
    }
}
