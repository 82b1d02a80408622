// SPDX-License-Identifier: GPL-2.0

//! The trait of both engines.

use crate::{
    calls::Calls,
    entry::Call,
    instance::Single,
    krcp::KrcpOps,
    stats::{Counter, Stats},
    sys::percpu::PerCpu,
};
use core::ptr::NonNull;

/// Collects objects and callbacks in batches until their grace periods have ended. One engine runs
/// per load of the module (parameter `engine`), so there is no state in the type and no indirect
/// call.
///
/// # Context
///
/// Any, NMI included, where a function says nothing else.
pub(crate) trait Engine: Single {
    /// Its per-CPU state.
    type Krcp: KrcpOps;

    /// The krcp of every possible CPU.
    fn krc() -> &'static PerCpu<Self::Krcp>;

    /// Queues `object`, which has an 8-byte `field`. Never fails.
    ///
    /// # Context
    ///
    /// Any but NMI: interrupts may be off, raw spinlocks held, PREEMPT_RT.
    ///
    /// # Safety
    ///
    /// `object` is live and the caller's to free, from kmalloc(), a kmem_cache or vmalloc();
    /// `field` is aligned and lies in it, less than 4096 bytes from its start.
    unsafe fn queue(object: NonNull<u8>, field: NonNull<u8>, caller: usize);

    /// As [`Engine::queue()`], in any context.
    ///
    /// # Safety
    ///
    /// As for [`Engine::queue()`].
    unsafe fn queue_nolock(object: NonNull<u8>, field: NonNull<u8>, caller: usize);

    /// Queues `call`, whose head has its function already. Never fails.
    ///
    /// # Safety
    ///
    /// The head is valid, and the caller's to give away.
    unsafe fn call(call: Call, caller: usize);

    /// Queues `object`, which needs no field. Returns `false` if there is no slot for it.
    ///
    /// # Safety
    ///
    /// As for [`Engine::queue()`], but for the field.
    unsafe fn try_queue_nolock(object: NonNull<u8>, caller: usize) -> bool;

    /// Queues `object`, which needs no field, or waits for a grace period and frees it. May sleep.
    ///
    /// # Safety
    ///
    /// As for [`Engine::queue()`], but for the field.
    unsafe fn queue_mightsleep(object: NonNull<u8>, caller: usize);

    /// Waits until all objects that were queued before the call are freed, and all callbacks are in
    /// [`Self::calls()`]. May sleep.
    fn barrier();

    /// The callbacks of `cpu` whose grace period has ended.
    fn calls(cpu: i32) -> &'static Calls {
        Self::krc().of(cpu).get_ref().calls()
    }

    /// Frees the cached blocks that exceed a new limit. Process context, interrupts on.
    fn trim();

    /// Applies a new drain interval to what is queued, even if the monitor was armed for longer.
    /// Process context, interrupts on.
    fn update_drain_interval();

    /// The address of the `index`th word of the state of `cpu` that changes when objects are
    /// queued, for watchpoints; 0 past the last one. Any context but NMI.
    fn watch_address(cpu: i32, index: usize) -> usize;

    /// Adds to the counter `leaked` of this CPU.
    fn count_leaked();

    /// Counters and gauges of `cpu`, a possible one. Any context but NMI.
    fn gauges(cpu: i32) -> Gauges {
        let krcp = Self::krc().of(cpu);
        // Before the other counters: see there.
        let (invoked, leaked) = krcp.calls().ended();
        let mut gauges = krcp.gauges();
        gauges.cpu = cpu;
        gauges.ready = krcp.calls().ready();
        gauges.stats[Counter::Invoked] = invoked;
        gauges.stats[Counter::Leaked] += leaked;
        gauges
    }
}

/// Counters and gauges of one CPU, for debugfs.
#[derive(Default)]
pub(crate) struct Gauges {
    pub(crate) cpu: i32,
    pub(crate) stats: Stats,
    /// Objects whose grace period has not been requested.
    pub(crate) queued: usize,
    /// Objects in batches.
    pub(crate) in_batches: usize,
    /// Callbacks that wait for a worker.
    pub(crate) ready: usize,
    /// Unused blocks.
    pub(crate) cached: usize,
}

impl core::ops::AddAssign for Gauges {
    fn add_assign(&mut self, other: Self) {
        self.stats += other.stats;
        self.queued += other.queued;
        self.in_batches += other.in_batches;
        self.ready += other.ready;
        self.cached += other.cached;
    }
}
