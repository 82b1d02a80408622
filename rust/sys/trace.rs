// SPDX-License-Identifier: GPL-2.0

//! Tracepoints under events/rcu_ptr/ (include/trace/events/rcu_ptr.h).
//!
//! With an event off its function costs a no-op where the kernel patches its text
//! (CONFIG_JUMP_LABEL), and a load and a test where it doesn't. `kernel::declare_trace!` can't be
//! used: it looks for the tracepoint in `kernel::bindings`.

use super::generated as sys;
use core::ptr::NonNull;
use kernel::{macros::paste, prelude::*};

pub(crate) use sys::{
    RCU_PTR_CHANNEL_CALL as CHANNEL_CALL, RCU_PTR_CHANNEL_DEFERRED as CHANNEL_DEFERRED,
    RCU_PTR_CHANNEL_LIST as CHANNEL_LIST, RCU_PTR_CHANNEL_SLAB as CHANNEL_SLAB,
    RCU_PTR_CHANNEL_SYNC as CHANNEL_SYNC, RCU_PTR_CHANNEL_VMALLOC as CHANNEL_VMALLOC,
    RCU_PTR_DEFER_BATCH as DEFER_BATCH, RCU_PTR_DEFER_OBJECT as DEFER_OBJECT,
    RCU_PTR_DEFER_REFILL as DEFER_REFILL, RCU_PTR_ENGINE_LOCKLESS as ENGINE_LOCKLESS,
    RCU_PTR_ENGINE_RFC as ENGINE_RFC, RCU_PTR_SHEAF_REAP as SHEAF_REAP,
    RCU_PTR_SHEAF_RECLAIM as SHEAF_RECLAIM, RCU_PTR_SHEAF_TRIM as SHEAF_TRIM,
};

/// Whether the static key in field `key` of `sys::$name`, a `$type` that C defines, is on.
#[cfg(CONFIG_JUMP_LABEL)]
macro_rules! is_on {
    ($name:ident: $type:ty) => {
        // SAFETY: A static key.
        unsafe { kernel::jump_label::static_branch_unlikely!(sys::$name, $type, key) }
    };
}

/// As above. The macro of the kernel would call a function.
#[cfg(not(CONFIG_JUMP_LABEL))]
macro_rules! is_on {
    ($name:ident: $type:ty) => {
        // SAFETY: A static key. C writes the counter atomically; a stale value only delays an
        // event, and the key of an engine is written first.
        unsafe { (&raw const sys::$name.key.key.enabled.counter).read_volatile() > 0 }
    };
}
pub(super) use is_on;

/// Records an event if it is on, and a further condition holds.
macro_rules! record {
    ($event:ident($($argument:expr),+ $(,)?) $(if $condition:expr)?) => {
        paste! {
            if is_on!([<__tracepoint_rcu_ptr_ $event>]: kernel::bindings::tracepoint)
                $(&& $condition)?
            {
                // SAFETY: Probes look at the arguments; what they point to is live.
                unsafe { sys::[<rust_do_trace_rcu_ptr_ $event>]($($argument),+) };
            }
        }
    };
}

/// Whether event `rcu_ptr_queue` is enabled.
#[inline(always)]
pub(crate) fn queue_is_on() -> bool {
    is_on!(__tracepoint_rcu_ptr_queue: kernel::bindings::tracepoint)
}

/// Event `rcu_ptr_queue`: an object was queued.
#[inline(always)]
pub(crate) fn queue(engine: c_uint, channel: c_uint, object: NonNull<u8>, caller: usize) {
    queued(engine, channel, sys::RCU_PTR_KIND_FREE, object, caller);
}

const fn kind_of_call(sleeps: bool) -> c_uint {
    if sleeps {
        sys::RCU_PTR_KIND_CALL_SLEEPABLE
    } else {
        sys::RCU_PTR_KIND_CALL
    }
}

/// Event `rcu_ptr_queue`: the callback of `head` was queued.
#[inline(always)]
pub(crate) fn call(
    engine: c_uint,
    channel: c_uint,
    head: NonNull<u8>,
    sleeps: bool,
    caller: usize,
) {
    queued(engine, channel, kind_of_call(sleeps), head, caller);
}

