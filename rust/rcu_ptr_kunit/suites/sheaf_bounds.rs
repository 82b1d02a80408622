// SPDX-License-Identifier: GPL-2.0

//! Memory of a cache outside of its barns: every kind is limited, counted in the statistics, and
//! freed without further calls on the CPU. And double frees: the object is allocated once.

use super::sheaf_memory::nr_barns;
use crate::{
    prelude::*,
    provoke::{free_rcu_twice, free_twice},
    sys::cache::Stats,
};
use ::core::ptr;

/// `MAX_SPENT` of the core.
const MAX_SPENT: u64 = 8;
/// `CALLBACK_SHEAVES` of the core.
const CALLBACK_SHEAVES: u64 = 16;

/// Whether all objects are back in the slab.
pub(super) fn all_back(stats: &Stats) -> bool {
    stats.slab_allocs == stats.slab_frees
}

/// Sheaves and reusable objects of all CPUs.
fn held_by_cpus(stats: &Stats) -> u64 {
    stats.now_alloc
        + stats.now_rcu
        + stats.now_reuse
        + stats.now_spare_full
        + stats.now_spare_empty
        + stats.now_spent
        + stats.now_closed
}

/// One CPU allocates with `alloc` and another frees, with 64 objects in circulation, until `enough`
/// returns true for the number of objects so far.
fn circulate(
    cache: &SheafCache,
    (here, there): (i32, i32),
    alloc: &(dyn Fn() -> Option<NonNull<u8>> + Sync),
    mut enough: impl FnMut(usize) -> bool,
) -> Result {
    let slots = [const { Atomic::<*mut u8>::new(ptr::null_mut()) }; 64];
    let done = Atomic::<usize>::new(0);
    let turn = |cpu: i32, i: usize| {
        let slot = &slots[i % 64];
        if cpu == there {
            if let Some(object) = NonNull::new(slot.xchg(ptr::null_mut(), Full)) {
                // SAFETY: An object of this cache, which this CPU has removed from the slot.
                unsafe { cache.free_rcu(object) };
            }
        } else if slot.load(Relaxed).is_null() {
            if let Some(object) = alloc() {
                slot.xchg(object.as_ptr(), Full);
                done.add(1, Relaxed);
            }
        }
    };
    cpus::meanwhile([here, there].into_iter(), &turn, || {
        bound::wait_with_timeout(|| enough(done.load(Relaxed)))
    })?;
    for slot in &slots {
        if let Some(object) = NonNull::new(slot.load(Relaxed)) {
            // SAFETY: An object of this cache that is still in its slot.
            unsafe { cache.free_rcu(object) };
        }
    }
    Ok(())
}

/// Runs [`circulate()`] until many sheaves have been emptied, and checks that few are left
/// afterwards. Returns the largest number of spent sheaves.
fn spend(
    cache: &SheafCache,
    cpus: (i32, i32),
    alloc: &(dyn Fn() -> Option<NonNull<u8>> + Sync),
) -> Result<u64> {
    let mut most = 0;
    circulate(cache, cpus, alloc, |done| {
        let stats = cache.stats();
        most = most.max(stats.now_spent);
        // Sheaves are recycled once per grace period, whatever the number of objects.
        done >= scaled(40_000) && stats.emptied > 10 * MAX_SPENT
    })?;
    // After callbacks, a tick, and the worker that trims the barn to its limit.
    let most_sheaves = most_sheaves();
    let settled = bound::wait_with_timeout(|| {
        let stats = cache.stats();
        stats.now_waiting == 0 && stats.now_closed == 0 && stats.now_sheaves <= most_sheaves
    });
    let stats = cache.stats();
    let left = stats.now_sheaves;
    pr_info!("sheaf_bounds: at most {most} spent sheaves, {left} sheaves at the end\n");
    check!(settled && left <= most_sheaves)?;
    check!(stats.emptied > 10 * MAX_SPENT)?;
    check!(stats.now_spent <= MAX_SPENT * cpu::online().count() as u64)?;
    Ok(most)
}

