// SPDX-License-Identifier: GPL-2.0

//! Behaviour under load: the time from call to free, and tasks that migrate in the middle of calls.

use crate::{
    pool::{Object, ObjectState},
    prelude::*,
    sys::thread::Movable,
};

const MSEC: i64 = 1_000_000;

/// `params::second_drain()`.
const INTERVAL: i64 = 960 * MSEC;

/// Objects that are timed, one each [`EVERY`]: for two drain intervals, or three.
fn timed_objects() -> usize {
    by_length(40, 60)
}

const EVERY: i64 = 50 * MSEC;

/// An object that is being timed.
#[derive(Clone, Copy)]
struct Timed {
    object: Object,
    /// When it was queued.
    called: i64,
    /// The time until it was freed; 0: not freed yet.
    delay: i64,
}

/// The sorted delays of objects that are freed by `free_fn` on one CPU, in nanoseconds; and the
/// longest that a grace period or a poll took there meanwhile.
fn delays(free_fn: FreeFn) -> Result<(KVec<i64>, i64)> {
    // Polls show how long the host deschedules this CPU.
    thread::stay_here();
    let restore = params::second_drain()?;
    let count = timed_objects();
    let pool = Pool::new(count)?;
    let mut all = KVec::<Timed>::with_capacity(count, GFP_KERNEL)?;
    let mut slowest = 0;
    let start = thread::now();
    let mut last = start;
    // Ten intervals after the last call an object counts as lost.
    while all
        .last()
        .is_none_or(|timed| last - timed.called < 10 * INTERVAL)
    {
        if last - start >= EVERY * all.len() as i64 {
            if let Some(object) = pool.take() {
                let called = thread::now();
                // SAFETY: Handed out once, with a field at `at`.
                unsafe { free_fn.free(object.start, object.at) };
                let delay = 0;
                let timed = Timed {
                    object,
                    called,
                    delay,
                };
                all.push(timed, GFP_KERNEL)?;
            }
            let before = thread::now();
            gp::synchronize();
            slowest = slowest.max(thread::now() - before);
        } else {
            thread::sleep(2);
        }
        let now = thread::now();
        for timed in all.iter_mut().filter(|timed| timed.delay == 0) {
            if timed.object.state() == ObjectState::Freed {
                timed.delay = now - timed.called;
            }
        }
        slowest = slowest.max(now - last);
        last = now;
        if all.len() == count && all.iter().all(|timed| timed.delay != 0) {
            break;
        }
    }
    drop(restore);
    core::barrier();
    let mut delays = KVec::with_capacity(count, GFP_KERNEL)?;
    for timed in all.iter() {
        let is_freed = timed.delay != 0;
        delays.push(if is_freed { timed.delay } else { i64::MAX }, GFP_KERNEL)?;
    }
    delays.sort_unstable();
    Ok((delays, slowest))
}

/// The delay of an object that is queued right before the drain interval becomes shorter, in
/// nanoseconds; and the longest that a poll took.
///
/// A block of objects is queued before, with interrupts off. When it has been collected the monitor
/// runs after twice as long each time: 1.4 s later it is armed, for less than the new interval.
fn delay_of_shorter_interval(free_fn: FreeFn) -> Result<(i64, i64)> {
    thread::stay_here();
    let before = params::no_drain()?;
    let pool = Pool::new(600)?;
    cpu::irqs_off(|| pool.free(free_fn, pool.len() - 1));
    thread::sleep(1400);
    let object = pool.take().ok_or(ENOMEM)?;
    // SAFETY: As above.
    unsafe { free_fn.free(object.start, object.at) };
    let restore = params::second_drain()?;
    let called = thread::now();
    let (mut last, mut slowest) = (called, 0);
    while object.state() != ObjectState::Freed && last - called < 10 * INTERVAL {
        thread::sleep(2);
        let now = thread::now();
        slowest = slowest.max(now - last);
        last = now;
    }
    drop((before, restore));
    core::barrier();
    Ok((last - called, slowest))
}

