// SPDX-License-Identifier: GPL-2.0

//! Memory is short: the shrinker gives blocks back and pushes on what waits; refills pause. And
//! nothing waits longer than the drain interval.

use crate::{
    params,
    pool::{Pool, CAN_LOOK},
    route::Route,
    sys::{cache, core, cpu, mem, probes, skip::skip, thread, user},
};
use kernel::{
    prelude::*,
    str::CString,
    sync::atomic::{Atomic, Relaxed},
};

fn free(pool: &Pool, route: Route, n: usize) {
    for object in (0..n).map_while(|_| pool.take()) {
        // SAFETY: Handed out once, with a field there.
        unsafe { route.free(object.start, object.at) };
    }
}

/// Objects are freed by the monitor alone, with no barrier: whether at all, however slow all is.
fn drained_by_monitor(route: Route) -> Result<bool> {
    let defaults = params::quick_drain()?;
    let pool = Pool::new(300)?;
    free(&pool, route, 100);
    let freed = thread::wait_for(60_000, || pool.all_freed());
    core::barrier();
    drop(defaults);
    Ok(freed)
}

/// A monitor that is armed for ten minutes heeds a shorter interval, though no object comes any more:
/// whether everything is freed, with no barrier.
fn shorter_interval_counts(route: Route) -> Result<bool> {
    let pool = Pool::new(30)?;
    let free_ten = || {
        let body = |_cpu: i32| free(&pool, route, 10);
        thread::on_cpus(cpu::online().take(1), &body, || ())
    };
    // What others have queued there is gone, and its monitor with it.
    let quick = params::quick_drain()?;
    free_ten()?;
    core::barrier();
    thread::sleep(200);
    let long = params::no_drain()?;
    free_ten()?;
    // That the tick has armed it, too.
    thread::sleep(100);
    let quick_again = params::quick_drain()?;
    let freed = thread::wait_for(60_000, || pool.all_freed());
    core::barrier();
    drop((quick, long, quick_again));
    Ok(freed)
}

/// A block's worth does not wait for the drain interval (5 s): whether within 3 s.
fn full_block_hurries(route: Route) -> Result<bool> {
    let pool = Pool::new(1100)?;
    free(&pool, route, 1050);
    let freed = thread::wait_for(3000, || {
        // The last part of a block may wait.
        pool.objects().iter().filter(|o| !o.is_live()).count() >= 500
    });
    core::barrier();
    Ok(freed)
}

/// The shrinker makes objects go that would have waited: whether within 3 s, and how often it ran.
fn shrinker_pushes() -> Result<(bool, u64)> {
    let pool = Pool::new(400)?;
    let probes = probes::Probes::register()?;
    let before = probes::COUNTERS.shrinks.load(Relaxed);
    free(&pool, Route::Kvfree, 300);
    let shrunk = params::shrink();
    let freed = thread::wait_for(3000, || pool.all_freed());
    let ran = probes::COUNTERS.shrinks.load(Relaxed) - before;
    drop(probes);
    shrunk?;
    core::barrier();
    Ok((freed && pool.all_freed(), ran))
}

/// All memory is taken while objects wait: whether all of them were freed.
fn out_of_memory() -> Result<bool> {
    let pool = Pool::new(3000)?;
    free(&pool, Route::Kvfree, 1000);
    let hog = mem::Hog::new(usize::MAX);
    free(&pool, Route::Kvfree, 1000);
    drop(hog);
    core::barrier();
    Ok(pool.all_freed())
}

/// Refills after the shrinker wait, then bring a block: how many waited, how many blocks came.
fn refill_after_pressure() -> Result<(u64, u64, bool)> {
    let defaults = params::short_pause()?;
    let probes = probes::Probes::register()?;
    let backoffs = probes::COUNTERS.backoffs.load(Relaxed);
    let refilled = probes::COUNTERS.refilled.load(Relaxed);
    // A refill that an earlier test has put off comes first, and objects that come back bring
    // blocks with them: again until it is seen.
    let came = || {
        probes::COUNTERS.backoffs.load(Relaxed) > backoffs
            && probes::COUNTERS.refilled.load(Relaxed) > refilled
    };
    let mut pool = Pool::new(300)?;
    let mut freed = true;
    let end = thread::now() + 20_000_000_000;
    while !came() && thread::now() < end {
        params::shrink()?;
        for _ in 0..2 {
            free(&pool, Route::Kvfree, 150);
            thread::wait_for(150, came);
        }
        core::barrier();
        freed &= pool.all_freed();
        pool.renew()?;
    }
    let backoffs = probes::COUNTERS.backoffs.load(Relaxed) - backoffs;
    let refilled = probes::COUNTERS.refilled.load(Relaxed) - refilled;
    drop(probes);
    core::barrier();
    drop(defaults);
    Ok((backoffs, refilled, freed))
}

