// SPDX-License-Identifier: GPL-2.0

//! CPUs that go down and come up while objects are freed on them.

use crate::{
    memory,
    prelude::*,
    reader::{self, Readers, Seen},
    sys::{
        cpu::DownStep,
        perf::{Breakpoint, Hook, Kind},
    },
};

/// Frees `n` objects in a thread on `cpu`.
fn free_on(cpu: i32, pool: &Pool, free_fn: FreeFn, n: usize) -> Result {
    cpus::on(cpu, || pool.free(free_fn, n))
}

/// Queues objects on a CPU, takes it down, and waits for them without a barrier. Only the hotplug
/// callback frees them: they are too few for the fast monitor, and the drain interval is long. It
/// has to free cached blocks, too.
fn dead_cpu_keeps_nothing(cpu: i32, free_fn: FreeFn) -> Result {
    let _restore = params::no_drain()?;
    let pool = Pool::new(400)?;
    free_on(cpu, &pool, free_fn, 300)?;
    // By then refills are done.
    thread::sleep(20);
    let down = Down::take(cpu)?;
    let freed = bound::soon(|| pool.all_freed());
    // Blocks of the batch must not be cached on the dead CPU.
    let empty = memory::stats_match(cpu, "now_cached=0");
    down.up()?;
    core::barrier();
    check!(freed && pool.all_freed())?;
    check!(empty)
}

fn free_three(pool: &Pool) {
    [FreeFn::Nolock, FreeFn::Call, FreeFn::CallSleepable].map(|free_fn| pool.free(free_fn, 1));
}

/// Frees objects on a CPU that no longer runs irq_works, as an interrupt or an NMI may. The hotplug
/// callback has to free them while the CPU is down; when it is back the monitor must work again.
fn freed_on_the_way_down(cpu: i32, moment: DownStep) -> Result {
    let restore = params::no_drain()?;
    let pool = Pool::new(40)?;
    let down = Down::take_with(cpu, moment, &|| free_three(&pool))?;
    let late = pool.taken() == 3 && bound::soon(|| pool.all_freed());
    drop(restore);
    let _restore = params::quick_drain()?;
    down.up()?;
    free_on(cpu, &pool, FreeFn::Nolock, 3)?;
    let after = bound::within(params::QUICK_DRAIN_MSECS, || pool.all_freed());
    core::barrier();
    check!(late)?;
    check!(after && pool.all_freed())
}

/// Destroys a cache while a CPU is down that used it when it could no longer run irq_works. The
/// destruction must not wait until the CPU is back.
fn destroy_while_down(cpu: i32, moment: DownStep) -> Result {
    let cache = SheafCache::new(c"rcu_ptr_down", 64, sheaves(4, 0))?;
    let objects = cache.alloc_many(20)?;
    // SAFETY: Objects of this cache, each freed once, as the CPU goes down once.
    let body = || unsafe { cache.free_rcu_all(&objects) };
    // The thread below brings it up.
    ::core::mem::forget(Down::take_with(cpu, moment, &body)?);
    let (destroyed, in_time) = (Atomic::<i32>::new(0), Atomic::<i32>::new(0));
    let body = |_cpu: i32| {
        let ended = bound::wait_with_timeout(|| destroyed.load(Relaxed) != 0);
        let up = cpu::bring_up(cpu).is_ok();
        in_time.store(i32::from(ended && up), Relaxed);
    };
    thread::on_cpus(::core::iter::once(0), &body, || {
        drop(cache);
        destroyed.store(1, Relaxed);
    })?;
    check!(in_time.load(Relaxed) != 0)
}

/// A reader enters on CPU 0 while `cpu` is going down, too late for the kernel to wait for it; then
/// `free` runs on `cpu`, and when it is dead `meanwhile`.
fn dies_beside_a_reader<R>(
    cpu: i32,
    pool: &Pool,
    free: &(dyn Fn() + Sync),
    meanwhile: impl FnOnce(&Readers) -> R,
) -> Result<(Seen, R)> {
    let mut result = Err(EINVAL);
    let seen = reader::watch_late(pool, 0, |readers| {
        let body = || {
            readers.enter();
            free();
        };
        // A limit, in case the kernel waits for it after all.
        readers.leave_in(5000);
        let down = Down::take_with(cpu, DownStep::Leaving, &body);
        result = down.map(|down| (down, meanwhile(readers)));
    })?;
    let (down, ret) = result?;
    down.up()?;
    Ok((seen, ret))
}

