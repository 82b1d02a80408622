// SPDX-License-Identifier: GPL-2.0

//! Sheaves are freed: those above the limit of a barn (trim), those that were not needed for an interval
//! (reap), and what memory reclaim asks for (shrinker).

use super::{
    barn::{Stock, Surplus},
    cache::{Cache, CacheRef},
    caches::Caches,
    Sheaves,
};
use crate::{
    params,
    sys::{
        context::{self, CpusStay},
        gp,
        shrinker::Shrink,
        trace,
        work::Handler,
    },
};
use kernel::{
    prelude::*,
    sync::atomic::{Full, Relaxed},
};

/// Starts a trim if the barn of `node` is above its limit, and the reaper unless it is empty.
///
/// # Context
///
/// Any but NMI and hardirq.
pub(super) fn check_limits(cache: &Cache, node: usize) {
    check_limits_with(cache, node, |_| ());
}

/// The same after `change`, which is called with the lock of the barn held.
///
/// # Context
///
/// As for [`check_limits()`].
pub(super) fn check_limits_with(cache: &Cache, node: usize, change: impl FnOnce(&mut Stock)) {
    let more = cache.allowance();
    let unused = cache.barns[node].with_reserve(|ring| ring.surplus()) > 0;
    let (excess, may_idle) = cache.barns[node].with(|stock| {
        change(stock);
        stock.allow(more);
        (stock.excess(), stock.may_idle())
    });
    let wq = &Sheaves::get().reclaim_wq;
    if excess != Surplus::default() {
        cache.trim.queue(wq, 0);
    }
    // ORDERING: Full pairs with the exchange of the reaper: either it sees what came, or this sees
    // that it has gone.
    if (may_idle || unused) && !cache.reaping.load(Relaxed) && !cache.reaping.xchg(true, Full) {
        cache.reap.queue(wq, params::drain_jiffies());
    }
}

/// The trim worker: brings barns down to their limits, or to nothing when memory is short.
pub(super) struct TrimWork(pub(super) CacheRef);

impl Handler for TrimWork {
    fn run(&self) {
        if self.0.give_back_all.xchg(false, Relaxed) {
            for (node, barn) in self.0.barns.iter().enumerate() {
                let all = barn.with(|stock| Surplus {
                    full: stock.nr_full(),
                    empty: stock.nr_empty(),
                });
                release(&self.0, node, all, trace::SHEAF_RECLAIM);
            }
        }
        for (node, barn) in self.0.barns.iter().enumerate() {
            let (mut nr_full, mut nr_empty) = (0, 0);
            loop {
                let (full, empty) = barn.with(|stock| {
                    let excess = stock.excess();
                    (
                        (excess.full > 0).then(|| stock.take_full()).flatten(),
                        (excess.empty > 0).then(|| stock.take_empty()).flatten(),
                    )
                });
                if full.is_none() && empty.is_none() {
                    break;
                }
                if let Some(sheaf) = full {
                    self.0.free_sheaf(self.0.flush(sheaf));
                    nr_full += 1;
                }
                if let Some(sheaf) = empty {
                    self.0.free_sheaf(sheaf);
                    nr_empty += 1;
                }
                gp::cond_resched();
            }
            report(&self.0, node, trace::SHEAF_TRIM, nr_full, nr_empty);
        }
    }
}

/// The reaper.
pub(super) struct ReapWork(pub(super) CacheRef);

impl Handler for ReapWork {
    fn run(&self) {
        let cache = &self.0;
        // ORDERING: Full, see `check_limits()`.
        cache.reaping.xchg(false, Full);
        cache.next_interval();
        for (node, barn) in cache.barns.iter().enumerate() {
            let unused = barn.with_reserve(|ring| ring.idle());
            cache.give_back_from(|| barn.unpromised(), unused);
            let surplus = barn.with(|stock| stock.idle());
            release(cache, node, surplus, trace::SHEAF_REAP);
            check_limits(cache, node);
        }
    }
}

