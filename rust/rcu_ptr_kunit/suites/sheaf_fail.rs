// SPDX-License-Identifier: GPL-2.0

//! Memory that is not there: each allocation of a cache in turn fails, then all from each on. What
//! can fail says so, what can't fail doesn't, and no object is lost: a cache that ends with one
//! missing warns.

use super::sheaf_calls::stats_match;
use crate::{
    bound, by_length, params, scaled, storm,
    sys::{
        cache::{Args, ObjectFn, SheafCache},
        core, cpu, fault, thread,
    },
    table::{Alloc, Table, Wrong, DESTRUCTOR, SIZE},
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
        fault::fail_alloc(0, 0) == 0
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        fault::fail_alloc(0, 0);
    }
}

fn small() -> Args {
    Args {
        sheaf_capacity: 3,
        barn_limit: 8,
        ..Args::default()
    }
}

/// Everything that a cache does, with objects that tell what goes wrong.
fn life(table: &Table<'_>) -> Wrong {
    for i in 0..60 {
        let how = match i % 3 {
            0 => Alloc::Sleep,
            1 => Alloc::Atomic,
            _ => Alloc::Nolock,
        };
        table.replace(i * 7, how);
        table.touch(how);
        cpu::irqs_off(|| {
            table.replace(i * 5, Alloc::Nolock);
            table.touch(Alloc::Nolock);
        });
        table.look(i);
        if i % 30 == 7 {
            table.clear(i);
            core::barrier();
        }
    }
    table.wrong()
}