/// Objects are freed on a CPU that dies, beside a reader: it finds none broken.
fn dies_under_a_reader(cpu: i32, free_fn: FreeFn) -> Result {
    let _restore = params::no_drain()?;
    let pool = Pool::new(200)?;
    let free = || pool.free(free_fn, 150);
    let (seen, inside) = dies_beside_a_reader(cpu, &pool, &free, |readers| {
        let inside = readers.inside();
        readers.leave_in(150);
        while readers.inside() > 0 {
            thread::sleep(2);
        }
        inside
    })?;
    core::barrier();
    check!(inside > 0 && seen.broken == 0 && pool.all_freed())
}

/// Objects of a cache are freed on a CPU that dies, beside a reader: none is reused under it.
fn cache_dies_under_a_reader(cpu: i32) -> Result {
    let _restore = params::no_drain()?;
    let cache = SheafCache::new(c"rcu_ptr_dies", 64, Args::default())?;
    let waiting = cache.alloc_many(10)?;
    let pool = Pool::new(1)?;
    let mut early = false;
    let mut taken = KVec::with_capacity(300, GFP_KERNEL)?;
    // SAFETY: Objects of this cache, each freed once, as the CPU goes down once.
    let free = || unsafe { cache.free_rcu_all(&waiting) };
    let (_, inside) = dies_beside_a_reader(cpu, &pool, &free, |readers| {
        for object in (0..300).map_while(|_| cache.hold().ok()) {
            early |= waiting.contains(&object.start());
            if taken.push(object, GFP_KERNEL).is_err() {
                break;
            }
        }
        readers.inside()
    })?;
    check!(inside > 0 && !early)
}

/// A barrier starts while a CPU with queued objects, also of a cache, is going down. It has to free
/// all of them.
fn barrier_while_cpu_dies(cpu: i32, moment: DownStep, free_fn: FreeFn) -> Result {
    let _restore = params::no_drain()?;
    let pool = Pool::new(200)?;
    free_on(cpu, &pool, free_fn, 150)?;
    let cache = SheafCache::new(c"rcu_ptr_beside", 64, Args::default())?;
    let waiting = cache.alloc_many(100)?;
    // SAFETY: Objects of this cache, each freed once.
    cpus::on(cpu, || unsafe { cache.free_rcu_all(&waiting) })?;
    let (begin, left) = (Atomic::<i32>::new(0), Atomic::<usize>::new(0));
    let barrier = |_cpu: i32| {
        bound::wait_with_timeout(|| begin.load(Relaxed) != 0);
        core::barrier();
        let stats = cache.stats();
        let of_cache = stats.now_rcu + stats.now_closed + stats.now_waiting;
        left.store(pool.unfreed(pool.taken()) + of_cache as usize, Relaxed);
    };
    let body = || {
        begin.store(1, Relaxed);
        // Give the barrier time to get as far as it can. Not by a sleep: on PREEMPT_RT the thread
        // that would end it may be parked already.
        cpus::spin(20_000_000, || false);
    };
    let down = thread::on_cpus(::core::iter::once(0), &barrier, || {
        Down::take_with(cpu, moment, &body)
    })?;
    down?.up()?;
    core::barrier();
    check!(left.load(Relaxed) == 0 && pool.all_freed())
}

