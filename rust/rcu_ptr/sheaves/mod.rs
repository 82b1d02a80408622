// SPDX-License-Identifier: GPL-2.0

//! Sheaves: caches whose objects are recycled without touching the slab (patch 7 of the RFC
//! series).
//!
//! ```text
//!          alloc()                          free_rcu()            free()
//!             ^                                 |                   |
//!   +---------|---------------------------------v-------------------v--- one CPU, no lock ---+
//!   |  allocation sheaf     spares           rcu sheaf       reuse slots                     |
//!   |  (only emptied)    (full, empty)     (only filled)                                     |
//!   +----^----|-------------^--v--------------^-|--------------------------------------------+
//!        |    | emptied     |  |              | | used up, or the monitor found it idle
//!        |    +---------------------------------+---> a grace period ---+
//!        |                  |  |              |                         |
//!   +----+------------------+--v--------------+-------------------------v--- one node -------+
//!   |                barn: full and empty sheaves, limits, a reserve                         |
//!   +------------------------------------------------------------------------ a raw lock ----+
//!        refill ^   v trim, reap, shrinker
//!               slab
//! ```
//!
//! While it is installed, a sheaf changes one way only: the rcu sheaf is filled, the allocation
//! sheaf emptied. So a slot is reserved with one addition, which an NMI can't divide (cursor.rs
//! says why that is enough), and every context works the same.
//!
//! A *full* sheaf has an object or more. A sheaf is *used up* when all of its slots are reserved,
//! *closed* when it was taken off its CPU and its slots must not be accessed before a grace period,
//! and *spent* when it is closed and empty. *Stock* is what can be allocated: full sheaves, and
//! empty ones to be filled. *Strays* are freed objects without a sheaf, on a list of their cache.
//!
//! The cycle of an object:
//!
//! 1. It is allocated from a slot of the allocation sheaf: `alloc()` of fastpath.rs.
//! 2. It is freed to a slot of the rcu sheaf: `free_rcu()` of fastpath.rs.
//! 3. A used-up rcu sheaf is replaced by an empty sheaf and closed: `put_object()` and `close()` of
//!    exchange.rs. One that is not used up is closed after a drain interval: `run()` of arm.rs,
//!    called by monitor.rs.
//! 4. The grace period starts, with the next tick if interrupts were off: `start_grace_period()`
//!    and `call()` of reclaim.rs; `CacheIrqWork` of monitor.rs. With an SRCU domain `call()` hands
//!    sheaves with objects to batches.rs; strays wait there as well.
//! 5. It ends: the sheaf is put into the barn, or left to the worker (always, in a cache with a
//!    destructor or after a wait in batches.rs): `SheafCallback`, `process_backlog()` and
//!    `BarnTransfer` of reclaim.rs.
//! 6. An allocation sheaf is used up: a full sheaf is installed: `next_object()`, `find_full()` and
//!    `install()` of exchange.rs.
//!
//! Without an empty sheaf in step 3 the object goes to the engine, or becomes a stray: `no_slot()`
//! of alloc.rs. An object that no reader can have is stored to a reuse slot in step 2, and
//! allocated again without a grace period: `free()` and `alloc_reused()` of fastpath.rs.
//!
//! Files:
//!
//! - the algorithm, compiled by the host tests too: geometry.rs, sheaf.rs, cursor.rs, fastpath.rs,
//!   exchange.rs, barn.rs, double.rs, reserve.rs, grace.rs, arm.rs, teardown.rs
//! - the parts of a cache and of a CPU, and the list of caches: cache.rs, pcs.rs, caches.rs
//! - allocation and free, and the limits: alloc.rs, limits.rs
//! - after a grace period; strays and SRCU domains: reclaim.rs, batches.rs
//! - sheaves of idle and dead CPUs, surplus, and shortage: monitor.rs, shrink.rs, refill.rs
//! - what waits for all of that: barrier.rs, destroy.rs
//! - counters and debugfs: stats.rs

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
    /// Taken inside the CPU hotplug lock. Memory reclaim only tries. Not held across waits.
    #[pin]
    caches: Mutex<Caches>,
    /// For monitors, each on its CPU.
    wq: WorkQueue,
    /// For reclaim; unbound.
    reclaim_wq: WorkQueue,
    /// For destructors, which may sleep: nothing else waits behind them.
    dtor_wq: WorkQueue,
    refill_wq: WorkQueue,
    /// Per-CPU tables to find double frees.
    marks: PerCpu<reclaim::CpuMarks>,
}

single!(Sheaves);

impl Service for Sheaves {
    type Shrinker = shrink::BarnShrinker;
    const SHRINKER: &'static CStr = c"rcu_ptr-sheaf";
    type Hotplug = monitor::SheafHotplug;
    const HOTPLUG: &'static CStr = c"rcu_ptr:sheaf";

    /// There are no caches, as each has a reference to the module. But the last callback of one may
    /// not have returned.
    fn stop(&self) {
        gp::barrier();
    }
}

impl Sheaves {
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
            marks: PerCpu::new(|_| reclaim::CpuMarks::new())?,
        })
    }

    /// Waits until every object that was freed before the call may be allocated again, or is back
    /// in the slab. Calls `meanwhile`; a grace period that ends there is not waited for again.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn barrier(&self, meanwhile: impl FnOnce()) {
        barrier::barrier(self, None, meanwhile);
    }

    /// As [`Self::barrier()`], for the objects of `cache`.
    ///
    /// # Context
    ///
    /// May sleep. The cache is not destroyed meanwhile.
    pub(crate) fn barrier_of(&self, cache: &Cache) {
        barrier::barrier(self, Some(cache), || {
            if cache.nr_engine_fallbacks() > 0 {
                api::engine_barrier();
            }
        });
    }
}