/// Migrations that even a busy host gets to, as the tasks wait for them.
const MIN_MIGRATIONS: usize = 100;

/// Tasks that free objects of `pool` and use `cache` are migrated all the time. Returns the number
/// of migrations.
fn free_while_migrating(pool: &Pool, cache: &SheafCache) -> Result<usize> {
    let twice = Iterator::chain(cpu::online(), cpu::online());
    let tasks = [const { Movable::new() }; 16];
    let next = Atomic::<usize>::new(0);
    let busy = Atomic::<usize>::new(0);
    let migrations = Atomic::<usize>::new(0);
    let end = thread::now() + 20_000 * MSEC;
    let body = |_cpu: i32| {
        let Some(task) = tasks.get(next.fetch_add(1, Relaxed)) else {
            return;
        };
        busy.fetch_add(1, Relaxed);
        task.during(|| {
            let mut i = 0;
            loop {
                if pool.taken() < pool.len() {
                    pool.free(FreeFn::ATOMIC[i % 3], 1);
                } else if migrations.load(Relaxed) > MIN_MIGRATIONS || thread::now() > end {
                    break;
                }
                drop(cache.hold_nolock().or_else(|| cache.hold().ok()));
                i += 1;
                if i % 256 == 0 {
                    thread::still_alive();
                }
            }
        });
        busy.fetch_sub(1, Relaxed);
    };
    thread::on_cpus(twice.take(tasks.len()), &body, || {
        let mut to = cpu::online().cycle();
        while pool.taken() < pool.len() || busy.load(Relaxed) > 0 {
            for task in &tasks {
                let moved = to.next().is_some_and(|cpu| task.move_to(cpu));
                migrations.fetch_add(usize::from(moved), Relaxed);
                // Shift the tasks against the CPUs.
                to.next();
            }
            to.next();
            thread::still_alive();
        }
    })?;
    core::barrier();
    Ok(migrations.load(Relaxed))
}

#[kunit_tests(rcu_ptr_load)]
mod tests {
    use super::*;

    #[test]
    fn from_call_to_free() -> Result {
        skip_if!(!FREES_ARE_VISIBLE, c"freed objects cannot be seen here");
        for free_fn in FreeFn::ATOMIC {
            let (delays, slowest) = delays(free_fn)?;
            let at = |percent: usize| delays[(delays.len() - 1) * percent / 100] / MSEC;
            pr_info!(
                "{free_fn:?}: freed after {} ms (median), {} (p90), {} (p99), {} at most; interval \
                 {}, grace periods and looks {} at most\n",
                at(50),
                at(90),
                at(99),
                at(100),
                INTERVAL / MSEC,
                slowest / MSEC
            );
            // A drain interval, a grace period and the worker, but no second interval.
            check!(at(100) * MSEC <= INTERVAL + INTERVAL / 2 + slowest)?;
        }
        Ok(())
    }

    #[test]
    fn from_call_to_free_in_a_shorter_interval() -> Result {
        skip_if!(!FREES_ARE_VISIBLE, c"freed objects cannot be seen here");
        for free_fn in FreeFn::ATOMIC {
            let (delay, slowest) = delay_of_shorter_interval(free_fn)?;
            pr_info!(
                "{free_fn:?}: freed {} ms after the interval became {}; looks {} at most\n",
                delay / MSEC,
                INTERVAL / MSEC,
                slowest / MSEC
            );
            check!(delay <= INTERVAL + INTERVAL / 2 + slowest)?;
        }
        Ok(())
    }

    #[test]
    fn tasks_that_move() -> Result {
        skip_if!(cpu::online().count() < 2, c"there is one CPU");
        let pool = Pool::new(scaled(50_000))?;
        let cache = SheafCache::new(c"rcu_ptr_kunit_moved", 64, Args::default())?;
        let migrations = free_while_migrating(&pool, &cache)?;
        pr_info!("{} objects freed, {migrations} migrations\n", pool.taken());
        check!(migrations > MIN_MIGRATIONS)?;
        check!(pool.all_freed())?;
        // The destruction of the cache reports objects that are missing.
        Ok(())
    }
}
