// SPDX-License-Identifier: GPL-2.0

//! Memory that is not there: each allocation of a cache in turn fails, then all from each on. What
//! can fail says so, what can't fail doesn't, and no object is lost: a cache that ends with one
//! missing warns.

use super::sheaf_calls::{sheaves, stats_match};
use crate::{
    bound, by_length, cpus, params, scaled, storm,
    sys::{
        cache::{Args, ObjectFn, SheafCache},
        core, cpu, fault, thread,
    },
    table::{Alloc, Table, Violations, DESTRUCTOR, SIZE},
    SLOW,
};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// All from the first failure on.
const ALWAYS: u64 = u64::MAX;

/// Allocations fail until it is dropped.
struct Failing(());

impl Failing {
    /// The `nth` from now on, and as many as `times` in all.
    fn from(nth: u64, times: u64) -> Self {
        fault::fail_alloc(nth, times);
        Self(())
    }

    /// Ends it. Whether the first failure has come.
    fn end(self) -> bool {
        self.left() == 0
    }

    /// Ends it. Returns how many allocations the first failure was still away.
    fn left(self) -> u64 {
        fault::fail_alloc(0, 0)
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        fault::fail_alloc(0, 0);
    }
}

/// Everything that a cache does, with objects that tell what goes wrong.
fn life(table: &Table<'_>) -> Violations {
    for i in 0..60 {
        let how = [Alloc::Sleep, Alloc::Atomic, Alloc::Nolock][i % 3];
        table.replace(i * 7, how);
        table.alloc_and_free(how);
        cpu::irqs_off(|| {
            table.replace(i * 5, Alloc::Nolock);
            table.alloc_and_free(Alloc::Nolock);
        });
        table.check(i);
        if i % 30 == 7 {
            table.clear(i);
            core::barrier();
        }
    }
    table.violations()
}

/// Lives with one allocation after the other failing, `times` from there, until all have failed.
fn lives(what: &str, times: u64, dtor: Option<ObjectFn>) -> Result {
    // Where everything is slow, or in the short form, not all of them.
    for nth in (1..2000).step_by(if SLOW { 11 } else { by_length(3, 1) }) {
        let args = Args {
            dtor,
            ..sheaves(3, 8)
        };
        let cache = SheafCache::new(c"rcu_ptr_fail_life", SIZE, args)?;
        let table = if dtor.is_some() {
            Table::with_destructor(&cache, 20)?
        } else {
            Table::new(&cache, 20)?
        };
        let sheaves = cache.stats().now_sheaves;
        let failing = Failing::from(nth, times);
        let wrong = life(&table);
        let stats = cache.stats();
        let left = failing.left();
        check!(wrong == Violations::default());
        check!(dtor.is_none() || table.dtor_imbalance() == 0);
        drop(table);
        if left > 0 {
            // This life had all of its allocations. One brings a sheaf, or what three of its slots
            // hold; all places of the table had an object.
            let n = nth - left;
            report(what, n);
            let brought = stats.slab_allocs.div_ceil(3);
            check!(stats.slab_allocs >= 20);
            check!(n >= brought + stats.now_sheaves.saturating_sub(sheaves) && n > 20);
            return Ok(());
        }
        thread::still_alive();
    }
    Err(E2BIG)
}

fn report(what: &str, n: u64) {
    kernel::kunit::info(fmt!(
        "rcu_ptr_sheaf_fail: {what}: {n} allocations failed in turn\n"
    ));
}

/// An object goes to the engine beside a reader that stays for a while: a barrier of its cache does
/// not return before the reader is gone.
fn barrier_behind_the_engine(other: i32) -> Result {
    let cache = SheafCache::new(c"rcu_ptr_fail_barrier", SIZE, sheaves(3, 8))?;
    let mut object = Some(cache.hold()?);
    params::shrink()?;
    let (inside, gone) = (Atomic::<i32>::new(0), Atomic::<i32>::new(0));
    let read = |_cpu: i32| {
        let guard = kernel::sync::rcu::read_lock();
        inside.store(1, Relaxed);
        cpus::spin(100_000_000, || false);
        gone.store(1, Relaxed);
        drop(guard);
    };
    let mut early = false;
    thread::on_cpus(::core::iter::once(other), &read, || {
        bound::wait_with_timeout(|| inside.load(Relaxed) != 0);
        let failing = Failing::from(1, ALWAYS);
        drop(object.take());
        drop(failing);
        cache.barrier();
        early = gone.load(Relaxed) == 0;
    })?;
    check!(!early);
    Ok(())
}

#[kunit_tests(rcu_ptr_sheaf_fail)]
mod tests {
    use super::*;

    #[test]
    fn create() -> Result {
        for nth in 1..100 {
            let failing = Failing::from(nth, 1);
            let cache = SheafCache::new(c"rcu_ptr_fail_new", SIZE, Args::default());
            let came = failing.end();
            let error = cache.as_ref().err().copied();
            drop(cache);
            if came {
                check!(error == Some(ENOMEM));
            } else {
                // The list of caches, the cache, its name, its kmem_cache, its CPUs, its barns.
                check!(error.is_none() && nth > 6);
                report("create", nth - 1);
                return Ok(());
            }
        }
        Err(E2BIG)
    }

    #[test]
    fn prefill() -> Result {
        for nth in 1..100 {
            let cache = SheafCache::new(c"rcu_ptr_fail_prefill", SIZE, sheaves(3, 8))?;
            let failing = Failing::from(nth, 1);
            let result = cache.prefill(30);
            let came = failing.end();
            check!(cache.hold().is_ok());
            if came {
                check!(result == Err(ENOMEM));
            } else {
                // A larger ring, and its objects.
                check!(result.is_ok() && nth > 3);
                report("prefill", nth - 1);
                return Ok(());
            }
        }
        Err(E2BIG)
    }

