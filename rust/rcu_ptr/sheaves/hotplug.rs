// SPDX-License-Identifier: GPL-2.0

//! CPU hotplug. `dead()` of this file takes everything off a dead CPU.
//!
//! | what is left when the CPU is dead | where it goes | when |
//! |---|---|---|
//! | rcu sheaf, closed sheaves | `dead()`: they begin to wait, then go to the barn | a grace period after it is dead |
//! | allocation sheaf, spares, emptied sheaves | to the barn of the CPU's node | once it is dead |
//! | objects in reuse slots | to the slab | once it is dead |
//! | objects without a sheaf | `dead()`: they begin to wait, if the irq_work did not run | once it is dead |
//! | sheaves that wait for a grace period | their callbacks run on another CPU | after their grace period |
//! | an irq_work that could not be queued on the way down | `online()` queues it | when the CPU is back |

use super::{
    cache::Cache, cursor::Undisturbed, exchange, pcs::Pcs, reclaim, sheaf::Chain, shrink, Sheaves,
};
use crate::sys::hotplug::Callbacks;
use core::ptr;
use kernel::sync::atomic::Relaxed;

/// The callbacks of all caches.
pub(crate) struct SheafHotplug;

impl Callbacks for SheafHotplug {
    fn prepare(_cpu: i32) {}

    fn online(cpu: i32) {
        for cache in Sheaves::get().each() {
            cache.pcs.of(cpu).tick.make_up();
        }
    }

    fn dead(cpu: i32) {
        for cache in Sheaves::get().each() {
            let pcs = cache.pcs.of(cpu);
            // It may have moved to another CPU, where it does nothing.
            pcs.monitor.cancel_sync();
            reclaim::wait_of_dead(&cache, cpu, take_off(&cache, &pcs));
            cache.start_batches();
            if cache.wants_refill.load(Relaxed) {
                cache.refill.hasten(&Sheaves::get().refill_wq);
            }
            shrink::look_after(&cache, pcs.node());
        }
    }
}

/// Takes everything off a CPU that runs nothing any more, but what waits for a grace period: that is
/// returned.
///
/// # Context
///
/// May sleep.
pub(super) fn take_off(cache: &Cache, pcs: &Pcs) -> Chain {
    // SAFETY: Nothing runs on the CPU.
    let undisturbed = unsafe { Undisturbed::assume() };
    let words = pcs.quiet();
    let mut waiting = words.closed.take();
    match exchange::close_partial(&words, cache.count(pcs.cpu)) {
        Ok(sheaf) => waiting.push(sheaf),
        Err(stamp) => cache.landed(Some(stamp)),
    }
    // SAFETY: Nothing runs on the CPU, and no object waits in them.
    unsafe { reclaim::store_chain(cache, pcs.node(), words.spent.take()) };
    for rest in exchange::take_stock(&words, &undisturbed) {
        rest.into_iter()
            .for_each(|rest| cache.store(pcs.node(), rest));
    }
    for place in pcs.quiet_reuse() {
        if let Some(object) = place.take() {
            cache.give_back(&mut [ptr::with_exposed_provenance_mut(object)]);
        }
    }
    // What the monitor was asked for is done, as far as it concerns this CPU.
    pcs.armed.store(0, Relaxed);
    pcs.reclaim.store(0, Relaxed);
    waiting
}
