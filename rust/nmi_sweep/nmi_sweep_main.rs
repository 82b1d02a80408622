// SPDX-License-Identifier: GPL-2.0

//! `nmi_sweep.ko`: an NMI at every instruction of `rcu_ptr.ko`, or of other code, as a KUnit suite
//! that runs when it is loaded. See docs/sweep.md. Functions are called in tasks that may sleep,
//! unless they say otherwise.
//!
//! ```text
//!  code.rs            instructions and their addresses
//!  sweep.rs           which instructions are tried, in groups
//!  sweep/walk.rs      single-stepping, and stepping by the cycle counter
//!  sweep/coverage.rs  what was hit, what was not and why
//!  workload.rs        workloads that run the code
//!  cache_workload.rs  workloads with caches
//!  wanted.rs          instructions of `rcu_ptr.ko` that have to be hit
//!  files.rs           files that are read in module init
//!  suite.rs           the suite
//! ```

// The files of rust/sys that this module uses (docs/reading.md). `shared`: others use the rest.
#[path = "../sys"]
#[expect(dead_code, reason = "shared")]
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
    pub(crate) mod kunit;
    pub(crate) mod nmi;
    pub(crate) mod perf;
    pub(crate) mod probes;
    pub(crate) mod slab;
    pub(crate) mod smp;
    pub(crate) mod srcu_domain;
    pub(crate) mod static_ref;
    pub(crate) mod step;
    #[warn(dead_code, reason = "not shared")]
    pub(crate) mod text;
    pub(crate) mod texts;
    pub(crate) mod thread;
    pub(crate) mod tracepoint;
    #[warn(dead_code, reason = "not shared")]
    pub(crate) mod user;
}

// Files of the self-tests, of which this module uses a part.
#[path = "../rcu_ptr_kunit"]
#[allow(dead_code, reason = "shared")]
#[macro_use]
mod shared {
    #[macro_use]
    pub(crate) mod check;
    pub(crate) mod bound;
    pub(crate) mod callback;
    pub(crate) mod free_fn;
    pub(crate) mod params;
    pub(crate) mod pool;
    pub(crate) mod provoke;
    pub(crate) mod storm;
    pub(crate) mod table;
}

mod cache_workload;
mod code;
mod files;
mod suite;
mod sweep;
mod wanted;
mod workload;

use kernel::prelude::*;
use shared::{
    bound::{self, scaled, SLOW},
    callback, check, free_fn, params, pool, provoke, storm, table,
};
use sys::step;

module! {
    type: NmiSweep,
    name: "nmi_sweep",
    authors: ["The rcu_ptr authors"],
    description: "An NMI at every instruction of some code",
    license: "GPL",
}

struct NmiSweep {
    /// Registered until the module is unloaded.
    _steps: step::StepNotifier,
}

impl kernel::Module for NmiSweep {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        files::read();
        Ok(NmiSweep {
            _steps: step::StepNotifier::register()?,
        })
    }
}

impl Drop for NmiSweep {
    fn drop(&mut self) {
        files::free();
    }
}