/// The most sheaves of four objects when none waits: two kinds in each barn, remotely freed
/// objects, and those of CPUs.
fn most_sheaves() -> u64 {
    (2 * 8 + 1) * nr_barns() + cpu::online().count() as u64 * (MAX_SPENT + 4)
}

fn two_cpus() -> Option<(i32, i32)> {
    let here = cpu::online().next()?;
    let there = cpu::online().find(|&c| c != here)?;
    Some((here, there))
}

/// Checks that the double free of `object` was detected, and that it is not allocated twice.
fn is_allocated_once(cache: &SheafCache, object: NonNull<u8>) -> Result {
    let held = cache.alloc_many(300)?;
    let times = held.iter().filter(|&&other| other == object).count();
    let mut kept = false;
    for &other in &*held {
        // Free it once, even if it was allocated twice.
        if other != object || !::core::mem::replace(&mut kept, true) {
            // SAFETY: An object of this cache.
            unsafe { cache.free_rcu(other) };
        }
    }
    check!(times <= 1 && cache.stats().freed_twice == 1)
}

#[kunit_tests(rcu_ptr_sheaf_bounds)]
mod tests {
    use super::*;

    /// Spent sheaves of a CPU that allocates with softirqs disabled, and has nothing else that
    /// waits for a grace period.
    #[test]
    fn spent_with_softirqs_off() -> Result {
        let cpus = or_skip!(two_cpus(), c"needs two CPUs");
        let _restore = params::no_drain()?;
        let cache = SheafCache::new(c"rcu_ptr_bh", SIZE, sheaves(4, 8))?;
        let alloc = || cpu::bh_off(|| cache.alloc(true));
        let most = spend(&cache, cpus, &alloc)?;
        check!(most <= MAX_SPENT * cpu::online().count() as u64)
    }

    /// Spent sheaves of a CPU that allocates with interrupts off: their grace period starts with
    /// the next tick.
    #[test]
    fn spent_with_interrupts_off() -> Result {
        let cpus = or_skip!(two_cpus(), c"needs two CPUs");
        let _restore = params::no_drain()?;
        let cache = SheafCache::new(c"rcu_ptr_irqs", SIZE, sheaves(4, 8))?;
        let alloc = || cpu::irqs_off(|| cache.alloc_nolock()).or_else(|| cache.alloc(false));
        spend(&cache, cpus, &alloc).map(drop)
    }

    /// The backlog of a CPU that had interrupts off for long: callbacks process a few sheaves each,
    /// and the barrier waits for the rest.
    #[test]
    fn callbacks_are_short() -> Result {
        let _restore = params::no_drain()?;
        let cache = SheafCache::new(c"rcu_ptr_flood", SIZE, sheaves(4, 8))?;
        let n = scaled(20_000);
        let held = cache.alloc_many(n)?;
        let closed = cpu::irqs_off(|| {
            // SAFETY: Objects of this cache, each freed once.
            unsafe { cache.free_rcu_all(&held) };
            cache.stats().now_closed as usize
        });
        // Without a barrier, which would process them: they have to go to callbacks from the tick.
        check!(bound::wait_with_timeout(|| {
            let stats = cache.stats();
            stats.now_waiting == 0 && stats.now_closed == 0
        }))?;
        core::barrier();
        let stats = cache.stats();
        let most = stats.callback_max;
        pr_info!("sheaf_bounds: {closed} sheaves closed, a callback took {most} at most\n");
        check!(stats.now_waiting == 0 && stats.now_closed == 0)?;
        // Without kmalloc_nolock() the objects go to the engine.
        if cfg!(not(any(CONFIG_DEBUG_KMEMLEAK, CONFIG_PREEMPT_RT))) {
            check!(closed > n / 4 / 2 && most > 0)?;
        }
        check!(most <= CALLBACK_SHEAVES)
    }

