// SPDX-License-Identifier: GPL-2.0

//! Engine `rfc`: the design of the RFC series. Each CPU has, under a raw spinlock, blocks of slab
//! pointers, of vmalloc pointers and of callbacks, a list through the objects, and two batches; and
//! a monitor.
//!
//! | file | what |
//! |---|---|
//! | state.rs, bnode.rs | the state under the lock: blocks, list, batches |
//! | arm.rs, blocks.rs, deferred.rs | the monitor's timer, refills, deferred objects |
//! | barrier.rs | `rcu_ptr_barrier()` |
//! | krcp.rs | the per-CPU state, the block cache, and CPU hotplug |
//! | queue.rs | queueing: in a block, on the list, or deferred |
//! | drain.rs | the monitor, and freeing |
//!
//! The files of the first three rows have no kernel dependencies: the host tests compile them.

pub(crate) mod arm;
pub(crate) mod barrier;
pub(crate) mod blocks;
pub(crate) mod bnode;
pub(crate) mod deferred;
mod drain;
mod krcp;
mod queue;
pub(crate) mod state;

use crate::{
    instance::{single, Service},
    krcp::{self as common, KrcShrinker},
    platform::Platform,
    sync::AtomicLink,
    sys::{
        gp::{self, Snapshot},
        mem,
        percpu::PerCpu,
        pinned_timer::jiffies,
        trace,
        work::{RcuWork, WorkQueues},
    },
};
use barrier::RfcBarrier;
use kernel::{new_mutex, prelude::*, sync::Mutex};
use krcp::{Krcp, RfcHotplug};

/// The kernel, for the algorithm files.
pub(crate) struct Rcu;

impl Platform for Rcu {
    type Snap = Snapshot;

    const BLOCK_BYTES: usize = mem::PAGE_SIZE;

    #[inline]
    fn snapshot() -> Snapshot {
        Snapshot::take()
    }

    #[inline]
    fn now() -> u32 {
        jiffies() as u32
    }

    #[inline]
    fn is_over(snap: &Snapshot) -> bool {
        snap.is_over()
    }
}

/// The engine.
#[pin_data]
pub(crate) struct Rfc {
    krc: PerCpu<Krcp>,
    /// Barriers take turns.
    #[pin]
    barrier: Mutex<()>,
    turns: AtomicLink,
}

single!(Rfc);

impl Service for Rfc {
    type Shrinker = KrcShrinker<Self>;
    const SHRINKER: &'static CStr = common::SHRINKER;
    type Hotplug = RfcHotplug;
    const HOTPLUG: &'static CStr = common::HOTPLUG;

    /// CPUs may go down and come up meanwhile, without hotplug callbacks: nothing queues an
    /// irq_work after it was stopped here, and the objects of dead CPUs are drained here.
    fn stop(&self) {
        for krcp in self.krc.iter() {
            krcp.defer_work.sync();
            krcp.arm_work.sync();
        }
        barrier::barrier(self);
        for krcp in self.krc.iter() {
            krcp.defer_rest.cancel_sync();
            krcp.common.refill.cancel_sync();
            krcp.monitor.cancel_sync();
            krcp.common.batch_works.iter().for_each(RcuWork::flush);
            krcp.common.calls.wait();
            krcp.drop_cached();
        }
    }
}

impl Rfc {
    /// The engine, idle. May sleep; at module init.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            krc: {
                let queues = WorkQueues::new()?;
                PerCpu::new(|cpu| Krcp::new(cpu, queues.clone()))?
            },
            barrier <- new_mutex!((), "rcu_ptr_barrier"),
            turns: AtomicLink::new(0),
        })
    }
}

impl RfcBarrier for Rfc {
    type Cpu = Krcp;

    fn turns(&self) -> &AtomicLink {
        &self.turns
    }

    fn with_mutex(&self, f: impl FnOnce()) {
        let _held = self.barrier.lock();
        f();
    }

    fn mb(&self) {
        gp::mb();
    }

    fn each(&self, mut f: impl FnMut(&Krcp)) {
        self.krc.iter().for_each(|krcp| f(&krcp));
    }

    fn requeue_deferred(&self, krcp: &Krcp) {
        queue::requeue_deferred(krcp);
    }

    fn start(&self, krcp: &Krcp) -> bool {
        drain::start_for_barrier(krcp)
    }

    fn grace_period(&self) {
        gp::synchronize();
    }

    fn free_expired_batches(&self, krcp: &Krcp) {
        drain::free_expired_batches(krcp);
    }

    fn wait_for_others(&self, krcp: &Krcp) {
        // Monitors hold this while they detach and free objects. A monitor that detached objects
        // before the barrier took the spinlock has held it since before.
        drop(krcp.reclaim.lock());
        krcp.common
            .batch_works
            .iter()
            .for_each(RcuWork::flush_running);
    }
}

fn counts(objects: &state::ObjectSet<Rcu>) -> trace::Counts {
    trace::Counts {
        slab: objects.bnodes[state::Channel::Slab as usize].objects(),
        vmalloc: objects.bnodes[state::Channel::Vmalloc as usize].objects(),
        list: objects.list.len(),
        mixed: 0,
        calls: objects.bnodes[state::Channel::Call as usize].objects(),
    }
}
