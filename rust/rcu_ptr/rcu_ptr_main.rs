// SPDX-License-Identifier: GPL-2.0

//! `rcu_ptr.ko`: frees memory after an RCU grace period, with 8 bytes in the object or none. The
//! interface is include/linux/rcu_ptr.h for C, and rust/api/ for Rust.

// The files of rust/sys that this module uses: docs/reading.md.
#[path = "../sys"]
mod sys {
    pub(crate) mod callback;
    pub(crate) mod context;
    pub(crate) mod current_block;
    pub(crate) mod debug;
    pub(crate) mod generated;
    #[expect(dead_code, reason = "shared")]
    pub(crate) mod gp;
    pub(crate) mod hotplug;
    pub(crate) mod irq;
    pub(crate) mod irq_work;
    pub(crate) mod mem;
    pub(crate) mod module;
    pub(crate) mod node;
    pub(crate) mod percpu;
    pub(crate) mod pinned_timer;
    pub(crate) mod preempt;
    pub(crate) mod raw_lock;
    pub(crate) mod shrinker;
    pub(crate) mod slab;
    #[expect(dead_code, reason = "shared")]
    pub(crate) mod smp;
    pub(crate) mod srcu;
    pub(crate) mod this_cpu;
    pub(crate) mod trace;
    pub(crate) mod wait;
    pub(crate) mod work;
}

mod api;
mod calls;
mod debugfs;
mod delays;
mod engine;
mod entry;
mod exports;
mod fault;
mod instance;
mod krcp;
mod link;
mod list;
mod lockless;
mod packing;
mod params;
mod platform;
mod rfc;
mod sheaves;
mod stats;
mod sync;
mod unload;

use instance::Running;
use kernel::prelude::*;
use params::EngineName;

module! {
    type: RcuPtrModule,
    name: "rcu_ptr",
    authors: ["The rcu_ptr authors"],
    description: "Free memory after an RCU grace period from any context",
    license: "GPL",
}

/// The loaded module. Fields are dropped in this order.
#[pin_data]
struct RcuPtrModule {
    #[pin]
    files: debugfs::Files,
    _unload: sys::module::Watch,
    _updates: params::Updates,
    _sheaves: Running<sheaves::Sheaves>,
    /// One of them is `Some`.
    _engine: (
        Option<Running<rfc::Rfc>>,
        Option<Running<lockless::Lockless>>,
    ),
    _irq_works: sys::hotplug::IrqWorksRun,
}

impl kernel::InPlaceModule for RcuPtrModule {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _irq_works: sys::hotplug::IrqWorksRun::register()?,
            _engine: {
                let running = match params::engine() {
                    EngineName::Rfc => (Some(Running::start(rfc::Rfc::new(), _irq_works)?), None),
                    EngineName::Lockless => {
                        let running = Running::start(lockless::Lockless::new(), _irq_works)?;
                        sys::current_block::enable_lockless();
                        (None, Some(running))
                    }
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
            _sheaves: Running::start(sheaves::Sheaves::new(), _irq_works)?,
            _updates: params::Updates::new(),
            _unload: unload::watch()?,
            files <- debugfs::Files::new(),
        })
    }
}
