// SPDX-License-Identifier: GPL-2.0

//! Engine `rfc`: the design of the RFC series. A krcp per CPU under a raw spinlock; blocks of slab pointers, of
//! vmalloc pointers and of callbacks, and a list through the objects; two batches in flight per CPU; a monitor.
//!
//! | file | what |
//! |---|---|
//! | state.rs, bnode.rs, arm.rs, blocks.rs, deferred.rs, barrier.rs | the algorithm, which the host tests compile too |
//! | krcp.rs | what each CPU has, its block cache, and what happens when it comes or goes |
//! | queue.rs | object -> block of its channel, or list; in NMI context list, or deferred |
//! | drain.rs | the monitor: after the drain interval, or within two ticks when a block is full, frees what is ready; the rest becomes a batch, waits for a grace period and is freed |

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
    fn now() -> u32 {
        jiffies() as u32
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
    turns: AtomicLink,
}

single!(Rfc);

impl Service for Rfc {
    type Shrinker = KrcShrinker<Self>;
    const SHRINKER: &'static CStr = common::SHRINKER;
    type Hotplug = RfcHotplug;
    const HOTPLUG: &'static CStr = common::HOTPLUG;

    /// CPUs may go down and come up meanwhile: their hotplug callbacks are gone, so that nothing queues an
    /// irq_work that was ended here, and what they left is drained here.
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
    /// The krcp of every possible CPU, idle. May sleep; at module init.
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
        // A monitor detaches objects and frees them with this held; one that detached them before the
        // barrier got the spinlock has had it since before.
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
