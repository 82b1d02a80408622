// SPDX-License-Identifier: GPL-2.0

//! Caches with sheaves give memory back: an idle CPU has nothing, a barn not more than its limit, a
//! dead CPU nothing, and the shrinker takes what is free.

use super::{
    sheaf_bounds::{circulate, two_cpus},
    sheaf_calls::stats_match,
};
use crate::{
    bound, params, scaled,
    sys::{
        alloc,
        cache::{self, Args, SheafCache},
        core, cpu, node, thread, user,
    },
    table::{Alloc, Table, Wrong, SIZE},
};
use ::core::ptr::NonNull;
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// Uses `cache` on every CPU.
fn use_everywhere(cache: &SheafCache, n: usize) -> Result<Wrong> {
    let table = Table::new(cache, n)?;
    let body = |cpu: i32| {
        for i in 0..n {
            table.replace(i + cpu as usize * 7, Alloc::Sleep);
            table.touch(Alloc::Sleep);
        }
    };
    thread::on_cpus(cpu::online(), &body, || ())?;
    Ok(table.wrong())
}

/// Allocates `n` objects and gives all of them back after a grace period.
pub(super) fn up_and_down(cache: &SheafCache, n: usize) -> Result {
    let held = cache.alloc_many(n)?;
    // SAFETY: From this cache, the caller's.
    unsafe { cache.free_rcu_all(&held) };
    Ok(())
}

/// Barns.
pub(super) fn nodes() -> u64 {
    cpu::online().map(node::of_cpu).max().unwrap_or(0) as u64 + 1
}

/// Two CPUs with memory of their own.
pub(super) fn two_nodes() -> Option<(i32, i32)> {
    let here = cpu::online().next()?;
    let there = cpu::online().find(|&other| node::of_cpu(other) != node::of_cpu(here))?;
    Some((here, there))
}

/// Objects of [`go_home()`].
const TRAVELLERS: usize = 600;

/// What objects that are freed on another node than they come from do.
struct Travelled {
    /// Objects of the other node that `here` and `there` were given.
    far_here: usize,
    far_there: usize,
    obtained: u64,
}

/// `here` allocates and `there` frees, three times; at last `there` allocates.
fn go_home(here: i32, there: i32) -> Result<Travelled> {
    let args = Args {
        sheaf_capacity: 10,
        barn_limit: 500,
        ..Args::default()
    };
    let cache = SheafCache::new(c"rcu_ptr_home", SIZE, args)?;
    let mut places = KVVec::<Atomic<*mut u8>>::with_capacity(TRAVELLERS, GFP_KERNEL)?;
    for _ in 0..TRAVELLERS {
        places.push(Atomic::new(::core::ptr::null_mut()), GFP_KERNEL)?;
    }
    let far = Atomic::<usize>::new(0);
    let alloc = |cpu: i32| {
        for place in &places {
            if let Some(object) = cache.alloc(false) {
                far.add(
                    usize::from(node::of_object(object) != node::of_cpu(cpu)),
                    Relaxed,
                );
                place.store(object.as_ptr(), Relaxed);
            }
        }
    };
    let free = |_| {
        for place in &places {
            let object = place.xchg(::core::ptr::null_mut(), kernel::sync::atomic::Full);
            if let Some(object) = NonNull::new(object) {
                // SAFETY: From this cache; the exchange made it the caller's.
                unsafe { cache.free_rcu(object) };
            }
        }
    };
    let mut travelled = Travelled {
        far_here: 0,
        far_there: 0,
        obtained: 0,
    };
    for _ in 0..3 {
        thread::on_cpus(::core::iter::once(here), &alloc, || ())?;
        travelled.far_here += far.xchg(0, Relaxed);
        thread::on_cpus(::core::iter::once(there), &free, || ())?;
        core::barrier();
    }
    thread::on_cpus(::core::iter::once(there), &alloc, || ())?;
    travelled.far_there = far.load(Relaxed);
    travelled.obtained = cache.stats().slab_allocs;
    free(there);
    Ok(travelled)
}

#[kunit_tests(rcu_ptr_sheaf_memory)]
mod tests {
    use super::*;

    /// No more calls come, and all objects find their way back to the slab.
    #[test]
    fn idle_cpus_have_nothing() -> Result {
        let _defaults = params::quick_drain()?;
        let cache = SheafCache::new(c"rcu_ptr_idle", SIZE, Args::default())?;
        let wrong = use_everywhere(&cache, 77)?;
        let back = bound::within(5 * params::QUICK_DRAIN_MSECS, || {
            stats_match!(
                "rcu_ptr_idle",
                "slab_allocs=\\([1-9][0-9]*\\) slab_frees=\\1 "
            )
        });
        check!(wrong == Wrong::default() && back);
        Ok(())
    }

