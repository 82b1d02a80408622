// SPDX-License-Identifier: GPL-2.0

//! Counts the trace events of `rcu_ptr.ko`, for tests.

use super::{
    generated as sys,
    tracepoint::{self, Tracepoint},
};
use kernel::{
    macros::paste,
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// Numbers of events.
pub(crate) struct Counters {
    /// The engine of the last object (`enum rcu_ptr_engine`).
    engine: Atomic<i32>,
    /// Queued objects, by context (`enum rcu_ptr_ctx`).
    pub(crate) queued: [Atomic<u64>; 4],
    /// Of those, on the list.
    pub(crate) list: Atomic<u64>,
    /// Of those, deferred by engine rfc.
    pub(crate) later: Atomic<u64>,
    /// Of those, freed by a caller that waited for a grace period.
    pub(crate) waited: Atomic<u64>,
    /// Of those, callbacks.
    pub(crate) calls: Atomic<u64>,
    /// Callbacks called.
    pub(crate) invoked: Atomic<u64>,
    /// The function of the last callback that may not sleep, and of the last that may.
    pub(crate) func: [Atomic<u64>; 2],
    /// Objects that engine rfc deferred.
    pub(crate) deferred: Atomic<u64>,
    /// Refills delayed after memory pressure.
    pub(crate) backoffs: Atomic<u64>,
    /// Completed refills.
    pub(crate) refills: Atomic<u64>,
    /// Blocks that refills allocated.
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

/// Whether the engine of the last object is `lockless`.
pub(crate) fn saw_lockless() -> bool {
    COUNTERS.engine.load(Relaxed) == sys::RCU_PTR_ENGINE_LOCKLESS as i32
}

/// The tracepoint of an event, and the probe of the same name.
macro_rules! probe {
    ($event:ident) => {
        paste! {{
            // SAFETY: Of `rcu_ptr.ko`, which this module depends on.
            let at = unsafe { Tracepoint::new(&raw mut sys::[<__tracepoint_rcu_ptr_ $event>]) };
            (at, $event as *mut c_void)
        }}
    };
}

/// Keeps the probes registered.
pub(crate) struct Probes {
    _probes: tracepoint::Probes<6>,
}

impl Probes {
    /// Registers the probes; may sleep. The counters are not reset. At most one `Probes` exists.
    pub(crate) fn register() -> Result<Self> {
        let probes = [
            probe!(queue),
            probe!(invoke),
            probe!(defer),
            probe!(refill),
            probe!(shrink),
            probe!(batch_end),
        ];
        Ok(Self {
            // SAFETY: Each has the prototype of its tracepoint.
            _probes: unsafe { tracepoint::Probes::register(probes) }?,
        })
    }
}

extern "C" fn queue(
    _data: *mut c_void,
    engine: c_int,
    channel: c_int,
    kind: c_int,
    ctx: c_int,
    _ptr: *mut c_void,
    _caller: c_ulong,
) {
    COUNTERS.engine.store(engine, Relaxed);
    if kind as c_uint != sys::RCU_PTR_KIND_FREE {
        COUNTERS.calls.add(1, Relaxed);
    }
    if let Some(counter) = COUNTERS.queued.get(ctx as usize) {
        counter.add(1, Relaxed);
    }
    match channel as c_uint {
        sys::RCU_PTR_CHANNEL_LIST => COUNTERS.list.add(1, Relaxed),
        sys::RCU_PTR_CHANNEL_DEFERRED => COUNTERS.later.add(1, Relaxed),
        sys::RCU_PTR_CHANNEL_SYNC => COUNTERS.waited.add(1, Relaxed),
        _ => {}
    }
}

extern "C" fn invoke(_data: *mut c_void, kind: c_int, _head: *mut c_void, func: c_ulong) {
    let sleeps = kind as c_uint == sys::RCU_PTR_KIND_CALL_SLEEPABLE;
    COUNTERS.func[usize::from(sleeps)].store(func as u64, Relaxed);
    COUNTERS.invoked.add(1, Relaxed);
}

extern "C" fn defer(_data: *mut c_void, _cpu: c_int, what: c_int, _pending: c_ulong) {
    match what as c_uint {
        sys::RCU_PTR_DEFER_OBJECT => COUNTERS.deferred.add(1, Relaxed),
        sys::RCU_PTR_DEFER_REFILL => COUNTERS.backoffs.add(1, Relaxed),
        _ => {}
    }
}

extern "C" fn refill(_data: *mut c_void, _cpu: c_int, blocks: c_ulong, _wanted: c_ulong) {
    COUNTERS.refilled.add(blocks as u64, Relaxed);
    COUNTERS.refills.add(1, Relaxed);
}

extern "C" fn shrink(_data: *mut c_void, _cpu: c_int, _blocks: c_ulong, _objects: c_ulong) {
    COUNTERS.shrinks.add(1, Relaxed);
}

extern "C" fn batch_end(
    _data: *mut c_void,
    _cpu: c_int,
    _batch: c_int,
    slab: c_ulong,
    vmalloc: c_ulong,
    list: c_ulong,
    mixed: c_ulong,
    calls: c_ulong,
    _gp: c_ulong,
) {
    COUNTERS.batches.add(1, Relaxed);
    let objects = slab + vmalloc + list + mixed + calls;
    COUNTERS.freed.add(objects as u64, Relaxed);
}
