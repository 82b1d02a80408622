// SPDX-License-Identifier: GPL-2.0

//! Limits of a cache: the memory that waits for grace periods is limited, and all limits may be
//! changed while the cache is in use.

use super::sheaf_memory::nr_barns;
use crate::{
    check::CHECKED,
    prelude::*,
    sys::{
        cache::Limits,
        srcu_domain::{Domain, Kind},
    },
};

/// The size of an object with its link.
const FULL_SIZE: u64 = SIZE as u64 + 8;

/// Bytes that may wait beyond a limit: a sheaf of each kind per CPU.
fn slack(capacity: u64) -> u64 {
    2 * capacity * FULL_SIZE * cpu::online().count() as u64
}

fn limited(bytes: u64) -> Args {
    Args {
        wait_limit: bytes as c_ulong,
        // Without objects of kmalloc_nolock().
        ..cache::own_memory()
    }
}

/// Allocates by `alloc`, and frees, until that fails, at most `n` times. Returns how often it
/// succeeded, and the most bytes that waited.
fn alloc_until_failure<'a>(
    cache: &'a SheafCache,
    n: usize,
    mut alloc: impl FnMut() -> Option<Held<'a>>,
) -> (usize, u64) {
    let mut most = 0;
    for i in 0..n {
        let Some(object) = alloc() else {
            return (i, most);
        };
        drop(object);
        most = most.max(cache.stats().now_waiting_bytes);
    }
    (n, most)
}

#[kunit_tests(rcu_ptr_sheaf_limits)]
mod tests {
    use super::*;

    /// While this task is a reader allocations fail at the limit; they succeed when the grace
    /// period is over. Frees never fail.
    #[test]
    fn waiting_bytes() -> Result {
        // With checks there is no stock, so allocations may fail for other reasons.
        skip_if!(!alloc::objects_are_recycled(), CHECKED);
        for limit in [100_000, 1_000_000] {
            let cache = SheafCache::new(c"rcu_ptr_wait", SIZE, limited(limit))?;
            // More objects in stock than the limit allows to wait.
            cache.alloc_then_free((3 * limit / FULL_SIZE) as usize)?;
            cache.barrier();
            let met = cache.stats().wait_limit_met;
            let guard = rcu::read_lock();
            let (n, most) = alloc_until_failure(&cache, 3 * limit as usize, || cache.hold_nolock());
            let refused = cache.hold_nolock().is_none();
            drop(guard);
            let stats = cache.stats();
            pr_info!("sheaf_limits: of {limit} bytes at most {most} waited, after {n} objects\n");
            // Without a barrier.
            let came = bound::soon(|| cache.hold_nolock().is_some());
            check!(refused && stats.wait_limit_met >= met + 2)?;
            check!(most <= limit + slack(56) && n as u64 * FULL_SIZE + slack(56) >= limit / 2)?;
            check!(came)?;
        }
        Ok(())
    }

    /// At the limit an allocation that may sleep waits for a grace period, one with __GFP_NOFAIL
    /// succeeds, and prefilled objects are available.
    #[test]
    fn callers_that_may_sleep() -> Result {
        const LIMIT: u64 = 40_000;
        let cache = SheafCache::new(c"rcu_ptr_wait", SIZE, limited(LIMIT))?;
        // The reserve belongs to this node.
        thread::stay_here();
        cache.prefill(20)?;
        let mut most = 0;
        for _ in 0..scaled(30_000) {
            drop(cache.hold_with(cache::GFP_NOFAIL).ok_or(ENOMEM)?);
            most = most.max(cache.stats().now_waiting_bytes);
        }
        let met = cache.stats().wait_limit_met;
        // On a busy machine a late callback costs a failure; without the wait nearly all would
        // fail.
        let (mut refused, mut bytes, before) = (0, 0, met);
        for _ in 0..scaled(30_000) {
            refused += u64::from(cache.hold().is_err());
            bytes = bytes.max(cache.stats().now_waiting_bytes);
        }
        let waits = cache.stats().wait_limit_met - before;
        let mut reserved = 0;
        let mut held = cache.hold_many((2 * LIMIT / FULL_SIZE) as usize)?;
        let guard = rcu::read_lock();
        // The waiting memory stays above the limit while this task is a reader.
        held.clear();
        let (taken, _) = alloc_until_failure(&cache, 10_000, || {
            let before = cache.stats().wait_limit_met;
            let object = cache.hold_nolock();
            reserved += usize::from(object.is_some() && cache.stats().wait_limit_met != before);
            object
        });
        drop(guard);
        pr_info!(
            "sheaf_limits: met {met} times, {most} and {bytes} bytes waited, {reserved} objects \
             reserved, {refused} of {waits} refused\n"
        );
        check!(waits > 0 && 4 * refused <= waits && bytes <= LIMIT + slack(56))?;
        // Without stock the reserve may be empty before the limit is met.
        check!(met > 0 && taken >= 20)?;
        check!(reserved >= 20 || !alloc::objects_are_recycled())
    }