    /// They do so in a few intervals: one until a sheaf is looked at, another if it moved meanwhile, and as
    /// many until the barn has no use for it.
    #[test]
    fn idle_in_time() -> Result {
        let _defaults = params::medium_drain()?;
        let msecs = 5 * params::MEDIUM_DRAIN_MSECS;
        let mut in_time = false;
        for _ in 0..3 {
            let cache = SheafCache::new(c"rcu_ptr_in_time", SIZE, Args::default())?;
            use_everywhere(&cache, 77)?;
            in_time = bound::within(msecs, || {
                let n = cache.stats();
                n.slab_allocs > 0 && n.slab_allocs == n.slab_frees
            });
            if in_time {
                break;
            }
        }
        check!(in_time);
        Ok(())
    }

    /// 20 sheaves' worth of objects come back, a barn keeps 2 sheaves.
    #[test]
    fn barn_keeps_to_its_limit() -> Result {
        let args = Args {
            sheaf_capacity: 10,
            barn_limit: 2,
            ..Args::default()
        };
        let cache = SheafCache::new(c"rcu_ptr_limit", SIZE, args)?;
        let mut good = true;
        for _ in 0..3 {
            up_and_down(&cache, 2000)?;
            core::barrier();
            good &= bound::soon(|| cache.stats().now_full <= 2 * nodes());
        }
        check!(good);
        Ok(())
    }

    /// Twice as many objects as a barn usually keeps go up and down: they stay, also where another limit was written.
    #[test]
    fn barn_grows_with_the_load() -> Result {
        skip_if!(
            !alloc::objects_go_round(),
            c"this kernel checks what is freed"
        );
        const BYTES: usize = 2048;
        const OBJECTS: usize = 4000;
        let cache = SheafCache::new(c"rcu_ptr_swing", BYTES, Args::default())?;
        user::sh(c"echo cache=rcu_ptr_swing wait_limit=0 >/sys/kernel/debug/rcu_ptr/caches")?;
        let failed = Atomic::<i32>::new(0);
        // On one CPU, so that it is one barn.
        let body = |_: i32| {
            for _ in 0..4 {
                failed.add(i32::from(up_and_down(&cache, OBJECTS).is_err()), Relaxed);
                core::barrier();
            }
        };
        thread::on_cpus(cpu::online().take(1), &body, || ())?;
        let obtained = cache.stats().slab_allocs as usize;
        drop(cache);
        kernel::kunit::info(fmt!(
            "rcu_ptr_sheaf_memory: {} objects 4 times: the slab gave {}\n",
            OBJECTS,
            obtained
        ));
        check!(failed.load(Relaxed) == 0);
        check!((OBJECTS..OBJECTS * 3 / 2).contains(&obtained));
        Ok(())
    }

    /// One CPU allocates, another frees: nothing piles up where it is freed.
    #[test]
    fn freed_elsewhere() -> Result {
        let cpus = or_skip!(two_cpus(), c"needs two CPUs");
        let args = Args {
            barn_limit: 8,
            ..Args::default()
        };
        let cache = SheafCache::new(c"rcu_ptr_else", SIZE, args)?;
        circulate(&cache, cpus, &|| cache.alloc(false), |done| {
            done >= scaled(100_000)
        })?;
        core::barrier();
        let bounded = bound::soon(|| {
            let stats = cache.stats();
            stats.now_full.max(stats.now_empty) <= 8 * nodes()
        });
        check!(bounded);
        Ok(())
    }

    #[test]
    fn shrinker_takes_what_is_free() -> Result {
        skip_if!(
            !alloc::objects_go_round(),
            c"this kernel checks what is freed"
        );
        let cache = SheafCache::new(c"rcu_ptr_shrink", SIZE, Args::default())?;
        up_and_down(&cache, 3000)?;
        core::barrier();
        let before = stats_match!("rcu_ptr_shrink", "now_full=[1-9]");
        params::shrink()?;
        // What CPUs had went to a barn first.
        let after = bound::soon(|| stats_match!("rcu_ptr_shrink", "now_full=0 now_empty=0$"));
        check!(before && after);
        Ok(())
    }

    /// What was freed to be allocated again at once, where a CPU has nothing else.
    #[test]
    fn shrinker_takes_reuse_slots() -> Result {
        skip_if!(
            !alloc::objects_go_round(),
            c"this kernel checks what is freed"
        );
        let _defaults = params::no_drain()?;
        let cache = SheafCache::new(c"rcu_ptr_reused", SIZE, Args::default())?;
        // Without a sheaf.
        let object = cache.alloc(true).ok_or(ENOMEM)?;
        // SAFETY: From this cache, the caller's.
        unsafe { cache.free(object) };
        let before = cache.stats();
        params::shrink()?;
        let back = bound::soon(|| cache.stats().slab_frees == 1);
        check!(before.now_reuse == 1 && before.now_sheaves == 0 && back);
        Ok(())
    }

