// SPDX-License-Identifier: GPL-2.0

//! `nmi_sweep.ko`: an NMI at every instruction of `rcu_ptr.ko`, or of other code, as a KUnit suite that
//! runs when it is loaded. docs/sweep.md says how to use it. Functions are called in tasks that may sleep, unless
//! they say otherwise.
//!
//! ```text
//!  code.rs       where the instructions are
//!  sweep.rs      an NMI at each
//!  workload.rs   what makes the code run
//!  cache_load.rs the same of caches
//!  wanted.rs     what of `rcu_ptr.ko` has to be hit
//!  files.rs      what is read from files
//!  suite.rs      the suite
//! ```

// The files of rust/sys that this module takes, as in rcu_ptr_kunit_main.rs.
#[path = "../sys"]
#[allow(dead_code)]
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
    pub(crate) mod srcu_domain;
    pub(crate) mod step;
    pub(crate) mod text;
    pub(crate) mod thread;
    pub(crate) mod tracepoint;
    pub(crate) mod user;
}

// What the self-tests have as well, of which this module uses a part.
#[path = "../rcu_ptr_kunit"]
#[allow(dead_code)]
#[macro_use]
mod shared {
    #[macro_use]
    pub(crate) mod check;
    pub(crate) mod bound;
    pub(crate) mod callback;
    pub(crate) mod params;
    pub(crate) mod pool;
    pub(crate) mod provoke;
    pub(crate) mod route;
    pub(crate) mod storm;
    pub(crate) mod table;
}

mod cache_load;
mod code;
mod files;
mod suite;
mod sweep;
mod wanted;
mod workload;

use kernel::prelude::*;
use shared::{
    bound::{self, scaled, SLOW},
    callback, check, params, pool, provoke, route, storm, table,
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
    /// Goes last: long after the last sweep.
    _steps: step::Handler,
}

impl kernel::Module for NmiSweep {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        files::read();
        Ok(NmiSweep {
            _steps: step::Handler::register()?,
        })
    }
}

impl Drop for NmiSweep {
    fn drop(&mut self) {
        files::forget();
    }
}
