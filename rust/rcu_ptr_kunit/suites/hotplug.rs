// SPDX-License-Identifier: GPL-2.0

//! CPUs that go down and come up while objects are freed on them.

use crate::{
    bound, params,
    pool::Pool,
    reader,
    route::Route,
    scaled,
    sys::{
        cache::{Args, SheafCache},
        core, core_test,
        cpu::{self, Moment},
        perf::{Breakpoint, Hook, Kind},
        thread, user,
    },
    SLOW,
};
use kernel::{
    prelude::*,
    str::CString,
    sync::atomic::{Atomic, Relaxed},
};

/// Frees `n` objects in a thread on `cpu`.
fn free_on(cpu: i32, pool: &Pool, route: Route, n: usize) -> Result {
    let body = |_cpu: i32| {
        pool.free(route, n);
    };
    thread::on_cpus(::core::iter::once(cpu), &body, || ())
}

/// Queues on a CPU, takes it down and waits for its objects without a barrier. Nothing but the death
/// of the CPU makes them go: there are too few for the fast monitor, and the drain interval is long.
/// Returns whether all came, and whether the CPU has no cached blocks left.
fn dead_cpu_keeps_nothing(cpu: i32, route: Route) -> Result<(bool, bool)> {
    let _defaults = params::no_drain()?;
    let pool = Pool::new(400)?;
    free_on(cpu, &pool, route, 300)?;
    // Refills have come by then.
    thread::sleep(20);
    cpu::take_down(cpu)?;
    let freed = bound::soon(|| pool.all_freed());
    // A batch that is freed now gives its blocks back.
    let empty = has_no_blocks(cpu)?;
    cpu::bring_up(cpu)?;
    core::barrier();
    Ok((freed && pool.all_freed(), empty))
}

fn free_three(pool: &Pool) {
    for route in [Route::Nolock, Route::Call, Route::CallSleepable] {
        pool.free(route, 1);
    }
}

/// Frees on a CPU that can't run irq_works any more, as an interrupt or an NMI may, and waits for the
/// objects: while it is down nothing but its death makes them go, and once it is back the monitor
/// drains it as ever.
fn freed_on_the_way_down(cpu: i32, moment: Moment) -> Result<(bool, bool)> {
    let defaults = params::no_drain()?;
    let pool = Pool::new(40)?;
    let body = || {
        free_three(&pool);
        Ok(())
    };
    cpu::on_the_way_down(moment, &body, || cpu::take_down(cpu))??;
    let late = pool.taken() == 3 && bound::soon(|| pool.all_freed());
    drop(defaults);
    let defaults = params::quick_drain()?;
    cpu::bring_up(cpu)?;
    free_on(cpu, &pool, Route::Nolock, 3)?;
    let after = bound::within(params::QUICK_DRAIN_MSECS, || pool.all_freed());
    core::barrier();
    drop(defaults);
    Ok((late, after && pool.all_freed()))
}

/// Frees by a call that may sleep, on a CPU that goes down and opens no block any more: whether the objects are
/// freed while it is down.
fn slept_on_the_way_down(cpu: i32) -> Result<bool> {
    let _defaults = params::no_drain()?;
    let pool = Pool::new(10)?;
    let body = || {
        pool.free(Route::Mightsleep, 2);
        Ok(())
    };
    cpu::on_the_way_down(Moment::Ended, &body, || cpu::take_down(cpu))??;
    let freed = pool.taken() == 2 && bound::soon(|| pool.all_freed());
    cpu::bring_up(cpu)?;
    core::barrier();
    Ok(freed && pool.all_freed())
}