    /// All objects and sheaves of a CPU are freed without further calls.
    #[test]
    fn everything_is_freed() -> Result {
        let _restore = params::quick_drain()?;
        for nth in 1..6 {
            let cache = SheafCache::new(c"rcu_ptr_stay", SIZE, sheaves(4, 8))?;
            // One of the allocations for a full sheaf fails.
            fault::fail_alloc(nth, 1);
            let object = cache.hold();
            fault::fail_alloc(0, 0);
            let _ = object.map(Held::free);
            check!(bound::within(5 * params::QUICK_DRAIN_MSECS, || {
                let stats = cache.stats();
                held_by_cpus(&stats) == 0 && stats.now_sheaves == 0 && all_back(&stats)
            }))?;
        }
        Ok(())
    }

    /// The grace period of an object starts one drain interval after the free, not two.
    #[test]
    fn slow_sheaf_waits_one_interval() -> Result {
        let (_restore, msecs) = params::slow_drain()?;
        let cache = SheafCache::new(c"rcu_ptr_slow", SIZE, Args::default())?;
        let object = cache.hold()?;
        let before = thread::now();
        drop(object);
        let came = cache.stats().now_rcu;
        let gone = bound::wait_with_timeout(|| cache.stats().now_rcu == 0);
        let took = (thread::now() - before) / 1_000_000;
        pr_info!("sheaf_bounds: closed after {took} ms\n");
        check!(came == 1 && gone)?;
        check!(took < i64::from(msecs) * 7 / 4)
    }

    /// A monitor and a reaper that are armed for ten minutes apply a shorter interval without
    /// further calls; and a longer one.
    #[test]
    fn shorter_interval() -> Result {
        let cache = SheafCache::new(c"rcu_ptr_shorter", SIZE, Args::default())?;
        let free_one = || cpus::on(cpus::first(), || cache.alloc_then_free(1))?;
        let long = params::no_drain()?;
        free_one()?;
        // Moves the object to the barn, which arms its reaper.
        core::barrier();
        free_one()?;
        // Until the tick has armed the monitor.
        thread::sleep(100);
        let came = cache.stats().now_rcu;
        let quick = params::quick_drain()?;
        let gone = bound::within(params::QUICK_DRAIN_MSECS, || cache.waiting() == 0);
        let back = bound::within(5 * params::QUICK_DRAIN_MSECS, || all_back(&cache.stats()));
        // One more call, which arms by the short interval.
        free_one()?;
        let long_again = params::no_drain()?;
        free_one()?;
        let waits = cache.stats().now_rcu;
        thread::sleep(5 * params::QUICK_DRAIN_MSECS);
        let stayed = cache.stats().now_rcu == waits;
        drop((long, quick, long_again));
        check!(came == 1 && gone && back)?;
        check!(waits > 0 && stayed)
    }

    /// Memory reclaim frees the objects and sheaves of CPUs.
    #[test]
    fn shrinker_reaches_cpus() -> Result {
        let _restore = params::no_drain()?;
        let cache = SheafCache::new(c"rcu_ptr_reach", SIZE, Args::default())?;
        let body = |_: i32| (0..100).for_each(|_| drop(cache.hold()));
        thread::on_cpus(cpu::online(), &body, || ())?;
        let had = held_by_cpus(&cache.stats());
        let mut result = Ok(());
        let back = bound::soon(|| {
            result = params::shrink();
            let stats = cache.stats();
            result.is_err() || held_by_cpus(&stats) == 0 && all_back(&stats)
        });
        result?;
        check!(had > 0 && back)
    }

    #[test]
    fn freed_twice_after_a_grace_period() -> Result {
        let cache = SheafCache::new(c"rcu_ptr_twice", SIZE, Args::default())?;
        let object = free_rcu_twice(&cache)?;
        is_allocated_once(&cache, object)
    }

    #[test]
    fn freed_twice_at_once() -> Result {
        let cache = SheafCache::new(c"rcu_ptr_twice", SIZE, Args::default())?;
        let object = free_twice(&cache)?;
        is_allocated_once(&cache, object)
    }
}