    /// Of the reserve, what nobody was promised.
    #[test]
    fn shrinker_takes_what_is_not_promised() -> Result {
        let _defaults = params::no_drain()?;
        let cache = SheafCache::new(c"rcu_ptr_unpromised", SIZE, cache::own_memory())?;
        let none = cache.alloc_nolock().is_none();
        let filled = bound::soon(|| cache.stats().reserve > 0);
        // The refill has ended.
        thread::sleep(20);
        params::shrink()?;
        let back = bound::soon(|| cache.stats().reserve == 0);
        check!(none && filled && back);
        Ok(())
    }

    /// Events say how many full sheaves went, and how many empty ones: there are few of these.
    #[test]
    fn events_tell_full_from_empty() -> Result {
        skip_if!(
            user::sh(c"[ -e /sys/kernel/tracing/events/rcu_ptr/rcu_ptr_sheaf_shrink/enable ]")
                .is_err(),
            c"tracefs is not mounted"
        );
        skip_if!(
            !alloc::objects_go_round(),
            c"this kernel checks what is freed"
        );
        let cache = SheafCache::new(c"rcu_ptr_told", SIZE, Args::default())?;
        up_and_down(&cache, 3000)?;
        core::barrier();
        let before = cache.stats();
        user::sh(
            c"cd /sys/kernel/tracing && echo >trace && echo 1 >tracing_on && \
              echo 1 >events/rcu_ptr/rcu_ptr_sheaf_shrink/enable",
        )?;
        let shrunk = params::shrink();
        let gone = bound::soon(|| cache.stats().now_full == 0);
        let right = user::sh(
            c"cd /sys/kernel/tracing && echo 0 >events/rcu_ptr/rcu_ptr_sheaf_shrink/enable && \
              grep ' rcu_ptr_sheaf_shrink: cache=rcu_ptr_told ' trace | tr ' ' '\n' | awk -F= \
              '{ n[$1] += $2 } END { exit n[\"full\"] < 40 || n[\"empty\"] > 30 }'",
        );
        shrunk?;
        check!(before.now_full >= 40 && before.now_empty < 20 && gone);
        check!(right.is_ok());
        Ok(())
    }

    #[test]
    fn reserve_stays() -> Result {
        let _defaults = params::quick_drain()?;
        let args = Args {
            sheaf_capacity: 10,
            barn_limit: 2,
            ..Args::default()
        };
        let cache = SheafCache::new(c"rcu_ptr_reserve", SIZE, args)?;
        cache.prefill(100)?;
        params::shrink()?;
        thread::sleep(300);
        let kept = stats_match!("rcu_ptr_reserve", " reserve=100 ");
        check!(kept);
        Ok(())
    }

    /// A CPU goes down with partial sheaves of both kinds, and all of it comes back while it is
    /// down.
    #[test]
    fn dead_cpu_has_nothing() -> Result {
        let cpu = or_skip!(cpu::other(), c"needs two CPUs");
        let _defaults = params::quick_drain()?;
        let mut good = true;
        for _ in 0..3 {
            let cache = SheafCache::new(c"rcu_ptr_dead", SIZE, Args::default())?;
            let table = Table::new(&cache, 200)?;
            let body = |_| {
                for i in 0..1000 {
                    table.replace(i, Alloc::Nolock);
                    table.replace(i, Alloc::Sleep);
                    table.touch(Alloc::Sleep);
                }
            };
            thread::on_cpus(::core::iter::once(cpu), &body, || ())?;
            good &= table.wrong() == Wrong::default();
            cpu::take_down(cpu)?;
            drop(table);
            core::barrier();
            // What is left is where the table was freed: as in `idle_in_time`.
            good &= bound::within(5 * params::QUICK_DRAIN_MSECS, || {
                stats_match!(
                    "rcu_ptr_dead",
                    "slab_allocs=\\([1-9][0-9]*\\) slab_frees=\\1 "
                )
            });
            cpu::bring_up(cpu)?;
            drop(cache);
        }
        check!(good);
        Ok(())
    }