/// Whether a test can tell; it is skipped otherwise.
fn can_look() -> bool {
    if !CAN_LOOK {
        skip(c"this kernel doesn't show what is freed");
    }
    CAN_LOOK
}

/// A headless call of atomic context is refused, as there is no block to be had, and no other call
/// comes after it: whether it was refused, and whether a refill brings blocks to that CPU all the same.
fn refused_and_nothing_else() -> Result<(bool, bool)> {
    // Blocks are neither cached nor being filled, and the monitors have gone idle.
    let quick = params::quick_drain()?;
    let pause = params::short_pause()?;
    let none = params::no_blocks()?;
    core::barrier();
    params::shrink()?;
    core::barrier();
    thread::sleep(300);
    let long = params::no_drain()?;
    params::some_blocks()?;
    let pool = Pool::new(1)?;
    let cpu = Atomic::<i32>::new(-1);
    let body = |this: i32| {
        let Some(object) = pool.take() else { return };
        cpu::irqs_off(|| {
            cache::fail_blocks(1, 1);
            // SAFETY: Handed out once; the core's from here on unless it is refused.
            let taken = unsafe { core::try_kfree_nolock(object.start) };
            cache::fail_blocks(0, 0);
            if !taken {
                cpu.store(this, Relaxed);
            }
        });
    };
    thread::on_cpus(cpu::online().take(1), &body, || ())?;
    let cpu = cpu.load(Relaxed);
    let refused = cpu >= 0;
    let came = refused && thread::wait_for(20_000, || cached_blocks(cpu));
    if refused {
        for object in pool.objects() {
            // SAFETY: It is this test's still.
            unsafe { Route::Mightsleep.free(object.start, object.at) };
        }
    }
    core::barrier();
    drop((long, none, pause, quick));
    Ok((refused, came))
}

/// Whether the statistics say that `cpu` has cached blocks.
fn cached_blocks(cpu: i32) -> bool {
    CString::try_from_fmt(fmt!(
        "grep -q '^cpu={} .*now_cached=[1-9]' /sys/kernel/debug/rcu_ptr/stats",
        cpu
    ))
    .is_ok_and(|command| user::sh(&command).is_ok())
}

#[kunit_tests(rcu_ptr_reclaim)]
mod tests {
    use super::*;

    #[test]
    fn monitor_drains() -> Result {
        if can_look() {
            for route in Route::ATOMIC {
                let freed = drained_by_monitor(route)?;
                assert!(freed);
            }
        }
        Ok(())
    }

    #[test]
    fn shorter_interval() -> Result {
        if can_look() {
            for route in Route::ATOMIC {
                let freed = shorter_interval_counts(route)?;
                assert!(freed);
            }
        }
        Ok(())
    }

    #[test]
    fn full_blocks_do_not_wait() -> Result {
        if can_look() {
            for route in Route::ATOMIC {
                let freed = full_block_hurries(route)?;
                assert!(freed);
            }
        }
        Ok(())
    }

    #[test]
    fn shrinker_frees() -> Result {
        let (freed, ran) = shrinker_pushes()?;
        assert!(freed);
        assert!(ran > 0);
        Ok(())
    }

    #[test]
    fn all_memory_taken() -> Result {
        let freed = out_of_memory()?;
        assert!(freed);
        Ok(())
    }

    #[test]
    fn refused_call_starts_refill() -> Result {
        let (refused, came) = refused_and_nothing_else()?;
        assert!(refused);
        assert!(came);
        Ok(())
    }

    #[test]
    fn refills_pause_after_pressure() -> Result {
        let (backoffs, refilled, freed) = refill_after_pressure()?;
        pr_info!(
            "after pressure: {} refills put off, {} blocks came\n",
            backoffs,
            refilled
        );
        assert!(freed);
        assert!(backoffs > 0);
        assert!(refilled > 0);
        Ok(())
    }
}