/// An NMI frees an object whenever a CPU that goes down has written its current word, as when it closes its block:
/// whether they are freed while it is down. `None`: there are no such NMIs here.
fn freed_while_it_closes(cpu: i32) -> Result<Option<bool>> {
    let _defaults = params::no_drain()?;
    let pool = Pool::new(40)?;
    free_on(cpu, &pool, Route::Kvfree, 3)?;
    // The monitor is armed by then.
    thread::sleep(20);
    let in_nmi = || pool.free(Route::Nolock, 1);
    let hook = Hook::new(&in_nmi);
    let word = core_test::words(cpu).next().unwrap_or(0);
    let Ok(breakpoint) = Breakpoint::new(Kind::Write, word, &hook) else {
        core::barrier();
        return Ok(None);
    };
    let down = cpu::take_down(cpu);
    drop(breakpoint);
    down?;
    let freed = pool.taken() > 3 && bound::soon(|| pool.all_freed());
    cpu::bring_up(cpu)?;
    core::barrier();
    Ok(Some(freed && pool.all_freed()))
}

/// Takes a CPU down while its monitor waits for the drain interval, which stays as it is, and brings it up.
/// Whether what comes then is drained.
fn back_with_its_monitor(cpu: i32) -> Result<bool> {
    let (defaults, msecs) = params::slow_drain()?;
    let pool = Pool::new(10)?;
    free_on(cpu, &pool, Route::Kvfree, 1)?;
    // The monitor is armed by then.
    thread::sleep(20);
    cpu::take_down(cpu)?;
    cpu::bring_up(cpu)?;
    free_on(cpu, &pool, Route::Nolock, 3)?;
    let freed = bound::within(2 * msecs, || pool.all_freed());
    core::barrier();
    drop(defaults);
    Ok(freed && pool.taken() == 4 && pool.all_freed())
}

/// Frees on a CPU on its way down, which is then rolled back, so that it does not die: whether the monitor
/// drains it, though its irq_work could not be queued, and no other object comes.
fn freed_on_the_way_back(cpu: i32) -> Result<bool> {
    let _defaults = params::quick_drain()?;
    let pool = Pool::new(40)?;
    let body = || {
        free_three(&pool);
        Err(EBUSY)
    };
    let down = cpu::on_the_way_down(Moment::Parked, &body, || cpu::take_down(cpu))?;
    let turned = down.is_err() && pool.taken() == 3;
    let freed = bound::within(params::QUICK_DRAIN_MSECS, || pool.all_freed());
    core::barrier();
    Ok(turned && freed && pool.all_freed())
}

/// Destroys a cache while a CPU is down that has used it until it could run no irq_work any more:
/// whether that ends by itself, and not only once the CPU is back.
fn destroyed_while_down(cpu: i32, moment: Moment) -> Result<bool> {
    let args = Args {
        sheaf_capacity: 4,
        ..Args::default()
    };
    let cache = SheafCache::new(c"rcu_ptr_down", 64, args)?;
    let objects = cache.alloc_many(20)?;
    let body = || {
        // SAFETY: From this cache, given back once, as the CPU goes down once.
        unsafe { cache.free_rcu_all(&objects) };
        Ok(())
    };
    cpu::on_the_way_down(moment, &body, || cpu::take_down(cpu))??;
    let (destroyed, in_time) = (Atomic::<i32>::new(0), Atomic::<i32>::new(0));
    let body = |_cpu: i32| {
        let ended = bound::watchdog(|| destroyed.load(Relaxed) != 0);
        in_time.store(i32::from(ended && cpu::bring_up(cpu).is_ok()), Relaxed);
        if !ended {
            // Nothing to be done if that fails.
            let _ = cpu::bring_up(cpu);
        }
    };
    thread::on_cpus(::core::iter::once(0), &body, || {
        drop(cache);
        destroyed.store(1, Relaxed);
    })?;
    Ok(in_time.load(Relaxed) != 0)
}

