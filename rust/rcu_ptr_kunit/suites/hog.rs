// SPDX-License-Identifier: GPL-2.0

//! A FIFO task that never leaves its CPU, while an interrupt frees objects there. No kworker, no softirq
//! and, on PREEMPT_RT, no irq_work of that CPU runs meanwhile; what waits has a bound all the same.

use crate::{
    bound,
    pool::{Look, Pool, CAN_LOOK},
    route::Route,
    scaled,
    sys::{
        alloc,
        cache::{Args, SheafCache},
        core, cpu, gp, thread,
        timer::{self, Where},
    },
    table::SIZE,
};
use kernel::{
    prelude::*,
    sync::atomic::{Acquire, Atomic, Relaxed, Release},
};

/// Objects that one interrupt frees, and the time between two of them.
const BURST: usize = 64;
const NSECS: u64 = 200_000;

/// Objects that may wait as long as the task is there: what an engine lets wait before it does without
/// a thread (eight blocks), what it collects then, and as much again.
const MAX_LEFT: usize = 3 * 4096;

/// Sheaves of a cache that may.
const MAX_SHEAVES: u64 = 48;

/// Has an interrupt on `cpu` call `burst` until that returns `false`, beside a FIFO task that stays until
/// `meanwhile` has returned. That is called when the last burst is over, with the milliseconds that a
/// grace period takes beside the task.
fn beside_hog<R>(
    cpu: i32,
    burst: &(dyn Fn() -> bool + Sync),
    meanwhile: impl FnOnce(u32) -> R,
) -> Result<R> {
    // On PREEMPT_RT timers expire in a thread of their CPU.
    thread::move_to(0);
    let (over, stop) = (Atomic::<i32>::new(0), Atomic::<i32>::new(0));
    let handler = || {
        if over.load(Relaxed) == 0 && !burst() {
            // ORDERING: Release pairs with the acquire below: all is freed.
            over.store(1, Release);
        }
    };
    let body = |_: i32| {
        thread::be_urgent();
        let spin = || {
            while stop.load(Relaxed) == 0 {
                ::core::hint::spin_loop();
            }
        };
        if timer::every(Where::Hardirq, NSECS, &handler, spin).is_err() {
            over.store(-1, Relaxed);
            spin();
        }
    };
    let mut ret = None;
    thread::on_cpus(::core::iter::once(cpu), &body, || {
        let start = thread::now();
        gp::synchronize();
        let msecs = ((thread::now() - start) / 1_000_000) as u32;
        if bound::watchdog(|| over.load(Acquire) != 0) && over.load(Relaxed) == 1 {
            ret = Some(meanwhile(msecs));
        }
        stop.store(1, Relaxed);
    })?;
    ret.ok_or(ETIMEDOUT)
}

/// How many objects of a pool are left while the task is there, after a time that is long enough.
fn left_by_engine(cpu: i32, objects: usize) -> Result<usize> {
    let pool = Pool::new(objects)?;
    let burst = || {
        for i in 0..BURST {
            let Some(object) = pool.take() else {
                return false;
            };
            // SAFETY: Handed out once, with a field there.
            unsafe { Route::FREES[i % 2].free(object.start, object.at) };
        }
        true
    };
    let left = || {
        let all = pool.objects().iter();
        all.filter(|object| object.look() != Look::Freed).count()
    };
    let left = beside_hog(cpu, &burst, |gp_msecs| {
        thread::wait_for(20 * gp_msecs + 2000, || left() <= MAX_LEFT);
        left()
    })?;
    core::barrier();
    check!(pool.all_freed());
    Ok(left)
}

/// The same of a cache: sheaves that wait, or are to.
fn left_by_cache(cpu: i32, objects: usize) -> Result<u64> {
    let cache = SheafCache::new(c"rcu_ptr_hogged", SIZE, Args::default())?;
    let held = cache.alloc_many(objects)?;
    let next = Atomic::<usize>::new(0);
    let burst = || {
        for _ in 0..BURST {
            let Some(&object) = held.get(next.fetch_add(1, Relaxed)) else {
                return false;
            };
            // SAFETY: From this cache, and each is taken once.
            unsafe { cache.free_rcu(object) };
        }
        true
    };
    let left = || {
        let stats = cache.stats();
        stats.now_closed + stats.now_waiting
    };
    beside_hog(cpu, &burst, |gp_msecs| {
        thread::wait_for(20 * gp_msecs + 2000, || left() <= MAX_SHEAVES);
        left()
    })
}

#[kunit_tests(rcu_ptr_hog)]
mod tests {
    use super::*;

    #[test]
    fn engine() -> Result {
        let other = or_skip!(cpu::other(), c"needs two CPUs");
        skip_if!(!CAN_LOOK, c"freed objects cannot be seen here");
        let objects = scaled(100_000);
        let left = left_by_engine(other, objects)?;
        kernel::kunit::info(fmt!(
            "rcu_ptr_hog: {left} of {objects} objects are left beside the task\n"
        ));
        check!(left <= MAX_LEFT);
        Ok(())
    }

    #[test]
    fn cache() -> Result {
        let other = or_skip!(cpu::other(), c"needs two CPUs");
        skip_if!(
            !alloc::objects_go_round(),
            c"this kernel checks what is freed"
        );
        let objects = scaled(100_000);
        let left = left_by_cache(other, objects)?;
        kernel::kunit::info(fmt!(
            "rcu_ptr_hog: {left} sheaves of {objects} objects are left beside the task\n"
        ));
        check!(left <= MAX_SHEAVES);
        Ok(())
    }
}
