// SPDX-License-Identifier: GPL-2.0

//! Memory is short: the shrinker gives blocks back and pushes on what waits; refills pause. And
//! nothing waits longer than the drain interval.

use crate::{
    bound, params,
    pool::{Pool, CAN_LOOK},
    route::Route,
    sys::{alloc, core, core_test, cpu, fault, probes, thread, user},
    SLOW,
};
use kernel::{
    prelude::*,
    str::CString,
    sync::atomic::{Atomic, Relaxed},
};

/// How objects are freed of which a test waits for some.
#[derive(Clone, Copy)]
struct Wait {
    route: Route,
    irqs_off: bool,
    /// Objects that are freed, all on one CPU.
    objects: usize,
    /// How many of them are waited for.
    of_which: u64,
}

impl Wait {
    /// Waits with no barrier, `msecs` milliseconds at most. Returns the milliseconds, `None`: they did
    /// not come in that time.
    fn once(self, msecs: u32) -> Result<Option<u32>> {
        let pool = Pool::new(self.objects)?;
        let probes = probes::Probes::register()?;
        let before = probes::COUNTERS.freed.load(Relaxed);
        let start = Atomic::<i64>::new(0);
        let free_all = |_cpu: i32| {
            let all = || pool.free(self.route, self.objects);
            if self.irqs_off {
                // The monitor is armed by then.
                pool.free(self.route, 1);
                thread::sleep(100);
                start.store(thread::now(), Relaxed);
                cpu::irqs_off(all);
            } else {
                start.store(thread::now(), Relaxed);
                all();
            }
        };
        thread::on_cpus(cpu::online().take(1), &free_all, || ())?;
        let came = thread::wait_for(msecs, || {
            probes::COUNTERS.freed.load(Relaxed) - before >= self.of_which
        });
        let took = (thread::now() - start.load(Relaxed)) / 1_000_000;
        drop(probes);
        core::barrier();
        Ok(came.then_some(took as u32))
    }

    /// Whether they come within `msecs` milliseconds in one of a few tries: a machine that is busy is
    /// late now and then, an engine that makes them wait always.
    fn comes_within(self, msecs: u32) -> Result<bool> {
        let mut longest = 0;
        for _ in 0..5 {
            match self.once(4 * msecs)? {
                Some(took) if took <= msecs => return Ok(true),
                Some(took) => longest = longest.max(took),
                None => longest = 4 * msecs,
            }
            // A monitor that the barrier has armed would help the next try.
            thread::sleep(msecs);
        }
        pr_info!(
            "{} objects by {:?} took {} ms, at most {} are allowed\n",
            self.of_which,
            self.route,
            longest,
            msecs
        );
        Ok(false)
    }
}

/// What comes with no drain interval, in milliseconds. Always less than `below`.
fn soon(below: u32) -> u32 {
    bound::soon_msecs().min(below)
}

/// Objects are freed by the monitor alone: whether in less than two intervals and a few grace periods,
/// by which a factor of four shows.
fn drained_by_monitor(route: Route) -> Result<bool> {
    let _defaults = params::medium_drain()?;
    let wait = Wait {
        route,
        irqs_off: false,
        objects: 100,
        of_which: 100,
    };
    let interval = params::MEDIUM_DRAIN_MSECS;
    let in_time = wait.comes_within(2 * interval + soon(interval))?;
    Ok(in_time)
}

