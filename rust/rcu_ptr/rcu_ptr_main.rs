// SPDX-License-Identifier: GPL-2.0

//! `rcu_ptr.ko`: frees memory after an RCU grace period, from modules, with 8 bytes in the object or
//! none. The interface is include/linux/rcu_ptr.h for C and rust/api/ for Rust.

#[path = "../sys/core/mod.rs"]
mod sys;

mod api;
mod engine;
mod fault;
mod link;
mod lockless;
mod packing;
mod params;
mod platform;
mod rfc;
mod sheaf;
mod stats;
mod sync;

use kernel::prelude::*;
use params::EngineName;

module! {
    type: RcuPtrModule,
    name: "rcu_ptr",
    authors: ["The rcu_ptr authors"],
    description: "Free memory after an RCU grace period from any context",
    license: "GPL",
}

/// The engine in charge, until it is dropped.
enum Running {
    Rfc { _running: rfc::Running },
    Lockless { _running: lockless::Running },
}

/// The loaded module. Fields are dropped in this order: first what shows the engine, then it.
#[pin_data]
struct RcuPtrModule {
    #[pin]
    stats: stats::StatsFile,
    _heeded: params::Heeded,
    _sheaves: sheaf::Running,
    _engine: Running,
    _irq_works: sys::hotplug::IrqWorksRun,
}

impl kernel::InPlaceModule for RcuPtrModule {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _irq_works: sys::hotplug::IrqWorksRun::register()?,
            _engine: {
                let running = match params::engine() {
                    EngineName::Rfc => Running::Rfc {
                        _running: rfc::Rfc::start(_irq_works)?,
                    },
                    EngineName::Lockless => Running::Lockless {
                        _running: lockless::Lockless::start(_irq_works)?,
                    },
                };
                pr_info!(
                    "engine {}, {} CPUs, {} cached blocks, drain after {} ms\n",
                    params::engine().name(),
                    sys::percpu::possible_cpus().count(),
                    params::min_cached_objs(),
                    params::drain_msecs()
                );
                running
            },
            _sheaves: sheaf::Sheaves::start(_irq_works)?,
            _heeded: params::Heeded::new(),
            stats <- stats::StatsFile::new(),
        })
    }
}