    /// At the limit an allocation that may sleep does not use the reserve, which does not grow
    /// either: the prefilled objects are available to others.
    #[test]
    fn prefilled_for_others() -> Result {
        const PROMISED: usize = 20;
        let domain = Domain::new(Kind::Plain)?;
        let args = Args {
            srcu: domain.raw(),
            ..limited(40_000)
        };
        let cache = SheafCache::new(c"rcu_ptr_wait", SIZE, args)?;
        // The reserve belongs to this node.
        thread::stay_here();
        cache.prefill(PROMISED)?;
        let mut held = cache.hold_many(1000)?;
        let (before, sleepers, stats, others) = domain.read(|| {
            held.clear();
            let before = cache.stats();
            // Uses up the current sheaf first.
            let (n, _) = alloc_until_failure(&cache, 200, || cache.hold().ok());
            (0..5).for_each(|_| drop(cache.hold()));
            let stats = cache.stats();
            let (others, _) =
                cpu::irqs_off(|| alloc_until_failure(&cache, 1001, || cache.hold_nolock()));
            (before, n, stats, others)
        });
        pr_info!(
            "sheaf_limits: reserve {} and {}, {sleepers} for sleepers, {others} for others, met \
             {} times\n",
            before.reserve,
            stats.reserve,
            stats.wait_limit_met
        );
        check!(stats.wait_limit_met >= 6 && sleepers < 112)?;
        check!(stats.reserve == before.reserve && stats.reserve >= PROMISED as u64)?;
        check!((PROMISED..=1000).contains(&others))
    }

    /// Objects without a sheaf count towards the limit.
    #[test]
    fn without_a_sheaf() -> Result {
        let domain = Domain::new(Kind::Plain)?;
        let args = Args {
            srcu: domain.raw(),
            ..cache::own_memory()
        };
        let cache = SheafCache::new(c"rcu_ptr_wait", SIZE, args)?;
        let mut held = cache.hold_many(1000)?;
        let stats = domain.read(|| {
            fault::fail_alloc(1, u64::MAX);
            cpu::irqs_off(|| held.clear());
            fault::fail_alloc(0, 0);
            cache.stats()
        });
        check!(stats.engine_fallback > 500)?;
        check!(stats.now_waiting_bytes >= stats.engine_fallback * FULL_SIZE)
    }

    /// Objects that are freed without a grace period don't count, and are available at the limit:
    /// all of them.
    #[test]
    fn freed_at_once() -> Result {
        let cache = SheafCache::new(c"rcu_ptr_wait", SIZE, limited(40_000))?;
        let at_once = [cache.hold()?, cache.hold()?, cache.hold()?];
        let starts = at_once.each_ref().map(Held::start);
        let mut rest = cache.hold_many(997)?;
        let guard = rcu::read_lock();
        rest.clear();
        let (refused, again) = cpu::irqs_off(|| {
            let (n, _) = alloc_until_failure(&cache, 1000, || cache.hold_nolock());
            at_once.map(Held::free);
            // One more than were freed.
            let again: [_; 4] = ::core::array::from_fn(|_| cache.hold_nolock());
            (n < 1000, again)
        });
        drop(guard);
        let again = || again.iter().flatten().map(Held::start);
        // Where debug features check objects after each use, or `init_on_free` zeroes them, they
        // are not reused at once.
        let expected = if alloc::reused_at_once() { 3 } else { 0 };
        check!(refused && again().count() == expected)?;
        check!(again().all(|start| starts.contains(&start)))
    }