    /// A CPU goes down while its monitor waits for the drain interval, and is drained as ever when it is back.
    #[test]
    fn armed_when_it_goes_down() -> Result {
        let cpu = or_skip!(cpu::other(), c"needs two CPUs");
        let cache = SheafCache::new(c"rcu_ptr_armed", SIZE, Args::default())?;
        let body = |_| _ = up_and_down(&cache, 3);
        let long = params::no_drain()?;
        thread::on_cpus(::core::iter::once(cpu), &body, || ())?;
        // It is armed by then.
        thread::sleep(20);
        cpu::take_down(cpu)?;
        cpu::bring_up(cpu)?;
        core::barrier();
        let quick = params::quick_drain()?;
        thread::on_cpus(::core::iter::once(cpu), &body, || ())?;
        let drained = bound::within(3 * params::QUICK_DRAIN_MSECS, || cache.waiting() == 0);
        drop((quick, long));
        check!(drained);
        Ok(())
    }

    /// Down and up under load of all other CPUs, and of itself while it is up.
    #[test]
    fn hotplug_under_load() -> Result {
        let cpu = or_skip!(cpu::other(), c"needs two CPUs");
        let cache = SheafCache::new(c"rcu_ptr_plug", SIZE, Args::default())?;
        let table = Table::new(&cache, 300)?;
        let stop = Atomic::<i32>::new(0);
        let body = |cpu: i32| {
            let mut i = cpu as usize;
            while stop.load(Relaxed) == 0 {
                table.replace(i, Alloc::Sleep);
                table.look(i + 1);
                i += 1;
                thread::still_alive();
            }
        };
        let once = |cpu: i32| {
            for i in 0..500 {
                table.replace(i + cpu as usize, Alloc::Nolock);
                table.touch(Alloc::Sleep);
            }
        };
        let mut result = Ok(());
        let others = || cpu::online().filter(|&c| c != cpu);
        let plug = || {
            for _ in 0..8 {
                result = thread::on_cpus(::core::iter::once(cpu), &once, || ())
                    .and_then(|()| cpu::take_down(cpu))
                    .and_then(|()| {
                        core::barrier();
                        cpu::bring_up(cpu)
                    });
                if result.is_err() {
                    break;
                }
            }
            stop.store(1, Relaxed);
        };
        table.under_readers(|| thread::on_cpus(others(), &body, plug))??;
        result?;
        let wrong = table.wrong();
        check!(wrong == Wrong::default());
        Ok(())
    }

    /// Objects that are freed on another node go back to their own, and are allocated there.
    #[test]
    fn objects_go_home() -> Result {
        let (here, there) = or_skip!(
            two_nodes(),
            c"needs two nodes with a CPU each (scenario NUMA)"
        );
        skip_if!(
            !alloc::objects_go_round(),
            c"this kernel checks what is freed"
        );
        let t = go_home(here, there)?;
        kernel::kunit::info(fmt!(
            "rcu_ptr_sheaf_memory: of {} objects {} were far, of {} then {}; {} came from the slab\n",
            3 * TRAVELLERS,
            t.far_here,
            TRAVELLERS,
            t.far_there,
            t.obtained
        ));
        check!(t.far_here * 10 < 3 * TRAVELLERS && t.far_there * 10 < TRAVELLERS);
        // Each node's objects once, and what is in sheaves on their way.
        check!((t.obtained as usize) < 2 * TRAVELLERS + TRAVELLERS / 2);
        Ok(())
    }

    /// Where there is no other way to allocate, another node's objects are better than none.
    #[test]
    fn nolock_takes_far_objects() -> Result {
        let (here, there) = or_skip!(
            two_nodes(),
            c"needs two nodes with a CPU each (scenario NUMA)"
        );
        skip_if!(
            !alloc::objects_go_round(),
            c"this kernel checks what is freed"
        );
        let args = cache::own_memory();
        let cache = SheafCache::new(c"rcu_ptr_far", SIZE, args)?;
        let (found, far) = (Atomic::<usize>::new(0), Atomic::<usize>::new(0));
        // Stock of the barn. A reserve is for its own node.
        let fill = |_| {
            let _ = up_and_down(&cache, 200);
            core::barrier();
        };
        let take = |cpu: i32| {
            for _ in 0..100 {
                if let Some(object) = cache.alloc_nolock() {
                    found.add(1, Relaxed);
                    far.add(
                        usize::from(node::of_object(object) != node::of_cpu(cpu)),
                        Relaxed,
                    );
                    // SAFETY: From this cache, the caller's.
                    unsafe { cache.free_rcu(object) };
                }
            }
        };
        thread::on_cpus(::core::iter::once(here), &fill, || ())?;
        thread::on_cpus(::core::iter::once(there), &take, || ())?;
        check!(found.load(Relaxed) == 100 && far.load(Relaxed) > 0);
        Ok(())
    }
}
