// SPDX-License-Identifier: GPL-2.0

//! The tracepoints of `rcu_ptr.ko`, counted: what tests see of its insides.

use super::generated as sys;
use kernel::{
    error::to_result,
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// Events so far.
pub(crate) struct Counters {
    /// The engine that took the last object (`enum rcu_ptr_engine`).
    engine: Atomic<i32>,
    /// Objects taken, by context (`enum rcu_ptr_ctx`).
    pub(crate) queued: [Atomic<u64>; 4],
    /// Of those, on the list.
    pub(crate) list: Atomic<u64>,
    /// Of those, by engine rfc as another context had the lock: they are pushed later.
    pub(crate) later: Atomic<u64>,
    /// Of those, by a caller that waited itself.
    pub(crate) waited: Atomic<u64>,
    /// Callbacks taken, of those in `queued`.
    pub(crate) calls: Atomic<u64>,
    /// Callbacks called.
    pub(crate) invoked: Atomic<u64>,
    /// The last of them that may not sleep, and that may.
    pub(crate) func: [Atomic<u64>; 2],
    /// Objects that found the lock held, in NMI or not.
    pub(crate) deferred: Atomic<u64>,
    /// Refills put off after memory pressure.
    pub(crate) backoffs: Atomic<u64>,
    /// Refills that have ended.
    pub(crate) refills: Atomic<u64>,
    /// Blocks that refills brought.
    pub(crate) refilled: Atomic<u64>,
    /// Runs of the shrinker, per CPU.
    pub(crate) shrinks: Atomic<u64>,
    /// Batches freed.
    pub(crate) batches: Atomic<u64>,
    /// Objects in them.
    pub(crate) freed: Atomic<u64>,
}

/// The counters.
pub(crate) static COUNTERS: Counters = Counters {
    engine: Atomic::new(-1),
    queued: [const { Atomic::new(0) }; 4],
    list: Atomic::new(0),
    later: Atomic::new(0),
    waited: Atomic::new(0),
    calls: Atomic::new(0),
    invoked: Atomic::new(0),
    func: [const { Atomic::new(0) }; 2],
    deferred: Atomic::new(0),
    backoffs: Atomic::new(0),
    refills: Atomic::new(0),
    refilled: Atomic::new(0),
    shrinks: Atomic::new(0),
    batches: Atomic::new(0),
    freed: Atomic::new(0),
};

/// Whether the engine that took the last object is the one without a lock.
pub(crate) fn saw_lockless() -> bool {
    COUNTERS.engine.load(Relaxed) == sys::rcu_ptr_engine_RCU_PTR_ENGINE_LOCKLESS as i32
}

/// Keeps the probes registered.
pub(crate) struct Probes(());

impl Probes {
    /// Registers the probes. The counters go on from where they were.
    ///
    /// # Context
    ///
    /// May sleep. One at a time.
    pub(crate) fn register() -> Result<Self> {
        // SAFETY: One at a time, as the doc asks.
        to_result(unsafe { sys::rcu_ptr_shim_probes_register() })?;
        Ok(Self(()))
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        // SAFETY: Registered by `register()`.
        unsafe { sys::rcu_ptr_shim_probes_unregister() };
    }
}

#[no_mangle]
extern "C" fn rcu_ptr_rs_queue(engine: c_int, channel: c_int, kind: c_int, ctx: c_int) {
    COUNTERS.engine.store(engine, Relaxed);
    if kind as c_uint != sys::rcu_ptr_kind_RCU_PTR_KIND_FREE {
        COUNTERS.calls.add(1, Relaxed);
    }
    if let Some(counter) = COUNTERS.queued.get(ctx as usize) {
        counter.add(1, Relaxed);
    }
    match channel as c_uint {
        sys::rcu_ptr_channel_RCU_PTR_CHANNEL_LIST => COUNTERS.list.add(1, Relaxed),
        sys::rcu_ptr_channel_RCU_PTR_CHANNEL_DEFERRED => COUNTERS.later.add(1, Relaxed),
        sys::rcu_ptr_channel_RCU_PTR_CHANNEL_SYNC => COUNTERS.waited.add(1, Relaxed),
        _ => {}
    }
}

#[no_mangle]
extern "C" fn rcu_ptr_rs_invoke(kind: c_int, func: c_ulong) {
    let sleeps = kind as c_uint == sys::rcu_ptr_kind_RCU_PTR_KIND_CALL_SLEEPABLE;
    COUNTERS.func[usize::from(sleeps)].store(func as u64, Relaxed);
    COUNTERS.invoked.add(1, Relaxed);
}

#[no_mangle]
extern "C" fn rcu_ptr_rs_defer(_cpu: c_int, what: c_int) {
    match what as c_uint {
        sys::rcu_ptr_defer_RCU_PTR_DEFER_OBJECT => COUNTERS.deferred.add(1, Relaxed),
        sys::rcu_ptr_defer_RCU_PTR_DEFER_REFILL => COUNTERS.backoffs.add(1, Relaxed),
        _ => {}
    }
}

#[no_mangle]
extern "C" fn rcu_ptr_rs_refill(_cpu: c_int, blocks: c_ulong) {
    COUNTERS.refilled.add(blocks as u64, Relaxed);
    COUNTERS.refills.add(1, Relaxed);
}

#[no_mangle]
extern "C" fn rcu_ptr_rs_shrink(_cpu: c_int, _blocks: c_ulong, _objects: c_ulong) {
    COUNTERS.shrinks.add(1, Relaxed);
}

#[no_mangle]
extern "C" fn rcu_ptr_rs_batch(_cpu: c_int, objects: c_ulong) {
    COUNTERS.batches.add(1, Relaxed);
    COUNTERS.freed.add(objects as u64, Relaxed);
}
