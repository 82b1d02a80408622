// SPDX-License-Identifier: GPL-2.0

//! Sheaves: caches whose objects are recycled without touching the slab (patch 7 of the RFC series).
//!
//! ```text
//!          alloc()                          free_rcu()            free()
//!             ^                                 |                   |
//!   +---------|---------------------------------v-------------------v--- one CPU, no lock ---+
//!   |  allocation sheaf     spares           rcu sheaf       reuse slots                     |
//!   |  (only emptied)    (full, empty)     (only filled)                                     |
//!   +----^----|-------------^--v--------------^-|--------------------------------------------+
//!        |    | emptied     |  |              | | full, or the monitor found it idle
//!        |    +---------------------------------+---> a grace period ---+
//!        |                  |  |              |                         |
//!   +----+------------------+--v--------------+-------------------------v--- one node -------+
//!   |                barn: full and empty sheaves, limits, a reserve                         |
//!   +------------------------------------------------------------------------ a raw lock ----+
//!        refill ^   v trim, reap, shrinker
//!               slab
//! ```
//!
//! While it is installed, a sheaf changes one way only: the rcu sheaf is filled, the allocation sheaf emptied. So
//! a slot is reserved with one addition that an NMI can't divide (`cursor.rs` says why that is
//! enough), and every context works the same.
//!
//! A sheaf is *used up* when all of its slots are taken, *closed* when it was taken off its CPU and its slots must not be
//! touched before a grace period, and *spent* when it is closed and empty. *Stock* is what can be allocated. *Strays* are
//! freed objects without a sheaf, on a list of their cache.
//!
//! The cycle of an object:
//!
//! | step | where |
//! |---|---|
//! | allocated: a slot of the allocation sheaf | `alloc()` of fastpath.rs |
//! | freed: a slot of the rcu sheaf | `free_rcu()` of fastpath.rs |
//! | that is full: another is installed, it is closed | `put_object()`, `close()` of exchange.rs |
//! | or it does not fill up: it is closed after a drain interval | `CacheMonitorWork` of monitor.rs; `run()` of arm.rs says when |
//! | or there is no empty sheaf: the engine takes it, or it is a stray | `no_slot()` of alloc.rs |
//! | the grace period begins; at the next tick where interrupts were off | `start_grace_period()`, `call()` of reclaim.rs; `CacheIrqWork` of monitor.rs |
//! | it is over: the sheaf goes to the barn, or is left for the worker | `SheafCallback::run()`, `process_backlog()`, `Load::put()` of reclaim.rs |
//! | an allocation sheaf is used up: a full one is installed | `next_object()`, `find_full()`, `install()` of exchange.rs |
//! | or it is freed where no reader can have it: a reuse slot, allocated again without a grace period | `free()`, `alloc_reused()` of fastpath.rs |
//!
//! | file | idea |
//! |---|---|
//! | geometry.rs, sheaf.rs, cursor.rs, local.rs, fastpath.rs, exchange.rs, barn.rs, double.rs, reserve.rs, grace.rs, arm.rs, end.rs | the algorithm, which the host tests compile too |
//! | cache.rs, pcs.rs, caches.rs | what a cache and a CPU have, and the list of caches |
//! | alloc.rs, limits.rs | the calls, and what holds allocations back |
//! | reclaim.rs, batches.rs | after a grace period; what waits without a sheaf, or for SRCU too |
//! | monitor.rs, shrink.rs, refill.rs | sheaves of idle and of dead CPUs; what there is too much of, and too little |
//! | barrier.rs, destroy.rs | what waits for all of that |
//! | stats.rs | counters, and debugfs |

pub(crate) mod alloc;
mod arm;
pub(crate) mod barn;
mod barrier;
mod batches;
pub(crate) mod cache;
mod caches;
pub(crate) mod cursor;
pub(crate) mod destroy;
mod double;
pub(crate) mod exchange;
pub(crate) mod fastpath;
pub(crate) mod geometry;
pub(crate) mod grace;
pub(crate) mod limits;
mod monitor;
mod pcs;
mod reclaim;
pub(crate) mod refill;
pub(crate) mod reserve;
pub(crate) mod sheaf;
mod shrink;
pub(crate) mod stats;
mod teardown;

use crate::{
    api,
    instance::{single, Service},
    sys::{gp, percpu::PerCpu, work::WorkQueue},
};
use cache::Cache;
use caches::Caches;
use kernel::{new_mutex, prelude::*, sync::Mutex};

/// All caches.
#[pin_data]
pub(crate) struct Sheaves {
    /// Taken inside the CPU hotplug lock. Memory reclaim only tries. It is not held across waits.
    #[pin]
    caches: Mutex<Caches>,
    /// Where monitors run: each on its CPU.
    wq: WorkQueue,
    /// Where memory goes back, and where it comes: on CPUs that take part in such work.
    reclaim_wq: WorkQueue,
    /// Where destructors run, which may wait for what they like: nothing else waits behind them.
    dtor_wq: WorkQueue,
    refill_wq: WorkQueue,
    /// What finds objects that were freed twice.
    seen: PerCpu<reclaim::CpuMarks>,
}

single!(Sheaves);

impl Service for Sheaves {
    type Shrinker = shrink::BarnShrinker;
    const SHRINKER: &'static CStr = c"rcu_ptr-sheaf";
    type Hotplug = monitor::SheafHotplug;
    const HOTPLUG: &'static CStr = c"rcu_ptr:sheaf";

    /// There are no caches, as each has a reference to the module. But the callback that was the last
    /// of one may not have returned.
    fn stop(&self) {
        gp::barrier();
    }
}

impl Sheaves {
    /// No caches.
    ///
    /// # Context
    ///
    /// May sleep. At module init.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            caches <- new_mutex!(Caches::new(), "rcu_ptr_caches"),
            wq: WorkQueue::per_cpu(c"rcu_ptr_sheaf")?,
            reclaim_wq: WorkQueue::new(c"rcu_ptr_sheaf_reclaim")?,
            dtor_wq: WorkQueue::new(c"rcu_ptr_sheaf_dtor")?,
            refill_wq: WorkQueue::for_refills(c"rcu_ptr_sheaf_refill")?,
            seen: PerCpu::new(|_| reclaim::CpuMarks::new())?,
        })
    }

    /// Waits until every object that was freed before the call may be allocated again, or is back
    /// with the slab. Calls `meanwhile`, whose grace periods count.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn barrier(&self, meanwhile: impl FnOnce()) {
        barrier::barrier(self, None, meanwhile);
    }

    /// The same for the objects of `cache`.
    ///
    /// # Context
    ///
    /// May sleep. The cache does not end meanwhile.
    pub(crate) fn barrier_of(&self, cache: &Cache) {
        barrier::barrier(self, Some(cache), || {
            if cache.nr_engine_fallbacks() > 0 {
                api::engine_barrier();
            }
        });
    }
}