/// The shrinkers are called while a CPU goes down, and find the hotplug lock taken. Later hotplug
/// operations, and lockdep, show whether they leave the lock alone.
fn shrink_while_cpu_dies(cpu: i32) -> Result {
    let (begin, shrunk) = (Atomic::<i32>::new(0), Atomic::<i32>::new(0));
    let shrink = |_cpu: i32| {
        if bound::wait_with_timeout(|| begin.load(Relaxed) != 0) && params::shrink().is_ok() {
            shrunk.store(1, Relaxed);
        }
        begin.store(0, Relaxed);
    };
    let body = || {
        begin.store(1, Relaxed);
        bound::wait_with_timeout(|| begin.load(Relaxed) == 0);
    };
    let (down, beside) = thread::on_cpus(::core::iter::once(0), &shrink, || {
        let down = Down::take_with(cpu, DownStep::Leaving, &body);
        (down, shrunk.load(Relaxed) != 0)
    })?;
    down?.up()?;
    check!(beside)
}

#[kunit_tests(rcu_ptr_hotplug)]
mod tests {
    use super::*;

    #[test]
    fn dead_cpu_has_nothing() -> Result {
        let cpu = other_cpu!();
        FreeFn::ATOMIC
            .into_iter()
            .try_for_each(|free_fn| dead_cpu_keeps_nothing(cpu, free_fn))
    }

    #[test]
    fn frees_on_the_way_down() -> Result {
        let cpu = other_cpu!();
        DownStep::ALL
            .into_iter()
            .try_for_each(|moment| freed_on_the_way_down(cpu, moment))
    }

    /// Frees by the function that may sleep on a CPU that is going down and opens no more blocks:
    /// the objects are freed while it is down.
    #[test]
    fn sleeps_on_the_way_down() -> Result {
        let cpu = other_cpu!();
        let _restore = params::no_drain()?;
        let pool = Pool::new(10)?;
        let down = Down::take_with(cpu, DownStep::Ended, &|| pool.free(FreeFn::Mightsleep, 2))?;
        let freed = pool.taken() == 2 && bound::soon(|| pool.all_freed());
        down.up()?;
        core::barrier();
        check!(freed && pool.all_freed())
    }

    /// An NMI frees an object after each write to the current word of a CPU that is going down, as
    /// when it closes its block: the objects are freed while it is down.
    #[test]
    fn nmis_while_it_leaves() -> Result {
        let cpu = other_cpu!();
        skip_if!(
            !params::is_lockless(),
            c"engine rfc does nothing on the way down"
        );
        let _restore = params::no_drain()?;
        let pool = Pool::new(40)?;
        free_on(cpu, &pool, FreeFn::Kvfree, 3)?;
        // By then the monitor is armed.
        thread::sleep(20);
        let in_nmi = || pool.free(FreeFn::Nolock, 1);
        let hook = Hook::new(&in_nmi);
        let word = core_test::words(cpu).next().unwrap_or(0);
        let Ok(breakpoint) = Breakpoint::new(Kind::Write, word, &hook) else {
            core::barrier();
            skip!(c"no data breakpoints with a handler of one's own here");
        };
        let down = Down::take(cpu);
        drop(breakpoint);
        let down = down?;
        let freed = pool.taken() > 3 && bound::soon(|| pool.all_freed());
        down.up()?;
        core::barrier();
        check!(freed && pool.all_freed())
    }

    /// Takes a CPU down while its monitor is armed, and brings it up with the same drain interval:
    /// objects that are queued later are drained.
    #[test]
    fn armed_when_it_goes_down() -> Result {
        let cpu = other_cpu!();
        let (_restore, msecs) = params::slow_drain()?;
        let pool = Pool::new(10)?;
        free_on(cpu, &pool, FreeFn::Kvfree, 1)?;
        // By then the monitor is armed.
        thread::sleep(20);
        Down::take(cpu)?.up()?;
        free_on(cpu, &pool, FreeFn::Nolock, 3)?;
        let freed = bound::within(2 * msecs, || pool.all_freed());
        core::barrier();
        check!(freed && pool.taken() == 4 && pool.all_freed())
    }