/// A callback for a dead CPU, which comes before the core's, waits for a barrier, in a task of its own:
/// whether that ends, with the objects of that CPU freed. Otherwise it ends once the core has been
/// told.
fn barrier_behind_a_callback(cpu: i32) -> Result<bool> {
    let _defaults = params::no_drain()?;
    let pool = Pool::new(40)?;
    // 0: not yet, 1: the CPU is dead, 2: the barrier has returned.
    let stage = Atomic::<i32>::new(0);
    let in_time = Atomic::<i32>::new(0);
    let waits = |_cpu: i32| {
        if bound::watchdog(|| stage.load(Relaxed) != 0) {
            core::barrier();
        }
        stage.store(2, Relaxed);
    };
    let dead = || {
        stage.store(1, Relaxed);
        let ended = bound::watchdog(|| stage.load(Relaxed) == 2);
        in_time.store(i32::from(ended && pool.all_freed()), Relaxed);
        Ok(())
    };
    let mut down = Ok(());
    thread::on_cpus(::core::iter::once(0), &waits, || {
        down = free_on(cpu, &pool, Route::Nolock, 3)
            .and_then(|()| cpu::on_the_way_down(Moment::Dead, &dead, || cpu::take_down(cpu)))
            .and_then(|down| down);
        // Where it was never dead the task need not wait.
        stage.store(2, Relaxed);
    })?;
    down?;
    cpu::bring_up(cpu)?;
    core::barrier();
    Ok(in_time.load(Relaxed) != 0 && pool.all_freed())
}

/// A reader comes in on CPU 0 while another CPU is on its way down, so late that the kernel does not wait
/// for it; then objects are freed on that CPU, which dies. Returns how many the reader found broken.
fn dies_under_a_reader(cpu: i32, route: Route) -> Result<usize> {
    let defaults = params::no_drain()?;
    let pool = Pool::new(200)?;
    let (mut down, mut inside) = (Ok(()), 0);
    let seen = reader::watch_late(&pool, 0, |readers| {
        let body = || {
            readers.enter();
            pool.free(route, 150);
            Ok(())
        };
        // Should the kernel wait for it after all.
        readers.leave_in(5000);
        down = cpu::on_the_way_down(Moment::Leaving, &body, || cpu::take_down(cpu))
            .and_then(|down| down);
        inside = readers.inside();
        readers.leave_in(150);
        while readers.inside() > 0 {
            thread::sleep(2);
        }
    })?;
    down?;
    cpu::bring_up(cpu)?;
    core::barrier();
    drop(defaults);
    if inside == 0 || !pool.all_freed() {
        return Err(ETIME);
    }
    Ok(seen.broken)
}

/// The same with objects of a cache that wait in a sheaf: whether one of them is allocated again under
/// the reader.
fn cache_dies_under_a_reader(cpu: i32) -> Result<bool> {
    let defaults = params::no_drain()?;
    let cache = SheafCache::new(c"rcu_ptr_dies", 64, Args::default())?;
    let waiting = cache.alloc_many(10)?;
    let pool = Pool::new(1)?;
    let (mut down, mut inside, mut early) = (Ok(()), 0, false);
    let mut taken = KVec::with_capacity(300, GFP_KERNEL)?;
    reader::watch_late(&pool, 0, |readers| {
        let body = || {
            readers.enter();
            // SAFETY: From this cache, given back once, as the CPU goes down once.
            unsafe { cache.free_rcu_all(&waiting) };
            Ok(())
        };
        readers.leave_in(5000);
        down = cpu::on_the_way_down(Moment::Leaving, &body, || cpu::take_down(cpu))
            .and_then(|down| down);
        for object in (0..300).map_while(|_| cache.alloc(false)) {
            early |= waiting.contains(&object);
            if taken.push(object, GFP_KERNEL).is_err() {
                break;
            }
        }
        inside = readers.inside();
        readers.leave_in(0);
    })?;
    for object in taken {
        // SAFETY: From this cache, the caller's.
        unsafe { cache.free(object) };
    }
    down?;
    cpu::bring_up(cpu)?;
    drop(cache);
    drop(defaults);
    if inside == 0 {
        return Err(ETIME);
    }
    Ok(early)
}

