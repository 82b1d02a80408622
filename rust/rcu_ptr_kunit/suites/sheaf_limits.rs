// SPDX-License-Identifier: GPL-2.0

//! Limits of a cache: what waits for a grace period stays below one, and all of them may be changed
//! while the cache is in use.

use super::sheaf_memory::{nodes, up_and_down};
use crate::{
    bound,
    check::CHECKED,
    cpus,
    held::Held,
    scaled,
    sys::{
        alloc,
        cache::{self, Args, Limits, SheafCache},
        core, cpu, fault,
        srcu_domain::{Domain, Kind},
        thread,
        user::sh,
    },
    table::{Alloc, Table, Violations, SIZE},
};
use kernel::{prelude::*, sync::rcu};

/// Bytes of an object and its link.
const FULL_SIZE: u64 = SIZE as u64 + 8;

/// Bytes that may be on their way beyond a limit: a sheaf of each kind per CPU.
fn slack(capacity: u64) -> u64 {
    2 * capacity * FULL_SIZE * cpu::online().count() as u64
}

fn limited(bytes: u64) -> Args {
    Args {
        wait_limit: bytes as c_ulong,
        // kmalloc_nolock() has no part in it.
        ..cache::own_memory()
    }
}

/// Allocates and frees by `alloc` until there is nothing, at most `n` times. Returns how often, and
/// the most bytes that waited.
fn until_refused<'a>(
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

    /// Nothing gets further while this task is a reader: allocations are refused at the limit, and
    /// succeed when the grace period is over. Frees never fail.
    #[test]
    fn what_waits() -> Result {
        // There is no stock, so the limit is not what refuses.
        skip_if!(!alloc::objects_are_recycled(), CHECKED);
        for limit in [100_000, 1_000_000] {
            let cache = SheafCache::new(c"rcu_ptr_wait", SIZE, limited(limit))?;
            // There is more in stock.
            up_and_down(&cache, (3 * limit / FULL_SIZE) as usize)?;
            cache.barrier();
            let met = cache.stats().wait_limit_met;
            let guard = rcu::read_lock();
            let (n, most) = until_refused(&cache, 3 * limit as usize, || cache.hold_nolock());
            let refused = cache.hold_nolock().is_none();
            drop(guard);
            let stats = cache.stats();
            kernel::kunit::info(fmt!(
                "rcu_ptr_sheaf_limits: of {limit} bytes at most {most} waited, after {n} objects\n"
            ));
            // By themselves.
            let came = bound::soon(|| cache.hold_nolock().is_some());
            check!(refused && stats.wait_limit_met >= met + 2);
            check!(most <= limit + slack(56) && n as u64 * FULL_SIZE + slack(56) >= limit / 2);
            check!(came);
        }
        Ok(())
    }

    /// An allocation that may sleep waits for a grace period, and one that has to succeed does;
    /// what was prefilled is there.
    #[test]
    fn who_may_sleep() -> Result {
        const LIMIT: u64 = 40_000;
        let cache = SheafCache::new(c"rcu_ptr_wait", SIZE, limited(LIMIT))?;
        // The reserve is that of this node.
        thread::stay_here();
        cache.prefill(20)?;
        let mut most = 0;
        for _ in 0..scaled(30_000) {
            drop(cache.hold_with(cache::GFP_NOFAIL).ok_or(ENOMEM)?);
            most = most.max(cache.stats().now_waiting_bytes);
        }
        let met = cache.stats().wait_limit_met;
        // A callback that comes late, on a busy machine, costs a refusal; without the wait nearly
        // all would be refused.
        let (mut refused, mut bytes, before) = (0, 0, met);
        for _ in 0..scaled(30_000) {
            refused += u64::from(cache.hold().is_err());
            bytes = bytes.max(cache.stats().now_waiting_bytes);
        }
        let waits = cache.stats().wait_limit_met - before;
        let mut reserved = 0;
        let mut held = cache.hold_many((2 * LIMIT / FULL_SIZE) as usize)?;
        let guard = rcu::read_lock();
        // What waits is above the limit as long as this task is a reader.
        held.clear();
        let (taken, _) = until_refused(&cache, 10_000, || {
            let before = cache.stats().wait_limit_met;
            let object = cache.hold_nolock();
            reserved += usize::from(object.is_some() && cache.stats().wait_limit_met != before);
            object
        });
        drop(guard);
        kernel::kunit::info(fmt!(
            "rcu_ptr_sheaf_limits: met {met} times, {most} and {bytes} bytes waited, {reserved} objects reserved, \
             {refused} of {waits} refused\n"
        ));
        check!(waits > 0 && 4 * refused <= waits && bytes <= LIMIT + slack(56));
        // Without stock the reserve may be empty before the limit is met.
        check!(met > 0 && taken >= 20);
        check!(reserved >= 20 || !alloc::objects_are_recycled());
        Ok(())
    }

    /// An allocation that may sleep gets nothing of the reserve at the limit, and it does not grow:
    /// what was promised is there for the others.
    #[test]
    fn prefilled_for_others() -> Result {
        const PROMISED: usize = 20;
        let domain = Domain::new(Kind::Plain)?;
        let args = Args {
            srcu: domain.raw(),
            ..limited(40_000)
        };
        let cache = SheafCache::new(c"rcu_ptr_wait", SIZE, args)?;
        // The reserve is that of this node.
        thread::stay_here();
        cache.prefill(PROMISED)?;
        let mut held = cache.hold_many(1000)?;
        let (before, sleepers, stats, others) = domain.read(|| {
            held.clear();
            let before = cache.stats();
            // What is left of a sheaf first.
            let (n, _) = until_refused(&cache, 200, || cache.hold().ok());
            (0..5).for_each(|_| drop(cache.hold()));
            let stats = cache.stats();
            let (others, _) = cpu::irqs_off(|| until_refused(&cache, 1001, || cache.hold_nolock()));
            (before, n, stats, others)
        });
        kernel::kunit::info(fmt!(
            "rcu_ptr_sheaf_limits: reserve {} and {}, {} for sleepers, {} for others, met {} \
             times\n",
            before.reserve,
            stats.reserve,
            sleepers,
            others,
            stats.wait_limit_met
        ));
        check!(stats.wait_limit_met >= 6 && sleepers < 112);
        check!(stats.reserve == before.reserve && stats.reserve >= PROMISED as u64);
        check!((PROMISED..=1000).contains(&others));
        Ok(())
    }

    /// What finds no sheaf waits as well.
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
        check!(stats.engine_fallback > 500);
        check!(stats.now_waiting_bytes >= stats.engine_fallback * FULL_SIZE);
        Ok(())
    }

    /// What is freed to be used again at once waits for nothing, and is there at the limit: all of
    /// it.
    #[test]
    fn freed_at_once() -> Result {
        let cache = SheafCache::new(c"rcu_ptr_wait", SIZE, limited(40_000))?;
        let at_once = [cache.hold()?, cache.hold()?, cache.hold()?];
        let starts = at_once.each_ref().map(Held::start);
        let mut rest = cache.hold_many(997)?;
        let guard = rcu::read_lock();
        rest.clear();
        let (refused, again) = cpu::irqs_off(|| {
            let (n, _) = until_refused(&cache, 1000, || cache.hold_nolock());
            at_once.map(Held::free);
            // One more than there may be.
            let again: [_; 4] = ::core::array::from_fn(|_| cache.hold_nolock());
            (n < 1000, again)
        });
        drop(guard);
        let again = || again.iter().flatten().map(Held::start);
        // Where objects are checked after each use, nothing is allocated again at once.
        let expected = if cfg!(CONFIG_KASAN) { 0 } else { 3 };
        check!(refused && again().count() == expected);
        check!(again().all(|start| starts.contains(&start)));
        Ok(())
    }

    /// Limits that change under load of all CPUs, and bytes that wait meanwhile.
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
        let trimmed = bound::soon(|| cache.stats().now_full <= 3 * nodes());
        let stats = cache.stats();
        check!(wrong == Violations::default());
        check!(trimmed && stats.wait_limit_met > 0);
        Ok(())
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
        check!(get() == (9, 77, 123_456));
        let wrong = Limits {
            sheaf_capacity: 57,
            ..Limits::default()
        };
        check!(cache.set_limits(&wrong) == Err(EINVAL));
        let wrong = Limits {
            barn_limit: 1 << 20,
            ..Limits::default()
        };
        check!(cache.set_limits(&wrong) == Err(EINVAL));
        check!(get() == (9, 77, 123_456));
        sh(c"echo cache=rcu_ptr_set wait_limit=5000 capacity=3 >/sys/kernel/debug/rcu_ptr/caches")?;
        check!(get() == (3, 77, 5000));
        for bad in [
            c"! echo cache=rcu_ptr_set capacity=1000 2>/dev/null >/sys/kernel/debug/rcu_ptr/caches",
            c"! echo cache=rcu_ptr_nobody capacity=1 2>/dev/null >/sys/kernel/debug/rcu_ptr/caches",
            c"! echo cache=rcu_ptr_set size=1 2>/dev/null >/sys/kernel/debug/rcu_ptr/caches",
            c"! echo capacity=1 2>/dev/null >/sys/kernel/debug/rcu_ptr/caches",
        ] {
            sh(bad)?;
        }
        check!(get() == (3, 77, 5000));
        // Defaults.
        cache.set_limits(&Limits::default())?;
        let usual = SheafCache::new(c"rcu_ptr_usual", SIZE, Args::default())?.limits();
        check!(get() == (usual.sheaf_capacity, usual.barn_limit, 0));
        Ok(())
    }
}
