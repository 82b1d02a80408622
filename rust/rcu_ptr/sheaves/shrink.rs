// SPDX-License-Identifier: GPL-2.0

//! Frees sheaves: those above the limit of a barn (trim), those that were not needed for an
//! interval (reap), and on request of memory reclaim (shrinker).
//!
//! # Context
//!
//! Functions that lock, wake or free: softirq or task with no raw spinlock held, unless stated
//! otherwise.

use super::{
    arm::Reaper,
    barn::{Stock, Surplus},
    cache::{Barn, Cache, CacheRef},
    caches::Caches,
    Sheaves,
};
use crate::{
    params,
    sys::{
        context::{self, CpusStay},
        gp,
        pinned_timer::jiffies,
        shrinker::Shrink,
        trace,
        work::Handler,
    },
};
use kernel::{
    ffi::c_ulong,
    prelude::*,
    sync::atomic::{Full, Relaxed},
};

/// Queues the trim worker if the barn of `node` is above its limit, and the reaper unless the barn
/// is empty.
pub(super) fn check_limits(cache: &Cache, node: usize) {
    check_limits_with(cache, node, |_| ());
}

/// As [`check_limits()`], after a call of `change` under the same lock of the barn.
pub(super) fn check_limits_with(cache: &Cache, node: usize, change: impl FnOnce(&mut Stock)) {
    let more = cache.allowance();
    let barn = &cache.barns[node];
    let (excess, may_idle) = barn.with_locked(|stock| {
        change(stock);
        stock.allow(more);
        (stock.excess(), stock.may_idle())
    });
    if excess != Surplus::default() {
        cache.trim.queue(&Sheaves::get().reclaim_wq, 0);
    }
    // ORDERING: Full pairs with the exchange of the reaper: either that sees the change, or this
    // sees that the reaper has run.
    if !cache.reaping.load(Relaxed)
        && (may_idle || barn.with_reserve(|ring| ring.surplus()) > 0)
        && !cache.reaping.xchg(true, Full)
    {
        cache.reap_due.start(cache);
    }
}

impl Reaper for Cache {
    fn now(&self) -> u64 {
        jiffies() as u64
    }

    fn interval(&self) -> u64 {
        params::drain_jiffies() as u64
    }

    fn queue(&self, delay: u64) {
        self.reap
            .queue(&Sheaves::get().reclaim_wq, delay as c_ulong);
    }

    fn modify(&self, delay: u64) {
        self.reap
            .modify(&Sheaves::get().reclaim_wq, delay as c_ulong);
    }
}

/// The trim worker: brings barns down to their limits, or to nothing when memory is short.
pub(super) struct TrimWork(pub(super) CacheRef);

impl Handler for TrimWork {
    fn run(&self) {
        let cache = &self.0;
        if cache.flush_barns.xchg(false, Relaxed) {
            for (node, barn) in cache.barns.iter().enumerate() {
                let all = barn.with_locked(|stock| stock.all());
                release(cache, node, all, trace::SHEAF_RECLAIM);
            }
        }
        for node in 0..cache.barns.len() {
            release_while(cache, node, |stock, _| stock.excess(), trace::SHEAF_TRIM);
        }
    }
}

/// The reaper: frees what was not needed for a drain interval.
pub(super) struct ReapWork(pub(super) CacheRef);