/// A barrier begins while a CPU with objects, of a cache too, is on its way down. Returns how many of them it left.
fn barrier_beside_a_death(cpu: i32, moment: Moment, route: Route) -> Result<usize> {
    let defaults = params::no_drain()?;
    let pool = Pool::new(200)?;
    free_on(cpu, &pool, route, 150)?;
    let cache = SheafCache::new(c"rcu_ptr_beside", 64, Args::default())?;
    let waiting = cache.alloc_many(100)?;
    // SAFETY: From this cache, given back once.
    let body = |_cpu: i32| unsafe { cache.free_rcu_all(&waiting) };
    thread::on_cpus(::core::iter::once(cpu), &body, || ())?;
    let (begin, left) = (Atomic::<i32>::new(0), Atomic::<usize>::new(0));
    let barrier = |_cpu: i32| {
        bound::watchdog(|| begin.load(Relaxed) != 0);
        core::barrier();
        let stats = cache.stats();
        let of_cache = stats.now_rcu + stats.now_closed + stats.now_waiting;
        left.store(pool.left(pool.taken()) + of_cache as usize, Relaxed);
    };
    let body = || {
        begin.store(1, Relaxed);
        // It has come as far as it can by then. On PREEMPT_RT the thread that would end a sleep here may
        // be parked already.
        let start = thread::now();
        while thread::now() - start < 20_000_000 {
            ::core::hint::spin_loop();
        }
        Ok(())
    };
    let down = thread::on_cpus(::core::iter::once(0), &barrier, || {
        cpu::on_the_way_down(moment, &body, || cpu::take_down(cpu)).and_then(|down| down)
    })?;
    down?;
    cpu::bring_up(cpu)?;
    core::barrier();
    drop(defaults);
    if !pool.all_freed() {
        return Err(EIO);
    }
    Ok(left.load(Relaxed))
}

/// The shrinkers are called while a CPU goes down, and find the hotplug lock taken: whether they were. That
/// the lock is left as it was is seen when CPUs are taken down afterwards, and by lockdep.
fn shrunk_beside_a_death(cpu: i32) -> Result<bool> {
    let (begin, shrunk) = (Atomic::<i32>::new(0), Atomic::<i32>::new(0));
    let shrink = |_cpu: i32| {
        if bound::watchdog(|| begin.load(Relaxed) != 0) && params::shrink().is_ok() {
            shrunk.store(1, Relaxed);
        }
        begin.store(0, Relaxed);
    };
    let mut beside = false;
    let body = || {
        begin.store(1, Relaxed);
        bound::watchdog(|| begin.load(Relaxed) == 0);
        Ok(())
    };
    let down = thread::on_cpus(::core::iter::once(0), &shrink, || {
        let leaving = Moment::Leaving;
        let down = cpu::on_the_way_down(leaving, &body, || cpu::take_down(cpu));
        beside = shrunk.load(Relaxed) != 0;
        down.and_then(|down| down)
    })?;
    down?;
    cpu::bring_up(cpu)?;
    Ok(beside)
}

/// Whether the statistics say that `cpu` has no cached block.
fn has_no_blocks(cpu: i32) -> Result<bool> {
    let command = CString::try_from_fmt(fmt!(
        "grep -q '^cpu={} .*now_cached=0' /sys/kernel/debug/rcu_ptr/stats",
        cpu
    ))?;
    Ok(user::sh(&command).is_ok())
}

