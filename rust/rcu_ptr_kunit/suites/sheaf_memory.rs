// SPDX-License-Identifier: GPL-2.0

//! Caches with sheaves free memory: idle and dead CPUs have none, barns keep to their limits, and
//! the shrinker frees the rest. And NUMA: objects return to their nodes.

use super::sheaf_bounds::all_back;
use crate::{check::CHECKED, prelude::*, sys::node};

/// Uses `cache` on every CPU. Returns the errors.
fn use_everywhere(cache: &SheafCache, n: usize) -> Result<Violations> {
    let table = Table::new(cache, n)?;
    let body = |cpu: i32| {
        for i in 0..n {
            table.replace(i + cpu as usize * 7, Alloc::Sleep);
            table.alloc_and_free(Alloc::Sleep);
        }
    };
    thread::on_cpus(cpu::online(), &body, || ())?;
    Ok(table.violations())
}

/// Counts objects on another node than `cpu`.
pub(super) fn count_remote(held: &[Held<'_>], cpu: i32) -> usize {
    let is_remote = |object: &&Held<'_>| node::of_object(object.start()) != node::of_cpu(cpu);
    held.iter().filter(is_remote).count()
}

/// Whether `cache` was used, and all objects are back in the slab.
fn is_back(cache: &SheafCache) -> bool {
    let stats = cache.stats();
    stats.slab_allocs > 0 && all_back(&stats)
}

/// A cache whose reserve has objects that were not prefilled.
fn with_surplus(name: &CStr) -> Result<SheafCache> {
    let cache = SheafCache::new(name, SIZE, cache::own_memory())?;
    check!(cache.hold_nolock().is_none())?;
    check!(bound::soon(|| cache.stats().reserve > 0))?;
    Ok(cache)
}

/// The number of barns.
pub(super) fn nr_barns() -> u64 {
    cpu::online().map(node::of_cpu).max().unwrap_or(0) as u64 + 1
}

/// Two CPUs on different nodes.
pub(super) fn two_nodes() -> Option<(i32, i32)> {
    let here = cpu::online().next()?;
    let there = cpu::online().find(|&other| node::of_cpu(other) != node::of_cpu(here))?;
    Some((here, there))
}

/// Skip reason.
pub(super) const NUMA: &CStr = c"needs two nodes with a CPU each (scenario NUMA)";

#[kunit_tests(rcu_ptr_sheaf_memory)]
mod tests {
    use super::*;

    /// Without further calls all objects return to the slab within a few drain intervals: one until
    /// the monitor checks a sheaf, another if it was in use, and as many until the barn trims it.
    #[test]
    fn idle_in_time() -> Result {
        let _restore = params::medium_drain()?;
        let msecs = 5 * params::MEDIUM_DRAIN_MSECS;
        let mut in_time = false;
        for _ in 0..3 {
            let cache = SheafCache::new(c"rcu_ptr_in_time", SIZE, Args::default())?;
            check!(use_everywhere(&cache, 77)? == Violations::default())?;
            in_time = bound::within(msecs, || is_back(&cache));
            if in_time {
                break;
            }
        }
        check!(in_time)
    }

    /// The objects of 200 sheaves are freed, and a barn keeps 2 sheaves.
    #[test]
    fn barn_keeps_to_its_limit() -> Result {
        let cache = SheafCache::new(c"rcu_ptr_limit", SIZE, sheaves(10, 2))?;
        for _ in 0..3 {
            cache.alloc_then_free(2000)?;
            core::barrier();
            check!(bound::soon(|| cache.stats().now_full <= 2 * nr_barns()))?;
        }
        Ok(())
    }

    /// Twice as many objects as a barn usually keeps are allocated and freed repeatedly: the barn
    /// keeps them, also when another limit was written.
    #[test]
    fn barn_grows_with_the_load() -> Result {
        skip_if!(!alloc::objects_are_recycled(), CHECKED);
        const BYTES: usize = 2048;
        const OBJECTS: usize = 4000;
        let cache = SheafCache::new(c"rcu_ptr_swing", BYTES, Args::default())?;
        user::sh(c"echo cache=rcu_ptr_swing wait_limit=0 >/sys/kernel/debug/rcu_ptr/caches")?;
        // On one CPU, so that it is one barn.
        cpus::on(cpus::first(), || {
            (0..4).try_for_each(|_| cache.alloc_then_free(OBJECTS).map(|()| core::barrier()))
        })??;
        let obtained = cache.stats().slab_allocs as usize;
        pr_info!("sheaf_memory: {OBJECTS} objects 4 times: the slab gave {obtained}\n");
        check!((OBJECTS..OBJECTS * 3 / 2).contains(&obtained))
    }

    /// The shrinker frees objects in reuse slots of a CPU that has nothing else.
    #[test]
    fn shrinker_frees_reuse_slots() -> Result {
        skip_if!(!alloc::objects_are_recycled(), CHECKED);
        let _restore = params::no_drain()?;
        let cache = SheafCache::new(c"rcu_ptr_reused", SIZE, Args::default())?;
        // Allocated without a sheaf.
        let object = cache.hold_with(cache::gfp(GFP_ATOMIC));
        object.ok_or(ENOMEM)?.free();
        let before = cache.stats();
        params::shrink()?;
        let back = bound::soon(|| cache.stats().slab_frees == 1);
        check!(before.now_reuse == 1 && before.now_sheaves == 0 && back)
    }

    /// The shrinker frees objects of the reserve that were not prefilled.
    #[test]
    fn shrinker_frees_unreserved_objects() -> Result {
        let _restore = params::no_drain()?;
        let cache = with_surplus(c"rcu_ptr_unpromised")?;
        // Wait for the end of the refill.
        thread::sleep(20);
        params::shrink()?;
        check!(bound::soon(|| cache.stats().reserve == 0))
    }

    /// Without further calls objects of the reserve that were not prefilled are freed.
    #[test]
    fn idle_reserve_is_freed() -> Result {
        let _restore = params::medium_drain()?;
        let cache = with_surplus(c"rcu_ptr_idle_reserve")?;
        check!(bound::within(5 * params::MEDIUM_DRAIN_MSECS, || cache
            .stats()
            .reserve
            == 0))
    }

    /// The shrinker frees all sheaves. Its events count full and empty ones; there are few of the
    /// latter.
    #[test]
    fn events_tell_full_from_empty() -> Result {
        skip_if!(
            user::sh(c"[ -e /sys/kernel/tracing/events/rcu_ptr/rcu_ptr_sheaf_shrink/enable ]")
                .is_err(),
            c"tracefs is not mounted"
        );
        skip_if!(!alloc::objects_are_recycled(), CHECKED);
        let cache = SheafCache::new(c"rcu_ptr_told", SIZE, Args::default())?;
        cache.alloc_then_free(3000)?;
        core::barrier();
        let before = cache.stats();
        user::sh(
            c"cd /sys/kernel/tracing && echo >trace && echo 1 >tracing_on && \
              echo 1 >events/rcu_ptr/rcu_ptr_sheaf_shrink/enable",
        )?;
        let shrunk = params::shrink();
        // Sheaves of CPUs were moved to a barn first.
        let gone = bound::soon(|| {
            let stats = cache.stats();
            stats.now_full == 0 && stats.now_empty == 0
        });
        let right = user::sh(
            c"cd /sys/kernel/tracing && echo 0 >events/rcu_ptr/rcu_ptr_sheaf_shrink/enable && \
              grep ' rcu_ptr_sheaf_shrink: cache=rcu_ptr_told ' trace | tr ' ' '\n' | awk -F= \
              '{ n[$1] += $2 } END { exit n[\"full\"] < 40 || n[\"empty\"] > 30 }'",
        );
        shrunk?;
        check!(before.now_full >= 40 && before.now_empty < 20 && gone)?;
        check!(right.is_ok())
    }

    #[test]
    fn reserve_stays() -> Result {
        let _restore = params::quick_drain()?;
        let cache = SheafCache::new(c"rcu_ptr_reserve", SIZE, sheaves(10, 2))?;
        cache.prefill(100)?;
        params::shrink()?;
        thread::sleep(300);
        check!(cache.stats().reserve == 100)
    }

    /// A CPU goes down with partial sheaves of both kinds, and all objects return while it is down.
    #[test]
    fn dead_cpu_has_nothing() -> Result {
        let cpu = other_cpu!();
        let _restore = params::quick_drain()?;
        for _ in 0..3 {
            let cache = SheafCache::new(c"rcu_ptr_dead", SIZE, Args::default())?;
            let table = Table::new(&cache, 200)?;
            cpus::on(cpu, || {
                for i in 0..1000 {
                    table.replace(i, Alloc::Nolock);
                    table.replace(i, Alloc::Sleep);
                    table.alloc_and_free(Alloc::Sleep);
                }
            })?;
            check!(table.violations() == Violations::default())?;
            let down = Down::take(cpu)?;
            drop(table);
            core::barrier();
            // The remaining sheaves are on the CPU that freed the table: as in `idle_in_time`.
            let back = bound::within(5 * params::QUICK_DRAIN_MSECS, || is_back(&cache));
            down.up()?;
            check!(back)?;
        }
        Ok(())
    }

    /// A CPU goes down while its monitor is armed, and the monitor works again when it is back.
    #[test]
    fn armed_when_it_goes_down() -> Result {
        let cpu = other_cpu!();
        let cache = SheafCache::new(c"rcu_ptr_armed", SIZE, Args::default())?;
        let _medium = params::medium_drain()?;
        cpus::on(cpu, || cache.alloc_then_free(3))??;
        // By then it is armed; the interval must not be changed later, which would have it run.
        thread::sleep(params::MEDIUM_DRAIN_MSECS / 20);
        Down::take(cpu)?.up()?;
        core::barrier();
        cpus::on(cpu, || cache.alloc_then_free(3))??;
        check!(bound::within(3 * params::MEDIUM_DRAIN_MSECS, || cache
            .waiting()
            == 0))
    }

    /// A CPU goes down and up under load on all CPUs.
    #[test]
    fn hotplug_under_load() -> Result {
        let cpu = other_cpu!();
        let cache = SheafCache::new(c"rcu_ptr_plug", SIZE, Args::default())?;
        let table = Table::new(&cache, 300)?;
        let turn = |cpu: i32, i: usize| {
            table.replace(i + cpu as usize, Alloc::Sleep);
            table.check(i + cpu as usize + 1);
        };
        let once = |_| {
            cpus::on(cpu, || {
                for i in 0..500 {
                    table.replace(i + cpu as usize, Alloc::Nolock);
                    table.alloc_and_free(Alloc::Sleep);
                }
            })?;
            let down = Down::take(cpu)?;
            core::barrier();
            down.up()
        };
        let others = cpu::online().filter(|&c| c != cpu);
        let plug = || (0..8).try_for_each(once);
        table.under_readers(|| cpus::meanwhile(others, &turn, plug))???;
        check!(table.violations() == Violations::default())
    }

    /// Objects that are freed on another node return to their own node, and are reused there: one
    /// CPU allocates and another one frees, three times; finally the latter allocates.
    #[test]
    fn objects_return_to_their_node() -> Result {
        const OBJECTS: usize = 600;
        let (here, there) = or_skip!(two_nodes(), NUMA);
        skip_if!(!alloc::objects_are_recycled(), CHECKED);
        let cache = SheafCache::new(c"rcu_ptr_home", SIZE, sheaves(10, 500))?;
        let mut remote_here = 0;
        for _ in 0..3 {
            let held = cpus::on(here, || cache.hold_many(OBJECTS))??;
            remote_here += count_remote(&held, here);
            cpus::on(there, move || drop(held))?;
            core::barrier();
        }
        let held = cpus::on(there, || cache.hold_many(OBJECTS))??;
        let (remote_there, obtained) = (
            count_remote(&held, there),
            cache.stats().slab_allocs as usize,
        );
        pr_info!(
            "sheaf_memory: of 3 * {OBJECTS} objects {remote_here} were remote, of {OBJECTS} then \
             {remote_there}; {obtained} came from the slab\n"
        );
        check!(remote_here * 10 < 3 * OBJECTS && remote_there * 10 < OBJECTS)?;
        // The objects of both nodes once, and some in sheaves on the way.
        check!(obtained < 2 * OBJECTS + OBJECTS / 2)
    }

    /// An allocation that can't use the slab uses objects of another node.
    #[test]
    fn nolock_allocates_remote_objects() -> Result {
        let (here, there) = or_skip!(two_nodes(), NUMA);
        skip_if!(!alloc::objects_are_recycled(), CHECKED);
        let cache = SheafCache::new(c"rcu_ptr_far", SIZE, cache::own_memory())?;
        // Stock of the barn; the reserve is for its own node only.
        cpus::on(here, || {
            cache.alloc_then_free(200).map(|()| core::barrier())
        })??;
        let (mut found, mut remote) = (0, 0);
        cpus::on(there, || {
            for object in (0..100).filter_map(|_| cache.hold_nolock()) {
                found += 1;
                remote += count_remote(&[object], there);
            }
        })?;
        check!(found == 100 && remote > 0)
    }

    /// Allocations use objects of another node if the slab fails.
    #[test]
    fn remote_objects_when_memory_is_short() -> Result {
        let (here, there) = or_skip!(two_nodes(), NUMA);
        skip_if!(!alloc::objects_are_recycled(), CHECKED);
        let args = Args {
            sheaf_capacity: 4,
            ..cache::own_memory()
        };
        let cache = SheafCache::new(c"rcu_ptr_short", SIZE, args)?;
        cpus::on(here, || {
            cache.alloc_then_free(200).map(|()| core::barrier())
        })??;
        let found = cpus::on(there, || {
            fault::fail_alloc(1, u64::MAX);
            let held: [_; 40] = ::core::array::from_fn(|i| match i % 2 {
                0 => cache.hold_with(cache::gfp(GFP_ATOMIC)),
                _ => cache.hold().ok(),
            });
            fault::fail_alloc(0, 0);
            held.iter().flatten().count()
        })?;
        check!(found == 40)
    }
}