impl Handler for ReapWork {
    fn run(&self) {
        let cache = &self.0;
        // ORDERING: Full, see `check_limits()`.
        cache.reaping.xchg(false, Full);
        cache.next_interval();
        for (node, barn) in cache.barns.iter().enumerate() {
            let unused = barn.with_reserve(|ring| ring.idle());
            release_reserve(cache, barn, unused);
            let surplus = barn.with_locked(|stock| stock.idle());
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
    let rest = |_: &Stock, done: Surplus| Surplus {
        full: surplus.full - done.full,
        empty: surplus.empty - done.empty,
    };
    release_while(cache, node, rest, why)
}

/// Frees up to `n` objects of the reserve of `barn` that are not promised. Returns how many.
///
/// # Context
///
/// As for [`release()`].
fn release_reserve(cache: &Cache, barn: &Barn, n: usize) -> usize {
    cache.free_all_to_slab(|| barn.with_reserve(|ring| ring.take_surplus()), n)
}

/// Frees sheaves of the barn of `node` one by one, as long as `surplus` returns some; it gets the
/// barn and what is done. Returns the number of sheaves.
fn release_while(
    cache: &Cache,
    node: usize,
    surplus: impl Fn(&Stock, Surplus) -> Surplus,
    why: c_uint,
) -> usize {
    let mut done = Surplus::default();
    loop {
        let (full, empty) = cache.barns[node].with_locked(|stock| {
            let surplus = surplus(stock, done);
            (
                (surplus.full > 0).then(|| stock.take_full()).flatten(),
                (surplus.empty > 0).then(|| stock.take_empty()).flatten(),
            )
        });
        if full.is_none() && empty.is_none() {
            break;
        }
        done.full += usize::from(full.is_some());
        done.empty += usize::from(empty.is_some());
        let sheaves = [full.map(|sheaf| cache.flush(sheaf)), empty];
        sheaves
            .into_iter()
            .flatten()
            .for_each(|s| cache.free_sheaf(s));
        gp::cond_resched();
    }
    if done != Surplus::default() {
        trace::sheaf_shrink(&cache.name, node, why, done.full, done.empty);
    }
    done.full + done.empty
}

/// The shrinker of all caches; it counts sheaves.
pub(crate) struct BarnShrinker;

impl Shrink for BarnShrinker {
    fn count() -> usize {
        // Another task that reclaims may hold the lock for long: it frees sheaves meanwhile.
        let Some(caches) = Sheaves::get().caches.try_lock() else {
            return 0;
        };
        caches
            .iter()
            .map(|cache| {
                let barns = cache.barns.iter().map(|barn| {
                    let unused = barn.with_reserve(|ring| ring.surplus());
                    let all = barn.with_locked(|stock| stock.all());
                    all.full + all.empty + usize::from(unused > 0)
                });
                let cpus = cache.pcs.iter().map(|pcs| pcs.contents().reclaimable());
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
                let all = barn.with_locked(|stock| stock.all());
                let empty = all.empty.min(want);
                let surplus = Surplus {
                    full: all.full.min(want - empty),
                    empty,
                };
                done += release(cache, node, surplus, trace::SHEAF_RECLAIM);
                if done < goal {
                    let unused = barn.with_reserve(|ring| ring.surplus());
                    let objects = release_reserve(cache, barn, unused);
                    done += objects.div_ceil(cache.capacity().max(1));
                }
            }
        }
        if done < goal {
            done += request_flush(&caches, goal - done);
        }
        done
    }
}

/// Has monitors take about `goal` sheaves off their CPUs. CPUs without sheaves are not disturbed.
/// Returns the number of sheaves that will be taken.
fn request_flush(caches: &Caches, goal: usize) -> usize {
    // Memory reclaim can't wait for CPU hotplug.
    let Some(_stay) = CpusStay::try_new() else {
        return 0;
    };
    let wq = &Sheaves::get().wq;
    let mut done = 0;
    for cache in caches.iter() {
        for pcs in cache.pcs.iter().filter(|p| context::is_online(p.cpu)) {
            let held = pcs.contents().reclaimable();
            if held > 0 && done < goal && pcs.request.xchg(FLUSH, Full) != FLUSH {
                pcs.monitor.modify_on(pcs.cpu, wq, 0);
                done += held;
            }
        }
    }
    done
}

/// Has monitors close the sheaves of their CPUs with freed objects, at the wait limit.
///
/// # Context
///
/// May sleep.
pub(super) fn request_close(cache: &Cache) {
    let Some(_stay) = CpusStay::try_new() else {
        return;
    };
    let wq = &Sheaves::get().wq;
    for pcs in cache.pcs.iter().filter(|p| context::is_online(p.cpu)) {
        if pcs.may_hold() && pcs.request.cmpxchg(0, CLOSE, Full).is_ok() {
            pcs.monitor.modify_on(pcs.cpu, wq, 0);
        }
    }
}

/// Requests to a monitor: take everything off its CPU, or close what holds freed objects.
pub(super) const FLUSH: u32 = 1;
pub(super) const CLOSE: u32 = 2;

/// Has the trim worker empty the barns, as memory is short.
pub(super) fn request_barn_flush(cache: &Cache) {
    cache.flush_barns.store(true, Relaxed);
    cache.trim.queue(&Sheaves::get().reclaim_wq, 0);
}