/// Goes down and up `rounds` times while every other CPU frees, and a barrier runs.
fn under_load(cpu: i32, rounds: usize) -> Result<bool> {
    let pool = Pool::new(scaled(60_000))?;
    let stop = Atomic::<i32>::new(0);
    let body = |_cpu: i32| {
        let mut i = 0;
        while stop.load(Relaxed) == 0 {
            for object in (0..4).map_while(|_| pool.take()) {
                let route = Route::ATOMIC[i % 3];
                i += 1;
                // SAFETY: Handed out once, with a field there.
                unsafe { route.free(object.start, object.at) };
            }
            thread::still_alive();
        }
    };
    let mut result = Ok(());
    let others = || cpu::online().filter(|&c| c != cpu);
    thread::on_cpus(others(), &body, || {
        for _ in 0..rounds {
            result = free_on(cpu, &pool, Route::Kvfree, 100)
                .and_then(|()| free_on(cpu, &pool, Route::Nolock, 100))
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
    })?;
    result?;
    core::barrier();
    Ok(pool.all_freed())
}

#[kunit_tests(rcu_ptr_hotplug)]
mod tests {
    use super::*;

    #[test]
    fn dead_cpu_has_nothing() -> Result {
        let cpu = or_skip!(cpu::other(), c"needs two CPUs");
        for route in Route::ATOMIC {
            let (freed, empty) = dead_cpu_keeps_nothing(cpu, route)?;
            check!(freed);
            check!(empty);
        }
        Ok(())
    }

    #[test]
    fn frees_on_the_way_down() -> Result {
        let cpu = or_skip!(cpu::other(), c"needs two CPUs");
        for moment in Moment::ALL {
            let (late, after) = freed_on_the_way_down(cpu, moment)?;
            check!(late);
            check!(after);
        }
        Ok(())
    }

    #[test]
    fn sleeps_on_the_way_down() -> Result {
        let cpu = or_skip!(cpu::other(), c"needs two CPUs");
        check!(slept_on_the_way_down(cpu)?);
        Ok(())
    }

    #[test]
    fn nmis_while_it_leaves() -> Result {
        let cpu = or_skip!(cpu::other(), c"needs two CPUs");
        skip_if!(
            !params::is_lockless(),
            c"engine rfc does nothing on the way down"
        );
        check!(or_skip!(
            freed_while_it_closes(cpu)?,
            c"no data breakpoints with a handler of one's own here"
        ));
        Ok(())
    }

    #[test]
    fn armed_when_it_goes_down() -> Result {
        let cpu = or_skip!(cpu::other(), c"needs two CPUs");
        check!(back_with_its_monitor(cpu)?);
        Ok(())
    }

    #[test]
    fn frees_and_stays_up() -> Result {
        let cpu = or_skip!(cpu::other(), c"needs two CPUs");
        check!(freed_on_the_way_back(cpu)?);
        Ok(())
    }

    #[test]
    fn cache_ends_while_down() -> Result {
        let cpu = or_skip!(cpu::other(), c"needs two CPUs");
        for moment in Moment::ALL {
            check!(destroyed_while_down(cpu, moment)?);
        }
        Ok(())
    }

    #[test]
    fn barrier_while_dead() -> Result {
        let cpu = or_skip!(cpu::other(), c"needs two CPUs");
        check!(barrier_behind_a_callback(cpu)?);
        Ok(())
    }

    #[test]
    fn reader_sees_a_cpu_die() -> Result {
        let cpu = or_skip!(cpu::other(), c"needs two CPUs");
        skip_if!(
            cfg!(CONFIG_PREEMPT_RT),
            c"a CPU that goes down waits for readers here"
        );
        for route in Route::ATOMIC {
            check!(dies_under_a_reader(cpu, route)? == 0);
        }
        check!(!cache_dies_under_a_reader(cpu)?);
        Ok(())
    }

    #[test]
    fn barrier_beside_a_cpu_that_dies() -> Result {
        let cpu = or_skip!(cpu::other(), c"needs two CPUs");
        for route in Route::ATOMIC {
            for moment in [Moment::Leaving, Moment::Parked, Moment::Dead] {
                check!(barrier_beside_a_death(cpu, moment, route)? == 0);
            }
        }
        Ok(())
    }

    #[test]
    fn shrinker_beside_a_cpu_that_dies() -> Result {
        let cpu = or_skip!(cpu::other(), c"needs two CPUs");
        let cache = SheafCache::new(c"rcu_ptr_shrunk", 64, Args::default())?;
        for _ in 0..2 {
            for _ in 0..100 {
                let object = cache.alloc(false).ok_or(ENOMEM)?;
                // SAFETY: Just allocated.
                unsafe { cache.free_rcu(object) };
            }
            check!(shrunk_beside_a_death(cpu)?);
        }
        drop(cache);
        Ok(())
    }

    #[test]
    fn up_and_down_under_load() -> Result {
        let cpu = or_skip!(cpu::other(), c"needs two CPUs");
        check!(under_load(cpu, if SLOW { 3 } else { 8 })?);
        Ok(())
    }
}