    /// Frees on a CPU that is going down and then rolled back, so that it does not die: the monitor
    /// drains it, though its irq_work could not be queued, and no other object is queued.
    #[test]
    fn frees_and_stays_up() -> Result {
        let cpu = other_cpu!();
        let _restore = params::quick_drain()?;
        let pool = Pool::new(40)?;
        let body = || {
            free_three(&pool);
            Err(EBUSY)
        };
        let down = cpu::at_down_step(DownStep::Parked, &body, || cpu::take_down(cpu))?;
        let freed = bound::within(params::QUICK_DRAIN_MSECS, || pool.all_freed());
        core::barrier();
        check!(down.is_err() && pool.taken() == 3)?;
        check!(freed && pool.all_freed())
    }

    #[test]
    fn cache_ends_while_down() -> Result {
        let cpu = other_cpu!();
        DownStep::ALL
            .into_iter()
            .try_for_each(|moment| destroy_while_down(cpu, moment))
    }

    /// A hotplug callback for a dead CPU that runs before the core's waits for a barrier in another
    /// task, which must return with the objects of that CPU freed, and not only after the core's
    /// callback.
    #[test]
    fn barrier_while_dead() -> Result {
        let cpu = other_cpu!();
        let _restore = params::no_drain()?;
        let pool = Pool::new(40)?;
        // 1: the CPU is dead; 2: the barrier has returned.
        let stage = Atomic::<i32>::new(0);
        let in_time = Atomic::<i32>::new(0);
        let waits = |_cpu: i32| {
            if bound::wait_with_timeout(|| stage.load(Relaxed) != 0) {
                core::barrier();
            }
            stage.store(2, Relaxed);
        };
        let dead = || {
            stage.store(1, Relaxed);
            let ended = bound::wait_with_timeout(|| stage.load(Relaxed) == 2);
            in_time.store(i32::from(ended && pool.all_freed()), Relaxed);
        };
        let down = thread::on_cpus(::core::iter::once(0), &waits, || {
            let down = free_on(cpu, &pool, FreeFn::Nolock, 3)
                .and_then(|()| Down::take_with(cpu, DownStep::Dead, &dead));
            // In case the CPU did not die: stops the task.
            stage.store(2, Relaxed);
            down
        })?;
        down?.up()?;
        core::barrier();
        check!(in_time.load(Relaxed) != 0 && pool.all_freed())
    }

    #[test]
    fn reader_sees_a_cpu_die() -> Result {
        let cpu = other_cpu!();
        skip_if!(
            cfg!(CONFIG_PREEMPT_RT),
            c"a CPU that goes down waits for readers here"
        );
        for free_fn in FreeFn::ATOMIC {
            dies_under_a_reader(cpu, free_fn)?;
        }
        cache_dies_under_a_reader(cpu)
    }

    #[test]
    fn barrier_beside_a_cpu_that_dies() -> Result {
        let cpu = other_cpu!();
        for free_fn in FreeFn::ATOMIC {
            for moment in [DownStep::Leaving, DownStep::Parked, DownStep::Dead] {
                barrier_while_cpu_dies(cpu, moment, free_fn)?;
            }
        }
        Ok(())
    }

    #[test]
    fn shrinker_beside_a_cpu_that_dies() -> Result {
        let cpu = other_cpu!();
        let cache = SheafCache::new(c"rcu_ptr_shrunk", 64, Args::default())?;
        for _ in 0..2 {
            for _ in 0..100 {
                drop(cache.hold()?);
            }
            shrink_while_cpu_dies(cpu)?;
        }
        Ok(())
    }

    /// A CPU goes down and up while all others free, with barriers.
    #[test]
    fn up_and_down_under_load() -> Result {
        let cpu = other_cpu!();
        let pool = Pool::new(scaled(60_000))?;
        let turn = |_cpu: i32, i: usize| pool.free(FreeFn::ATOMIC[i % 3], 1);
        let once = |_| {
            free_on(cpu, &pool, FreeFn::Kvfree, 100)?;
            free_on(cpu, &pool, FreeFn::Nolock, 100)?;
            let down = Down::take(cpu)?;
            core::barrier();
            down.up()
        };
        let others = cpu::online().filter(|&c| c != cpu);
        cpus::meanwhile(others, &turn, || {
            (0..if SLOW { 3 } else { 8 }).try_for_each(once)
        })??;
        core::barrier();
        check!(pool.all_freed())
    }
}