/// Lives with one allocation after the other failing, `times` from there: how many there are.
fn lives(times: u64, dtor: Option<ObjectFn>) -> Result<(u64, Wrong)> {
    let mut sum = Wrong::default();
    // Where everything is slow, or in the short form, not all of them.
    for nth in (1..2000).step_by(if SLOW { 11 } else { by_length(3, 1) }) {
        let args = Args { dtor, ..small() };
        let cache = SheafCache::new(c"rcu_ptr_fail_life", SIZE, args)?;
        let table = if dtor.is_some() {
            Table::with_destructor(&cache, 20)?
        } else {
            Table::new(&cache, 20)?
        };
        let failing = Failing::from(nth, times);
        let wrong = life(&table);
        let came = failing.end();
        if dtor.is_some() && table.unbalanced() != 0 {
            sum.not_destructed += 1;
        }
        drop(table);
        drop(cache);
        sum.given_twice += wrong.given_twice;
        sum.lost += wrong.lost;
        sum.reused_early += wrong.reused_early;
        sum.not_destructed += wrong.not_destructed;
        sum.destructed_wrongly += wrong.destructed_wrongly;
        if !came {
            return Ok((nth - 1, sum));
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

/// NMIs and tasks of all CPUs use one cache while a few allocations after each other fail.
/// `None`: there is no source of NMIs.
fn fails_in_nmi(rounds: usize) -> Result<Option<(Wrong, u64, u64)>> {
    let Some(nmi_source) = storm::strongest() else {
        return Ok(None);
    };
    let cache = SheafCache::new(c"rcu_ptr_fail_nmi", SIZE, small())?;
    let table = Table::new(&cache, 50)?;
    let (nmis, failures) = (Atomic::<u64>::new(0), Atomic::<u64>::new(0));
    let nmi = || {
        let n = nmis.fetch_add(1, Relaxed);
        let came = fault::fail_alloc(1 + n % 4, 1 + n % 7) == 0;
        failures.fetch_add(u64::from(came), Relaxed);
        for i in 0..4 {
            table.replace(n as usize * 7 + i, Alloc::Nolock);
        }
        table.touch(Alloc::Nolock);
        table.look(n as usize);
    };
    let task = |cpu: i32| {
        for i in 0..rounds {
            let i = i * 13 + cpu as usize * 31;
            table.replace(
                i,
                if i % 2 == 0 {
                    Alloc::Sleep
                } else {
                    Alloc::Atomic
                },
            );
            table.touch(Alloc::Sleep);
            table.look(i + 3);
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
    let wrong = table.wrong();
    Ok(Some((wrong, nmis.load(Relaxed), failures.load(Relaxed))))
}

/// An object goes to the engine beside a reader that stays for a while. Returns whether a barrier of its cache
/// returned before the reader was gone.
fn left_by_barrier(other: i32) -> Result<bool> {
    let cache = SheafCache::new(c"rcu_ptr_fail_barrier", SIZE, small())?;
    let object = cache.alloc(false).ok_or(ENOMEM)?;
    crate::params::shrink()?;
    let (inside, gone) = (Atomic::<i32>::new(0), Atomic::<i32>::new(0));
    let read = |_cpu: i32| {
        let guard = kernel::sync::rcu::read_lock();
        inside.store(1, Relaxed);
        let end = thread::now() + 100_000_000;
        while thread::now() < end {
            ::core::hint::spin_loop();
        }
        gone.store(1, Relaxed);
        drop(guard);
    };
    let mut early = false;
    thread::on_cpus(::core::iter::once(other), &read, || {
        bound::watchdog(|| inside.load(Relaxed) != 0);
        let failing = Failing::from(1, ALWAYS);
        // SAFETY: From this cache, given back once.
        unsafe { cache.free_rcu(object) };
        drop(failing);
        cache.barrier();
        early = gone.load(Relaxed) == 0;
    })?;
    Ok(early)
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
            let cache = SheafCache::new(c"rcu_ptr_fail_prefill", SIZE, small())?;
            let failing = Failing::from(nth, 1);
            let result = cache.prefill(30);
            let came = failing.end();
            let object = cache.alloc(false);
            if let Some(object) = object {
                // SAFETY: From this cache, the caller's.
                unsafe { cache.free_rcu(object) };
            }
            drop(cache);
            check!(object.is_some());
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
        let (n, wrong) = lives(1, None)?;
        report("a life", n);
        check!(wrong == Wrong::default() && n > 20);
        Ok(())
    }

    /// Objects that find no sheaf are destructed as well.
    #[test]
    fn each_once_destructed() -> Result {
        let (n, wrong) = lives(1, DESTRUCTOR)?;
        report("a life with a destructor", n);
        check!(wrong == Wrong::default() && n > 20);
        let (n, wrong) = lives(ALWAYS, DESTRUCTOR)?;
        check!(wrong == Wrong::default() && n > 10);
        Ok(())
    }

    #[test]
    fn all_from_each_on() -> Result {
        let (n, wrong) = lives(ALWAYS, None)?;
        report("a life, and all after it", n);
        check!(wrong == Wrong::default() && n > 10);
        Ok(())
    }

    /// The engine has what finds no sheaf: a cache's own barrier waits for that as well.
    #[test]
    fn barrier_waits_for_the_engine() -> Result {
        let other = or_skip!(cpu::other(), c"needs two CPUs");
        for _ in 0..3 {
            check!(!left_by_barrier(other)?);
        }
        Ok(())
    }

    /// What was allocated is taken, whatever the slab has: the engine has room in the objects.
    #[test]
    fn free_rcu_never_fails() -> Result {
        let cache = SheafCache::new(c"rcu_ptr_fail_free", SIZE, small())?;
        let held = cache.alloc_many(300)?;
        // Nor may there be empty sheaves.
        crate::params::shrink()?;
        let failing = Failing::from(1, ALWAYS);
        for (i, &object) in held.iter().enumerate() {
            let free = || {
                // SAFETY: From this cache, given back once.
                unsafe { cache.free_rcu(object) }
            };
            if i % 2 == 0 {
                free();
            } else {
                cpu::irqs_off(free);
            }
        }
        drop(failing);
        let engine_helped = stats_match!("rcu_ptr_fail_free", " free_rcu_sheaf_fail=[1-9]");
        core::barrier();
        drop(cache);
        // With kmemleak a sheaf is never made here either way.
        check!(engine_helped);
        Ok(())
    }

    #[test]
    fn nothing_at_all() -> Result {
        let cache = SheafCache::new(c"rcu_ptr_fail_all", SIZE, small())?;
        let failing = Failing::from(1, ALWAYS);
        let objects = [cache.alloc(false), cache.alloc(true), cache.alloc_nolock()];
        let prefilled = cache.prefill(1);
        drop(failing);
        let none = objects.iter().all(|object| object.is_none());
        let later = cache.alloc(false);
        let all = [objects[0], objects[1], objects[2], later];
        for object in all.into_iter().flatten() {
            // SAFETY: From this cache, the caller's.
            unsafe { cache.free(object) };
        }
        check!(none && prefilled == Err(ENOMEM) && later.is_some());
        Ok(())
    }

    /// The worker finds nothing a few times, and is asked again.
    #[test]
    fn worker_tries_again() -> Result {
        let args = Args {
            align: 64,
            ..small()
        };
        let cache = SheafCache::new(c"rcu_ptr_fail_work", SIZE, args)?;
        let failing = Failing::from(1, 5);
        let mut object = cache.alloc_nolock();
        let at_first = object.is_some();
        // Two failures end a run of the worker, and the next look asks for another.
        let in_time = bound::times(3, 0, || {
            object = object.or_else(|| cache.alloc_nolock());
            object.is_some()
        });
        let came = failing.end();
        if let Some(object) = object {
            // SAFETY: From this cache, the caller's.
            unsafe { cache.free(object) };
        }
        check!(!at_first && came && in_time);
        Ok(())
    }

    /// A refill that failed is tried again after the drain interval; at once if an allocation asks for it.
    #[test]
    fn refill_does_not_wait_for_its_retry() -> Result {
        let args = Args {
            align: 64,
            ..small()
        };
        let (defaults, interval) = params::slow_drain()?;
        let cache = SheafCache::new(c"rcu_ptr_fail_retry", SIZE, args)?;
        cache.prefill(6)?;
        let failing = Failing::from(1, ALWAYS);
        let mut objects = KVec::with_capacity(64, GFP_KERNEL)?;
        while objects.len() < 64 {
            let Some(object) = cache.alloc_nolock() else {
                break;
            };
            objects.push(object, GFP_KERNEL)?;
        }
        // The worker finds no memory meanwhile, and is queued for later.
        thread::sleep(200);
        let came = failing.end();
        let again = thread::wait_for(interval / 2, || match cache.alloc_nolock() {
            Some(object) => objects.push_within_capacity(object).is_ok(),
            None => false,
        });
        for &object in objects.iter() {
            // SAFETY: From this cache, the caller's.
            unsafe { cache.free(object) };
        }
        drop(cache);
        drop(defaults);
        check!(came && again);
        Ok(())
    }

    #[test]
    fn in_nmi() -> Result {
        let (wrong, nmis, failures) = or_skip!(fails_in_nmi(scaled(10_000))?, c"no source of NMIs");
        kernel::kunit::info(fmt!(
            "rcu_ptr_sheaf_fail: {nmis} NMIs, {failures} times allocations failed\n"
        ));
        check!(wrong == Wrong::default());
        check!(nmis > 20 && failures > 5);
        Ok(())
    }
}
