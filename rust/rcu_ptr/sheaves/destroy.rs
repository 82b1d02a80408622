// SPDX-License-Identifier: GPL-2.0

//! Destruction of a cache: all objects are freed to the slab, those that wait for a grace period included.
//! Objects that the user still holds are counted and leaked.

use super::{cache::Cache, monitor, reclaim, Sheaves};
use crate::{
    api,
    sys::{
        debug,
        gp::{self, Snapshot},
    },
};
use core::ptr::NonNull;
use kernel::{
    prelude::*,
    sync::atomic::{Acquire, Relaxed},
};

/// Destroys `cache`.
///
/// # Context
///
/// May sleep.
///
/// # Safety
///
/// `cache` is from [`Cache::create()`], and no longer in use.
pub(crate) unsafe fn destroy(sheaves: &Sheaves, cache: NonNull<Cache>, caller: usize) {
    gp::might_sleep();
    // SAFETY: `create()` made it of a box, and only what `drain()` ends uses it.
    let cache = unsafe { Pin::new_unchecked(KBox::from_raw(cache.as_ptr())) };
    wait_for_destructors(sheaves, &cache);
    sheaves.begin_end(&cache);
    drain(sheaves, &cache);
    sheaves.ended(&cache);
    let held = cache.slab_allocs.load(Relaxed) as i64 - cache.slab_frees.load(Relaxed) as i64;
    if held != 0 {
        debug::warn_held(&cache.name, held, caller);
        // The kmem_cache is leaked as well, so that a late kfree() does no harm.
        cache.slab.leak();
    }
    // All its work has ended. Without a leak the kmem_cache is destroyed.
}

/// Waits for readers of the SRCU domain, and until no destructor runs, or is to run: each may have freed more
/// objects of the cache.
///
/// When none has returned since before a barrier, none was running, and none of what they freed is left.
fn wait_for_destructors(sheaves: &Sheaves, cache: &Cache) {
    if cache.dtor.is_none() && cache.srcu.is_none() {
        return;
    }
    loop {
        // ORDERING: Acquire pairs with the addition.
        let before = cache.destructed.load(Acquire);
        sheaves.barrier_of(cache);
        if cache.destructed.load(Acquire) == before {
            return;
        }
    }
}

fn drain(sheaves: &Sheaves, cache: &Cache) {
    // After this grace period no reader has an object that was freed before the call, the sheaves of CPUs are
    // as their contexts left them, and no context is inside a call.
    let snapshot = Snapshot::take();
    let mut with_engine = cache.engine_has_taken();
    if with_engine > 0 {
        // Its grace periods count.
        api::engine_barrier();
    }
    if !snapshot.is_over() {
        gp::synchronize();
    }
    sheaves.wait_unpinned(cache);
    // First, for good: it uses the spares of the CPU it runs on, which queues the irq_work there.
    cache.refill.shutdown_sync();
    for pcs in cache.pcs.iter() {
        // The irq_work queues the others.
        pcs.kick_work.sync();
        pcs.monitor.cancel_sync();
    }
    for pcs in cache.pcs.iter() {
        let waiting = monitor::take_off(cache, &pcs);
        // SAFETY: A grace period has passed since the last object was freed.
        unsafe { reclaim::store_chain(cache, pcs.node(), waiting) };
    }
    // Callbacks, whose grace periods are over as well, and what they left.
    reclaim::wait_until(cache, || cache.is_quiet());
    // What queued it has found nothing to leave since: cancelled, as a flush may miss one that is being queued.
    cache.backlog.cancel_sync();
    // A callback may have left something, or what follows the one sheaf of a chain that is counted.
    reclaim::take_in_backlog(cache);
    // Not queued any more.
    cache.trim.cancel_sync();
    cache.reap.cancel_sync();
    // A trim or a reap that was cancelled may have been queued by the other.
    cache.trim.cancel_sync();
    for barn in &cache.barns {
        let (mut full, mut empty) = barn.with(|stock| stock.take_all());
        while let Some(sheaf) = full.pop() {
            cache.free_sheaf(cache.flush(sheaf));
            gp::cond_resched();
        }
        while let Some(sheaf) = empty.pop() {
            cache.free_sheaf(sheaf);
        }
        cache.give_back_from(|| barn.reserved(), usize::MAX);
    }
    if let Some(domain) = cache.srcu {
        // The last callback may not have returned.
        domain.barrier();
    }
    with_engine = cache.engine_has_taken() - with_engine;
    if with_engine > 0 {
        api::engine_barrier();
    }
}