/// Frees `surplus` of the barn of `node`. Returns the number of sheaves.
///
/// # Context
///
/// May sleep. Allocates nothing: memory reclaim gets here too.
fn release(cache: &Cache, node: usize, surplus: Surplus, why: c_uint) -> usize {
    let barn = &cache.barns[node];
    let (mut full, mut empty) = (0, 0);
    while full < surplus.full {
        let Some(sheaf) = barn.with(|stock| stock.take_full()) else {
            break;
        };
        cache.free_sheaf(cache.flush(sheaf));
        full += 1;
        gp::cond_resched();
    }
    while empty < surplus.empty {
        let Some(sheaf) = barn.with(|stock| stock.take_empty()) else {
            break;
        };
        cache.free_sheaf(sheaf);
        empty += 1;
        gp::cond_resched();
    }
    report(cache, node, why, full, empty);
    full + empty
}

fn report(cache: &Cache, node: usize, why: c_uint, full: usize, empty: usize) {
    if full + empty > 0 {
        trace::sheaf_shrink(&cache.name, node, why, full, empty);
    }
}

/// All caches as memory reclaim sees them, in sheaves.
pub(crate) struct BarnShrinker;

impl Shrink for BarnShrinker {
    fn count() -> usize {
        // The holder of the lock may be allocating.
        let Some(caches) = Sheaves::get().caches.try_lock() else {
            return 0;
        };
        caches
            .iter()
            .map(|cache| {
                let barns = cache.barns.iter().map(|barn| {
                    let unused = barn.with_reserve(|ring| ring.surplus());
                    barn.with(|stock| stock.nr_full() + stock.nr_empty()) + usize::from(unused > 0)
                });
                let cpus = cache.pcs.iter().map(|pcs| pcs.held().reclaimable());
                barns.sum::<usize>() + cpus.sum::<usize>()
            })
            .sum()
    }

    fn scan(goal: usize) -> usize {
        let Some(caches) = Sheaves::get().caches.try_lock() else {
            return 0;
        };
        let mut done = 0;
        for cache in caches.iter() {
            for (node, barn) in cache.barns.iter().enumerate() {
                let want = goal.saturating_sub(done);
                let surplus = barn.with(|stock| {
                    let empty = stock.nr_empty().min(want);
                    Surplus {
                        full: stock.nr_full().min(want - empty),
                        empty,
                    }
                });
                done += release(cache, node, surplus, trace::SHEAF_RECLAIM);
                if done < goal {
                    let unused = barn.with_reserve(|ring| ring.surplus());
                    let objects = cache.give_back_from(|| barn.unpromised(), unused);
                    done += objects.div_ceil(cache.capacity().max(1));
                }
            }
        }
        if done < goal {
            done += ask_cpus(&caches, goal - done);
        }
        done
    }
}

/// Has the monitors take sheaves off their CPUs, about `goal` of them. CPUs without sheaves are not disturbed.
/// Returns the number of sheaves that will be taken.
fn ask_cpus(caches: &Caches, goal: usize) -> usize {
    // Memory reclaim can't wait for CPU hotplug.
    let Some(_stay) = CpusStay::try_new() else {
        return 0;
    };
    let wq = &Sheaves::get().wq;
    let mut done = 0;
    for cache in caches.iter() {
        for pcs in cache.pcs.iter().filter(|p| context::is_online(p.cpu)) {
            let held = pcs.held().reclaimable();
            if held > 0 && done < goal && pcs.reclaim.xchg(TAKE_ALL, Full) != TAKE_ALL {
                pcs.monitor.modify_on(pcs.cpu, wq, 0);
                done += held;
            }
        }
    }
    done
}

/// Has the monitors close what waits on their CPUs, at the wait limit.
///
/// # Context
///
/// May sleep.
pub(super) fn close_soon(cache: &Cache) {
    let Some(_stay) = CpusStay::try_new() else {
        return;
    };
    let wq = &Sheaves::get().wq;
    for pcs in cache.pcs.iter().filter(|p| context::is_online(p.cpu)) {
        if pcs.may_hold() && pcs.reclaim.cmpxchg(0, CLOSE, Full).is_ok() {
            pcs.monitor.modify_on(pcs.cpu, wq, 0);
        }
    }
}

/// What the next run of a monitor is to do at once: take all that there is off its CPU, or close what waits.
pub(super) const TAKE_ALL: u32 = 1;
pub(super) const CLOSE: u32 = 2;

/// Empties the barns: memory is short.
///
/// # Context
///
/// Any but NMI and hardirq.
pub(super) fn give_back(cache: &Cache) {
    cache.give_back_all.store(true, Relaxed);
    cache.trim.queue(&Sheaves::get().reclaim_wq, 0);
}
