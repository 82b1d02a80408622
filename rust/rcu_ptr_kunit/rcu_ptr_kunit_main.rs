// SPDX-License-Identifier: GPL-2.0

//! `rcu_ptr_kunit.ko`: the self-tests of `rcu_ptr.ko`, as KUnit suites that run when it is loaded.
//!
//! ```text
//!  check.rs    what a case asserts
//!  bound.rs    how much it does, and how long something may take
//!  pool.rs     objects that show whether they are live, intact or freed
//!  memory.rs   whether memory came back
//!  route.rs    the ways to free an object
//!  callback.rs callbacks that free it
//!  provoke.rs  what is wrong, with the warnings for it
//!  reader.rs   an RCU reader that watches objects while they are freed
//!  storm.rs    what NMIs do in tests, and storms of them
//!  owner.rs    objects that own memory, and what became of them
//!  table.rs    objects of a cache with sheaves that readers find, and that change under them
//!  params.rs   the core's parameters
//!  suites/     a suite per file
//!  runner.rs   runs them where the kernel has no KUnit
//!  demo.rs     objects of every kind, for people to look at
//! ```

// The files of rust/sys that this module takes: docs/reading.md. Of those that others take too it
// uses a part. rust/api has two of them for itself.
#[path = "../sys"]
#[allow(clippy::duplicate_mod, dead_code)]
mod sys {
    pub(crate) mod alloc;
    pub(crate) mod cache;
    pub(crate) mod core;
    pub(crate) mod core_test;
    pub(crate) mod cpu;
    pub(crate) mod fault;
    pub(crate) mod generated;
    pub(crate) mod gp;
    pub(crate) mod irq;
    #[warn(dead_code)]
    pub(crate) mod kunit;
    pub(crate) mod nmi;
    pub(crate) mod node;
    pub(crate) mod perf;
    #[warn(dead_code)]
    pub(crate) mod probes;
    #[warn(dead_code)]
    #[cfg(RCU_PTR_RUNNER)]
    pub(crate) mod runner;
    pub(crate) mod slab;
    pub(crate) mod srcu_domain;
    pub(crate) mod thread;
    pub(crate) mod timer;
    pub(crate) mod tracepoint;
    #[warn(dead_code)]
    pub(crate) mod tracepoints;
    pub(crate) mod user;
}

#[path = "../api/mod.rs"]
pub mod rcu_ptr;

#[macro_use]
mod check;

mod bound;
mod callback;
mod demo;
mod memory;
mod owner;
mod params;
mod pool;
#[allow(dead_code)]
mod provoke;
mod reader;
mod route;
#[cfg(RCU_PTR_RUNNER)]
mod runner;
#[cfg(not(RCU_PTR_RUNNER))]
mod suites;
#[cfg(RCU_PTR_RUNNER)]
mod suites {
    include!(env!("RCU_PTR_SUITES"));
}
#[allow(dead_code)]
mod storm;
mod table;

use bound::{by_length, scaled, SLOW};
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

/// Makes a cache, uses it, and leaves it behind: the core is loaded for good from here on.
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
        // Destructors of this module's that run when it has no other life any more.
        let _ = owner::leave_chain();
    }
}