    #[test]
    fn each_once() -> Result {
        lives("a life", 1, None)
    }

    /// Objects that find no sheaf are destructed as well.
    #[test]
    fn each_once_destructed() -> Result {
        lives("a life with a destructor", 1, DESTRUCTOR)?;
        lives("the same, and all after it", ALWAYS, DESTRUCTOR)
    }

    #[test]
    fn all_from_each_on() -> Result {
        lives("a life, and all after it", ALWAYS, None)
    }

    /// The engine has what finds no sheaf: a cache's own barrier waits for that as well.
    #[test]
    fn barrier_waits_for_the_engine() -> Result {
        let other = other_cpu!();
        (0..3).try_for_each(|_| barrier_behind_the_engine(other))
    }

    /// What was allocated is taken, whatever the slab has: the engine has room in the objects.
    #[test]
    fn free_rcu_never_fails() -> Result {
        let cache = SheafCache::new(c"rcu_ptr_fail_free", SIZE, sheaves(3, 8))?;
        let mut held = cache.hold_many(300)?;
        // Nor may there be empty sheaves.
        params::shrink()?;
        let failing = Failing::from(1, ALWAYS);
        while let Some(object) = held.pop() {
            if held.len() % 2 == 0 {
                drop(object);
            } else {
                cpu::irqs_off(|| drop(object));
            }
        }
        drop(failing);
        let engine_helped = stats_match!("rcu_ptr_fail_free", " free_rcu_sheaf_fail=[1-9]");
        // With kmemleak a sheaf is never made here either way.
        check!(engine_helped);
        Ok(())
    }

    #[test]
    fn nothing_at_all() -> Result {
        let cache = SheafCache::new(c"rcu_ptr_fail_all", SIZE, sheaves(3, 8))?;
        let failing = Failing::from(1, ALWAYS);
        let objects = [cache.alloc(false), cache.alloc(true), cache.alloc_nolock()];
        let prefilled = cache.prefill(1);
        drop(failing);
        check!(objects == [None; 3] && prefilled == Err(ENOMEM));
        check!(cache.hold().is_ok());
        Ok(())
    }

    /// The worker finds nothing a few times, and is asked again.
    #[test]
    fn worker_tries_again() -> Result {
        let args = Args {
            align: 64,
            ..sheaves(3, 8)
        };
        let cache = SheafCache::new(c"rcu_ptr_fail_work", SIZE, args)?;
        let failing = Failing::from(1, 5);
        let at_first = cache.hold_nolock().is_some();
        // Two failures end a run of the worker, and the next look asks for another.
        let in_time = bound::within_times(3, 0, || cache.hold_nolock().is_some());
        let came = failing.end();
        check!(!at_first && came && in_time);
        Ok(())
    }

    /// A refill that failed is tried again after the drain interval; at once if an allocation asks
    /// for it.
    #[test]
    fn refill_does_not_wait_for_its_retry() -> Result {
        let args = Args {
            align: 64,
            ..sheaves(3, 8)
        };
        let (_restore, interval) = params::slow_drain()?;
        let cache = SheafCache::new(c"rcu_ptr_fail_retry", SIZE, args)?;
        cache.prefill(6)?;
        let failing = Failing::from(1, ALWAYS);
        let mut objects = KVec::with_capacity(64, GFP_KERNEL)?;
        for object in (0..64).map_while(|_| cache.hold_nolock()) {
            objects.push(object, GFP_KERNEL)?;
        }
        // The worker finds no memory meanwhile, and is queued for later.
        thread::sleep(200);
        let came = failing.end();
        let again = thread::wait_for(interval / 2, || cache.hold_nolock().is_some());
        check!(came && again);
        Ok(())
    }

    /// NMIs and tasks of all CPUs use one cache while a few allocations after each other fail.
    #[test]
    fn in_nmi() -> Result {
        let nmi_source = or_skip!(storm::strongest(), c"no source of NMIs");
        let cache = SheafCache::new(c"rcu_ptr_fail_nmi", SIZE, sheaves(3, 8))?;
        let table = Table::new(&cache, 50)?;
        let (nmis, failures) = (Atomic::<u64>::new(0), Atomic::<u64>::new(0));
        let nmi = || {
            let n = nmis.fetch_add(1, Relaxed);
            let came = fault::fail_alloc(1 + n % 4, 1 + n % 7) == 0;
            failures.fetch_add(u64::from(came), Relaxed);
            for i in 0..4 {
                table.replace(n as usize * 7 + i, Alloc::Nolock);
            }
            table.alloc_and_free(Alloc::Nolock);
            table.check(n as usize);
        };
        let task = |cpu: i32| {
            for i in 0..scaled(10_000) {
                let i = i * 13 + cpu as usize * 31;
                table.replace(i, [Alloc::Sleep, Alloc::Atomic][i % 2]);
                table.alloc_and_free(Alloc::Sleep);
                table.check(i + 3);
                if i % 64 == 0 {
                    thread::still_alive();
                }
            }
        };
        let result = table.under_readers(|| {
            storm::during(nmi_source, &nmi, None, || {
                thread::on_cpus(cpu::online(), &task, || ())
            })
        });
        fault::fail_alloc(0, 0);
        result???;
        let (nmis, failures) = (nmis.load(Relaxed), failures.load(Relaxed));
        kernel::kunit::info(fmt!(
            "rcu_ptr_sheaf_fail: {nmis} NMIs, {failures} times allocations failed\n"
        ));
        check!(table.violations() == Violations::default());
        check!(nmis > 20 && failures > 5);
        Ok(())
    }
}