    /// Limits change under load on all CPUs.
    #[test]
    fn changed_under_load() -> Result {
        let cache = SheafCache::new(c"rcu_ptr_change", SIZE, Args::default())?;
        let table = Table::new(&cache, 200)?;
        let turn = |cpu: i32, i: usize| {
            let i = i + cpu as usize * 31;
            table.replace(i, Alloc::Sleep);
            cpu::irqs_off(|| table.replace(i * 7, Alloc::Nolock));
            table.alloc_and_free(Alloc::Atomic);
            table.check(i);
        };
        let change = || {
            (0..scaled(600)).try_for_each(|i| {
                thread::sleep(1);
                cache.set_limits(&Limits {
                    sheaf_capacity: [56, 1, 7, 30][i % 4],
                    barn_limit: [0, 1, 100][i % 3],
                    wait_limit: [0, 1000, 100_000][i % 3],
                })
            })
        };
        table.under_readers(|| cpus::meanwhile(cpu::online(), &turn, change))???;
        let limits = Limits {
            sheaf_capacity: 5,
            barn_limit: 3,
            wait_limit: 0,
        };
        cache.set_limits(&limits)?;
        let wrong = table.violations();
        drop(table);
        core::barrier();
        let trimmed = bound::soon(|| cache.stats().now_full <= 3 * nr_barns());
        let stats = cache.stats();
        check!(wrong == Violations::default())?;
        check!(trimmed && stats.wait_limit_met > 0)
    }

    #[test]
    fn by_call_and_debugfs() -> Result {
        let args = Args {
            sheaf_capacity: 9,
            barn_limit: 77,
            wait_limit: 123_456,
            ..Args::default()
        };
        let cache = SheafCache::new(c"rcu_ptr_set", SIZE, args)?;
        let get = || {
            let limits = cache.limits();
            (limits.sheaf_capacity, limits.barn_limit, limits.wait_limit)
        };
        check!(get() == (9, 77, 123_456))?;
        let wrong = Limits {
            sheaf_capacity: 57,
            ..Limits::default()
        };
        check!(cache.set_limits(&wrong) == Err(EINVAL))?;
        let wrong = Limits {
            barn_limit: 1 << 20,
            ..Limits::default()
        };
        check!(cache.set_limits(&wrong) == Err(EINVAL))?;
        check!(get() == (9, 77, 123_456))?;
        user::sh(
            c"echo cache=rcu_ptr_set wait_limit=5000 capacity=3 >/sys/kernel/debug/rcu_ptr/caches",
        )?;
        check!(get() == (3, 77, 5000))?;
        for bad in [
            c"! echo cache=rcu_ptr_set capacity=1000 2>/dev/null >/sys/kernel/debug/rcu_ptr/caches",
            c"! echo cache=rcu_ptr_nobody capacity=1 2>/dev/null >/sys/kernel/debug/rcu_ptr/caches",
            c"! echo cache=rcu_ptr_set size=1 2>/dev/null >/sys/kernel/debug/rcu_ptr/caches",
            c"! echo capacity=1 2>/dev/null >/sys/kernel/debug/rcu_ptr/caches",
        ] {
            user::sh(bad)?;
        }
        check!(get() == (3, 77, 5000))?;
        // Defaults.
        cache.set_limits(&Limits::default())?;
        let usual = SheafCache::new(c"rcu_ptr_usual", SIZE, Args::default())?.limits();
        check!(get() == (usual.sheaf_capacity, usual.barn_limit, 0))
    }
}
