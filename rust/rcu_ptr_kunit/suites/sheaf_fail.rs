// SPDX-License-Identifier: GPL-2.0

//! Failing allocations: each allocation of a cache fails in turn, then all from that one on.
//! Functions that can fail return errors, others succeed, and no object is lost: the destruction of
//! a cache reports missing objects.

use crate::{prelude::*, reader, storm, sys::cache::ObjectFn, table::DESTRUCTOR};

/// The number of failures: all from the first one on.
const ALWAYS: u64 = u64::MAX;

/// Makes allocations fail until it is dropped.
struct Failing(());

impl Failing {
    /// Makes `times` allocations fail, from the `nth` on.
    fn from(nth: u64, times: u64) -> Self {
        fault::fail_alloc(nth, times);
        Self(())
    }

    /// Ends the failures. Returns whether one has happened.
    fn end(self) -> bool {
        self.left() == 0
    }

    /// Ends the failures. Returns how many allocations the first failure was still away.
    fn left(self) -> u64 {
        fault::fail_alloc(0, 0)
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        fault::fail_alloc(0, 0);
    }
}

/// Uses all functions of a cache. Returns the errors.
fn exercise(table: &Table<'_>) -> Violations {
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

/// Runs [`exercise()`] with each allocation failing in turn, `times` from there, until all have
/// failed.
fn exercise_failing(what: &str, times: u64, dtor: Option<ObjectFn>) -> Result {
    // On slow kernels, or in the short form, only some of them.
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
        let wrong = exercise(&table);
        let stats = cache.stats();
        let left = failing.left();
        check!(wrong == Violations::default())?;
        check!(dtor.is_none() || table.dtor_imbalance() == 0)?;
        drop(table);
        if left > 0 {
            // No allocation has failed in this run. Each was for a sheaf, or for the objects of a
            // sheaf of three; all slots of the table had an object.
            let n = nth - left;
            report(what, n);
            let brought = stats.slab_allocs.div_ceil(3);
            check!(stats.slab_allocs >= 20)?;
            return check!(n >= brought + stats.now_sheaves.saturating_sub(sheaves) && n > 20);
        }
        thread::still_alive();
    }
    Err(E2BIG)
}

fn report(what: &str, n: u64) {
    pr_info!("sheaf_fail: {what}: {n} allocations failed in turn\n");
}

/// An object goes to the engine beside a long reader: the barrier of its cache waits for the
/// reader.
fn barrier_behind_the_engine() -> Result {
    let cache = SheafCache::new(c"rcu_ptr_fail_barrier", SIZE, sheaves(3, 8))?;
    let mut object = Some(cache.hold()?);
    params::shrink()?;
    let mut inside = usize::MAX;
    reader::watch_any(1, &|| 0, |readers| {
        readers.leave_in(100);
        let failing = Failing::from(1, ALWAYS);
        drop(object.take());
        drop(failing);
        cache.barrier();
        inside = readers.inside();
    })?;
    check!(inside == 0)
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
                check!(error == Some(ENOMEM))?;
            } else {
                // Allocations: list of caches, cache, name, kmem_cache, per-CPU data, barns.
                check!(error.is_none() && nth > 6)?;
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
            check!(cache.hold().is_ok())?;
            if came {
                check!(result == Err(ENOMEM))?;
            } else {
                // Allocations: a larger ring, and its objects.
                check!(result.is_ok() && nth > 3)?;
                report("prefill", nth - 1);
                return Ok(());
            }
        }
        Err(E2BIG)
    }

    #[test]
    fn each_once() -> Result {
        exercise_failing("a life", 1, None)
    }

    /// Objects without a sheaf are destructed as well.
    #[test]
    fn each_once_destructed() -> Result {
        exercise_failing("a life with a destructor", 1, DESTRUCTOR)?;
        exercise_failing("the same, and all after it", ALWAYS, DESTRUCTOR)
    }

    #[test]
    fn all_from_each_on() -> Result {
        exercise_failing("a life, and all after it", ALWAYS, None)
    }

    /// Objects without a sheaf go to the engine: the barrier of the cache waits for them as well.
    #[test]
    fn barrier_waits_for_the_engine() -> Result {
        (0..3).try_for_each(|_| barrier_behind_the_engine())
    }

    /// Frees never fail: the engine can link the objects.
    #[test]
    fn free_rcu_never_fails() -> Result {
        let cache = SheafCache::new(c"rcu_ptr_fail_free", SIZE, sheaves(3, 8))?;
        let mut held = cache.hold_many(300)?;
        // Frees empty sheaves.
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
        // With kmemleak sheaves are never allocated here.
        check!(cache.stats().engine_fallback > 0)
    }

    #[test]
    fn no_memory_at_all() -> Result {
        let cache = SheafCache::new(c"rcu_ptr_fail_all", SIZE, sheaves(3, 8))?;
        let failing = Failing::from(1, ALWAYS);
        let objects = [cache.alloc(false), cache.alloc(true), cache.alloc_nolock()];
        let prefilled = cache.prefill(1);
        drop(failing);
        check!(objects == [None; 3] && prefilled == Err(ENOMEM))?;
        check!(cache.hold().is_ok())
    }

    /// The worker fails a few times, and is queued again.
    #[test]
    fn worker_tries_again() -> Result {
        let args = Args {
            align: 64,
            ..sheaves(3, 8)
        };
        let cache = SheafCache::new(c"rcu_ptr_fail_work", SIZE, args)?;
        let failing = Failing::from(1, 5);
        let at_first = cache.hold_nolock().is_some();
        // Two failures end a run of the worker, and the next allocation queues another.
        let in_time = bound::within_times(3, 0, || cache.hold_nolock().is_some());
        let came = failing.end();
        check!(!at_first && came && in_time)
    }

    /// A failed refill is retried after the drain interval, or at once if an allocation fails.
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
        // Meanwhile the worker fails, and is delayed.
        thread::sleep(200);
        let came = failing.end();
        let again = thread::wait_for(interval / 2, || cache.hold_nolock().is_some());
        check!(came && again)
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
            cpus::repeat(0..scaled(10_000), |i| {
                let i = i * 13 + cpu as usize * 31;
                table.replace(i, [Alloc::Sleep, Alloc::Atomic][i % 2]);
                table.alloc_and_free(Alloc::Sleep);
                table.check(i + 3);
            });
        };
        let result = table.under_readers(|| {
            storm::during(nmi_source, &nmi, None, || {
                thread::on_cpus(cpu::online(), &task, || ())
            })
        });
        fault::fail_alloc(0, 0);
        result???;
        let (nmis, failures) = (nmis.load(Relaxed), failures.load(Relaxed));
        pr_info!("sheaf_fail: {nmis} NMIs, {failures} times allocations failed\n");
        check!(table.violations() == Violations::default())?;
        check!(nmis > 20 && failures > 5)
    }
}
