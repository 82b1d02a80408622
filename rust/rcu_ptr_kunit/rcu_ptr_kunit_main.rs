// SPDX-License-Identifier: GPL-2.0

//! `rcu_ptr_kunit.ko`: the self-tests of `rcu_ptr.ko`, as KUnit suites that run when it is loaded.
//!
//! ```text
//!  check.rs    assertions and skips
//!  bound.rs    amounts of work, and time limits
//!  cost.rs     measured times and grace periods
//!  pool.rs     objects whose state can be told: intact or freed
//!  held.rs     owned objects of a cache
//!  cpus.rs     work on given CPUs, CPU hogs, CPUs that are down
//!  events.rs   counts of trace events
//!  memory.rs   memory leaks
//!  free_fn.rs  the functions that free an object
//!  callback.rs callbacks that free it, or block
//!  provoke.rs  misuse, with the warnings for it
//!  reader.rs   RCU readers of objects that are being freed
//!  storm.rs    NMI handlers of tests, and storms of NMIs
//!  owner.rs    objects that own memory, and counts of their drops
//!  table.rs    objects of a cache with sheaves, replaced and read in any context
//!  params.rs   the core's parameters
//!  prelude.rs  what most suites use
//!  suites/     a suite per file
//!  runner.rs   runs the suites on kernels without KUnit
//!  demo.rs     the demonstration of `make run`
//! ```

// The files of rust/sys that this module uses (docs/reading.md). `shared`: others use the rest.
#[path = "../sys"]
#[expect(
    clippy::duplicate_mod,
    reason = "rust/api has its own cache.rs and core.rs"
)]
mod sys {
    #[expect(dead_code, reason = "shared")]
    pub(crate) mod alloc;
    #[expect(dead_code, reason = "shared")]
    pub(crate) mod cache;
    #[expect(dead_code, reason = "shared")]
    pub(crate) mod core;
    #[expect(dead_code, reason = "shared")]
    pub(crate) mod core_test;
    pub(crate) mod cpu;
    #[expect(dead_code, reason = "shared")]
    pub(crate) mod fault;
    pub(crate) mod generated;
    #[expect(dead_code, reason = "shared")]
    pub(crate) mod gp;
    #[expect(dead_code, reason = "shared")]
    pub(crate) mod irq;
    pub(crate) mod kunit;
    pub(crate) mod nmi;
    #[expect(dead_code, reason = "shared")]
    pub(crate) mod node;
    #[expect(dead_code, reason = "shared")]
    pub(crate) mod perf;
    pub(crate) mod probes;
    #[cfg(RCU_PTR_RUNNER)]
    pub(crate) mod runner;
    #[expect(dead_code, reason = "shared")]
    pub(crate) mod slab;
    pub(crate) mod smp;
    pub(crate) mod srcu_domain;
    pub(crate) mod static_ref;
    #[expect(dead_code, reason = "shared")]
    pub(crate) mod thread;
    pub(crate) mod timer;
    #[expect(dead_code, reason = "shared")]
    pub(crate) mod tracepoint;
    pub(crate) mod tracepoints;
    #[expect(dead_code, reason = "shared")]
    pub(crate) mod user;
}

#[path = "../api/mod.rs"]
pub mod rcu_ptr;

#[macro_use]
mod check;

mod bound;
mod callback;
mod cost;
mod cpus;
mod demo;
mod events;
mod free_fn;
mod held;
mod memory;
mod owner;
mod params;
mod pool;
mod prelude;
#[allow(dead_code, reason = "nmi_sweep uses the rest")]
mod provoke;
mod reader;
#[cfg(RCU_PTR_RUNNER)]
mod runner;
#[cfg(not(RCU_PTR_RUNNER))]
mod suites;
#[cfg(RCU_PTR_RUNNER)]
mod suites {
    include!(env!("RCU_PTR_SUITES"));
}
#[allow(dead_code, reason = "nmi_sweep uses the rest")]
mod storm;
mod table;

use kernel::prelude::*;
use sys::cache::{Args, SheafCache};

module! {
    type: RcuPtrKunit,
    name: "rcu_ptr_kunit",
    authors: ["The rcu_ptr authors"],
    description: "KUnit suites for rcu_ptr",
    license: "GPL",
    params: {
        demo: u32 {
            default: 0,
            description: "objects of each kind to free and report, before the suites",
        },
        forget: u32 {
            default: 0,
            description: "objects of a cache that is never destroyed",
        },
    },
}

/// Creates and uses a cache that is never destroyed, so that the core can't be unloaded any more.
fn forget_cache(objects: usize) -> Result {
    let cache = SheafCache::new(c"rcu_ptr_forgotten", table::SIZE, Args::default())?;
    let table = table::Table::new(&cache, objects)?;
    for i in 0..2 * objects {
        table.replace(i, table::Alloc::Sleep);
    }
    drop(table);
    core::mem::forget(cache);
    owner::forget_cache(objects)
}

struct RcuPtrKunit {
    #[cfg(RCU_PTR_RUNNER)]
    _live: sys::runner::WhenLive,
}

impl kernel::Module for RcuPtrKunit {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let objects = module_parameters::demo.value();
        if objects > 0 {
            demo::run(objects as usize)?;
        }
        let objects = module_parameters::forget.value();
        if objects > 0 {
            forget_cache(objects as usize)?;
        }
        Ok(RcuPtrKunit {
            #[cfg(RCU_PTR_RUNNER)]
            _live: sys::runner::WhenLive::register()?,
        })
    }
}

impl Drop for RcuPtrKunit {
    fn drop(&mut self) {
        // Destructors that run while the module is being unloaded.
        let _ = owner::drop_chain();
    }
}