#[inline(always)]
fn queued(engine: c_uint, channel: c_uint, kind: c_uint, what: NonNull<u8>, caller: usize) {
    if is_on!(__tracepoint_rcu_ptr_queue: kernel::bindings::tracepoint) {
        // SAFETY: The shim only records its arguments.
        unsafe {
            sys::rcu_ptr_shim_trace_queue(
                engine as c_int,
                channel as c_int,
                kind as c_int,
                what.as_ptr().cast(),
                caller as c_ulong,
            )
        };
    }
}

/// The callback `func` is about to be called with `head`.
pub(crate) fn invoke(head: NonNull<u8>, func: usize, sleeps: bool) {
    record!(invoke(
        kind_of_call(sleeps) as c_int,
        head.as_ptr().cast(),
        func,
    ));
}

/// Objects of each channel, for the batch events.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) slab: usize,
    pub(crate) vmalloc: usize,
    pub(crate) list: usize,
    /// Of all kinds, in blocks that are not sorted yet (engine `lockless`).
    pub(crate) mixed: usize,
    /// Callbacks in blocks.
    pub(crate) calls: usize,
}

impl Counts {
    /// No objects.
    pub(crate) const fn new() -> Self {
        Self {
            slab: 0,
            vmalloc: 0,
            list: 0,
            mixed: 0,
            calls: 0,
        }
    }
}

/// A batch starts to wait for grace period `gp`.
pub(crate) fn batch_start(cpu: i32, batch: usize, n: Counts, gp: usize) {
    let batch = batch as c_int;
    record!(batch_start(
        cpu, batch, n.slab, n.vmalloc, n.list, n.mixed, n.calls, gp,
    ));
}

/// The objects of a batch are freed, after grace period `gp`. `None`: their grace period had ended
/// before they were in a batch.
pub(crate) fn batch_end(cpu: i32, batch: Option<usize>, n: Counts, gp: usize) {
    let batch = batch.map_or(-1, |i| i as c_int);
    record!(batch_end(
        cpu, batch, n.slab, n.vmalloc, n.list, n.mixed, n.calls, gp,
    ));
}

/// Objects are about to be freed to their allocators.
#[inline(always)]
pub(crate) fn free(objects: &mut [*mut u8]) {
    record!(free(objects.as_mut_ptr().cast(), objects.len()) if !objects.is_empty());
}

/// The block cache was refilled.
pub(crate) fn refill(cpu: i32, blocks: usize, wanted: usize) {
    record!(refill(cpu, blocks, wanted));
}

/// The shrinker has run.
pub(crate) fn shrink(cpu: i32, blocks: usize, objects: usize) {
    record!(shrink(cpu, blocks, objects));
}

/// Work was deferred: event `rcu_ptr_defer`.
pub(crate) fn defer(cpu: i32, what: c_uint, pending: usize) {
    record!(defer(cpu, what as c_int, pending));
}

/// Sheaves of `cache` start to wait for a grace period; `count` returns their number, and the
/// number of those that have objects.
#[inline]
pub(crate) fn sheaf_wait(cache: &CStr, cpu: i32, count: impl FnOnce() -> (usize, usize)) {
    if is_on!(__tracepoint_rcu_ptr_sheaf_wait: kernel::bindings::tracepoint) {
        let (sheaves, full) = count();
        // SAFETY: As in `record!()`.
        unsafe { sys::rust_do_trace_rcu_ptr_sheaf_wait(cache.as_char_ptr(), cpu, sheaves, full) };
    }
}

/// A sheaf was filled with `objects` objects of the slab.
pub(crate) fn sheaf_refill(cache: &CStr, cpu: i32, objects: usize) {
    record!(sheaf_refill(cache.as_char_ptr(), cpu, objects));
}

/// The monitor removed sheaves from `cpu`.
pub(crate) fn sheaf_drain(cache: &CStr, cpu: i32, waiting: usize, stock: usize) {
    record!(sheaf_drain(cache.as_char_ptr(), cpu, waiting, stock));
}

/// The barn of `node` freed sheaves to the slab.
pub(crate) fn sheaf_shrink(cache: &CStr, node: usize, why: c_uint, full: usize, empty: usize) {
    record!(sheaf_shrink(
        cache.as_char_ptr(),
        node as c_int,
        why as c_int,
        full,
        empty,
    ));
}