/// A monitor that is armed for ten minutes applies a shorter interval, though no object comes any more:
/// whether everything is freed, with no barrier.
fn shorter_interval_counts(route: Route) -> Result<bool> {
    let pool = Pool::new(30)?;
    let free_ten = || {
        let body = |_cpu: i32| pool.free(route, 10);
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
    let freed = bound::within(params::QUICK_DRAIN_MSECS, || pool.all_freed());
    core::barrier();
    drop((quick, long, quick_again));
    Ok(freed)
}

/// A block's worth does not wait for the drain interval (5 s), nor for a second of it.
fn full_block_hurries(route: Route) -> Result<bool> {
    let wait = Wait {
        route,
        irqs_off: false,
        objects: 1050,
        // The last part of a block may wait.
        of_which: 480,
    };
    wait.comes_within(soon(700))
}

/// As many linked objects don't either.
fn long_list_hurries(route: Route) -> Result<bool> {
    let _defaults = params::no_blocks()?;
    let in_time = full_block_hurries(route)?;
    Ok(in_time)
}

/// Some blocks' worth that came with interrupts off don't wait for a monitor that sleeps for less than
/// a second.
fn crowd_with_irqs_off_hurries(route: Route) -> Result<bool> {
    let _defaults = params::second_drain()?;
    let wait = Wait {
        route,
        irqs_off: true,
        objects: 3000,
        of_which: 1500,
    };
    let in_time = wait.comes_within(soon(500))?;
    Ok(in_time)
}

/// The shrinker makes objects go that would have waited: whether within 3 s, and how often it ran.
fn shrinker_pushes() -> Result<(bool, u64)> {
    let pool = Pool::new(400)?;
    let probes = probes::Probes::register()?;
    let before = probes::COUNTERS.shrinks.load(Relaxed);
    pool.free(Route::Kvfree, 300);
    let shrunk = params::shrink();
    let freed = bound::soon(|| pool.all_freed());
    let ran = probes::COUNTERS.shrinks.load(Relaxed) - before;
    drop(probes);
    shrunk?;
    core::barrier();
    Ok((freed && pool.all_freed(), ran))
}

/// A CPU has an empty block, and nothing else, when the shrinker is called: whether it is left alone, as
/// it has that block still.
fn shrinker_leaves_alone() -> Result<bool> {
    let Some(cpu) = cpu::online().find(|&c| c != cpu::this()) else {
        return Ok(true);
    };
    let _defaults = params::medium_drain()?;
    let mut alone = false;
    // The monitor has put an empty block in the place of the one with objects, and takes that away an
    // interval later: again should it have been in between.
    for _ in 0..8 {
        let pool = Pool::new(10)?;
        let body = |_cpu: i32| pool.free(Route::Kvfree, 10);
        thread::on_cpus(::core::iter::once(cpu), &body, || ())?;
        let drained = bound::watchdog(|| pool.all_freed());
        let before = core_test::first_word(cpu);
        params::shrink()?;
        let has_block = before >> 63 != 0;
        alone = drained && has_block && core_test::first_word(cpu) == before;
        core::barrier();
        if alone {
            break;
        }
    }
    Ok(alone)
}

/// All memory is taken while objects wait: whether all of them were freed.
fn out_of_memory() -> Result<bool> {
    let pool = Pool::new(3000)?;
    pool.free(Route::Kvfree, 1000);
    let hog = alloc::Hog::new(usize::MAX);
    pool.free(Route::Kvfree, 1000);
    drop(hog);
    core::barrier();
    Ok(pool.all_freed())
}

/// Refills after the shrinker wait, then bring a block: how many waited, how many blocks came.
fn refill_after_pressure() -> Result<(u64, u64, bool)> {
    let _defaults = params::short_pause()?;
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
    let end = bound::watchdog_ends();
    while !came() && thread::now() < end {
        params::shrink()?;
        for _ in 0..2 {
            pool.free(Route::Kvfree, 150);
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
    Ok((backoffs, refilled, freed))
}

/// Uses up all spare blocks of a CPU, with interrupts off. Returns how many refills are put off for that.
fn put_off_refills() -> Result<u64> {
    let pool = Pool::new(4000)?;
    let before = probes::COUNTERS.backoffs.load(Relaxed);
    let body = |_cpu: i32| cpu::irqs_off(|| pool.free(Route::Kvfree, pool.len()));
    thread::on_cpus(cpu::online().take(1), &body, || ())?;
    core::barrier();
    Ok(probes::COUNTERS.backoffs.load(Relaxed) - before)
}

/// Memory is short, a refill is put off and has come: whether the next one is not put off.
fn pressure_is_over() -> Result<bool> {
    let _defaults = params::short_pause()?;
    let _probes = probes::Probes::register()?;
    // One that an earlier test has put off comes first.
    let end = bound::watchdog_ends();
    loop {
        let refills = probes::COUNTERS.refills.load(Relaxed);
        params::shrink()?;
        let put_off = put_off_refills()?;
        bound::watchdog(|| probes::COUNTERS.refills.load(Relaxed) > refills);
        if put_off > 0 || thread::now() > end {
            break;
        }
    }
    // The event comes before its end.
    thread::sleep(20);
    Ok(put_off_refills()? == 0)
}

/// Empty blocks are current where objects came from when the limit of blocks becomes 0: whether none is left on
/// `cpu`, which had one.
fn keeps_no_block(cpu: i32) -> Result<bool> {
    let has_block = || core_test::first_word(cpu) >> 63 != 0;
    // As in `shrinker_leaves_alone()`.
    for _ in 0..8 {
        let medium = params::medium_drain()?;
        let pool = Pool::new(10)?;
        let body = |_cpu: i32| pool.free(Route::Kvfree, 10);
        thread::on_cpus(::core::iter::once(cpu), &body, || ())?;
        let drained = bound::watchdog(|| pool.all_freed());
        let had = drained && has_block();
        let none = params::no_cached_blocks()?;
        let has = has_block();
        core::barrier();
        drop((none, medium));
        if had {
            return Ok(!has);
        }
    }
    Err(ETIME)
}

/// The shrinker is asked for one block while the first CPU has some. Returns how many CPUs it looked at.
fn shrinks_by_one() -> Result<u64> {
    let pool = Pool::new(1000)?;
    // Which brings its own blocks.
    let body = |_cpu: i32| pool.free(Route::Mightsleep, pool.len());
    thread::on_cpus(cpu::online().take(1), &body, || ())?;
    core::barrier();
    if !cached_blocks(cpu::online().next().unwrap_or(0)) {
        return Err(ENOMEM);
    }
    let probes = probes::Probes::register()?;
    let before = probes::COUNTERS.shrinks.load(Relaxed);
    let shrunk = user::sh(
        c"for s in /sys/kernel/debug/shrinker/rcu_ptr-krc-*; do echo 0 0 1 >$s/scan; done",
    );
    let looks = probes::COUNTERS.shrinks.load(Relaxed) - before;
    drop(probes);
    shrunk?;
    Ok(looks)
}

/// A headless call of atomic context is refused, as there is no block, and no other call comes after it:
/// whether it was refused, and whether a refill brings blocks to that CPU all the same.
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
            fault::fail_blocks(1, 1);
            // SAFETY: Handed out once; the core's from here on unless it is refused.
            let taken = unsafe { core::try_kfree_nolock(object.start) };
            fault::fail_blocks(0, 0);
            if !taken {
                cpu.store(this, Relaxed);
            }
        });
    };
    thread::on_cpus(cpu::online().take(1), &body, || ())?;
    let cpu = cpu.load(Relaxed);
    let refused = cpu >= 0;
    // One that an earlier test has put off comes first. A timer that far off may be an eighth late.
    let came = refused && bound::within(params::PAUSE_MSECS * 9 / 8, || cached_blocks(cpu));
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
        for route in Route::ATOMIC {
            check!(drained_by_monitor(route)?);
        }
        Ok(())
    }

    #[test]
    fn shorter_interval() -> Result {
        skip_if!(!CAN_LOOK, c"this kernel doesn't show what is freed");
        for route in Route::ATOMIC {
            check!(shorter_interval_counts(route)?);
        }
        Ok(())
    }

    #[test]
    fn full_blocks_do_not_wait() -> Result {
        for route in Route::ATOMIC {
            check!(full_block_hurries(route)?);
        }
        Ok(())
    }

    #[test]
    fn long_lists_do_not_wait() -> Result {
        for route in Route::ATOMIC {
            check!(long_list_hurries(route)?);
        }
        Ok(())
    }

    #[test]
    fn crowds_do_not_wait() -> Result {
        skip_if!(SLOW, c"it takes longer to free a crowd than it may wait");
        for route in Route::ATOMIC {
            check!(crowd_with_irqs_off_hurries(route)?);
        }
        Ok(())
    }

    #[test]
    fn shrinker_frees() -> Result {
        let (freed, ran) = shrinker_pushes()?;
        check!(freed);
        check!(ran > 0);
        Ok(())
    }

    #[test]
    fn shrinker_leaves_idle_cpus_alone() -> Result {
        skip_if!(
            !params::is_lockless(),
            c"engine rfc has nothing closed on other CPUs"
        );
        check!(shrinker_leaves_alone()?);
        Ok(())
    }

    #[test]
    fn shrinker_gives_what_it_is_asked_for() -> Result {
        skip_if!(
            cfg!(not(CONFIG_SHRINKER_DEBUG)),
            c"needs CONFIG_SHRINKER_DEBUG"
        );
        skip_if!(cpu::online().count() < 2, c"needs two CPUs");
        check!(shrinks_by_one()? == 1);
        Ok(())
    }

    #[test]
    fn no_block_is_kept_without_a_limit() -> Result {
        skip_if!(
            !params::is_lockless(),
            c"engine rfc has nothing closed on other CPUs"
        );
        for cpu in cpu::online().take(2) {
            check!(keeps_no_block(cpu)?);
        }
        Ok(())
    }

    #[test]
    fn pressure_passes() -> Result {
        check!(pressure_is_over()?);
        Ok(())
    }

    #[test]
    fn all_memory_taken() -> Result {
        check!(out_of_memory()?);
        Ok(())
    }

    #[test]
    fn refused_call_starts_refill() -> Result {
        let (refused, came) = refused_and_nothing_else()?;
        check!(refused);
        check!(came);
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
        check!(freed);
        check!(backoffs > 0);
        check!(refilled > 0);
        Ok(())
    }
}
