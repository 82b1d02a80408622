// SPDX-License-Identifier: GPL-2.0

//! Destruction of a cache: all objects are freed to the slab, after their grace period. Objects
//! that the user still holds are reported and leaked.

use super::{
    cache::Cache,
    monitor,
    pcs::Pcs,
    reclaim,
    teardown::{teardown, Teardown},
    Sheaves,
};
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
    // SAFETY: `create()` leaked a box, and only what `drain()` stops uses it.
    let cache = unsafe { Pin::new_unchecked(KBox::from_raw(cache.as_ptr())) };
    wait_for_destructors(sheaves, &cache);
    sheaves.begin_destroy(&cache);
    drain(sheaves, &cache);
    sheaves.remove(&cache);
    let held = cache.slab_allocs.load(Relaxed) as i64 - cache.slab_frees.load(Relaxed) as i64;
    if held != 0 {
        debug::warn_held(&cache.name, held, caller);
        // The kmem_cache is leaked as well, so that a late kfree() does no harm.
        cache.slab.leak();
    }
    // All its work has stopped. Unless it was leaked the kmem_cache is destroyed here.
}

/// Waits for readers of the SRCU domain, and until no destructor is running or pending: each may
/// free more objects of the cache.
///
/// If none has returned during a barrier, none was running or pending.
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
    // After this grace period no reader has an object that was freed before the call, and no
    // context is inside an operation on the cache.
    let snapshot = Snapshot::take();
    let mut with_engine = cache.nr_engine_fallbacks();
    if with_engine > 0 {
        // A grace period inside satisfies the wait below.
        api::engine_barrier();
    }
    if !snapshot.is_over() {
        gp::synchronize();
    }
    sheaves.wait_unpinned(cache);
    teardown(cache);
    if let Some(domain) = cache.srcu {
        // The last SRCU callback may not have returned.
        domain.barrier();
    }
    with_engine = cache.nr_engine_fallbacks() - with_engine;
    if with_engine > 0 {
        api::engine_barrier();
    }
}

impl Teardown for Cache {
    type Cpu = Pcs;

    fn each(&self, mut f: impl FnMut(&Pcs)) {
        self.pcs.iter().for_each(|pcs| f(&pcs));
    }

    fn stop_refill(&self) {
        self.refill.shutdown_sync();
    }

    fn wait_for_irq_work(&self, pcs: &Pcs) {
        pcs.irq_work.sync();
    }

    fn stop_monitor(&self, pcs: &Pcs) {
        pcs.monitor.cancel_sync();
    }

    fn take_off(&self, pcs: &Pcs) {
        let waiting = monitor::take_off(self, pcs);
        // SAFETY: A grace period has passed since the last object was freed.
        unsafe { reclaim::put_chain(self, pcs.node(), waiting) };
    }

    fn wait_until_quiet(&self) {
        reclaim::process_until(self, || self.is_quiet());
    }

    fn stop_backlog(&self) {
        self.backlog.cancel_sync();
    }

    fn process_backlog(&self) {
        reclaim::process_backlog(self);
    }

    fn stop_trim(&self) {
        self.trim.cancel_sync();
    }

    fn stop_reap(&self) {
        self.reap.cancel_sync();
    }

    fn empty_barns(&self) {
        for barn in &self.barns {
            let (mut full, mut empty) = barn.with_locked(|stock| stock.take_all());
            while let Some(sheaf) = full.pop() {
                self.free_sheaf(self.flush(sheaf));
                gp::cond_resched();
            }
            while let Some(sheaf) = empty.pop() {
                self.free_sheaf(sheaf);
            }
            self.free_all_to_slab(|| barn.take_reserved(), usize::MAX);
        }
    }
}
