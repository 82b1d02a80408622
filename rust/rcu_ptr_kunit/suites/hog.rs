// SPDX-License-Identifier: GPL-2.0

//! A FIFO task that hogs its CPU while interrupts free objects there. No kworker, no softirq and,
//! on PREEMPT_RT, no irq_work of that CPU runs meanwhile; the number of waiting objects is bounded
//! nevertheless.

use crate::{check::CHECKED, cost::time, pool::ObjectState, prelude::*};

/// Objects that one interrupt frees, and the time between interrupts.
const BURST: usize = 64;
const NSECS: u64 = 200_000;

/// The most objects that may wait beside the task: eight blocks, which is the threshold for
/// collecting objects in hardirq, those that are being collected, and as many again.
const MAX_LEFT: usize = 3 * 4096;

/// The most sheaves of a cache that may wait beside the task.
const MAX_SHEAVES: u64 = 48;

/// Hogs `cpu` by a FIFO task, and calls `burst` in interrupts there until it returns false; then
/// `meanwhile`, with the length of a grace period beside the task in milliseconds.
fn burst_beside_hog<R>(
    cpu: i32,
    burst: &(dyn Fn() -> bool + Sync),
    meanwhile: impl FnOnce(u32) -> R,
) -> Result<R> {
    let over = Atomic::<i32>::new(0);
    let handler = || {
        if over.load(Relaxed) == 0 && !burst() {
            // ORDERING: Release pairs with the acquire below: all is freed.
            over.store(1, Release);
        }
    };
    let task = |spin: &dyn Fn()| {
        if timer::every(Where::Hardirq, NSECS, &handler, spin).is_err() {
            over.store(-1, Relaxed);
            spin();
        }
    };
    cpus::hogged(cpu, &task, || {
        let msecs = (time(gp::synchronize) / 1_000_000) as u32;
        let is_over = bound::wait_with_timeout(|| over.load(Acquire) != 0);
        let is_good = is_over && over.load(Relaxed) == 1;
        is_good.then(|| meanwhile(msecs)).ok_or(ETIMEDOUT)
    })?
}

#[kunit_tests(rcu_ptr_hog)]
mod tests {
    use super::*;

    /// Objects that still wait beside the task after many grace periods.
    #[test]
    fn engine() -> Result {
        let other = other_cpu!();
        skip_if!(!FREES_ARE_VISIBLE, c"freed objects cannot be seen here");
        let objects = scaled(100_000);
        let pool = Pool::new(objects)?;
        let burst = || (0..BURST).all(|i| pool.free_counted(FreeFn::FREES[i % 2], 1) == 1);
        let left = || {
            let all = pool.objects().iter();
            all.filter(|object| object.state() != ObjectState::Freed)
                .count()
        };
        let left = burst_beside_hog(other, &burst, |gp_msecs| {
            thread::wait_for(20 * gp_msecs + 2000, || left() <= MAX_LEFT);
            left()
        })?;
        core::barrier();
        pr_info!("hog: {left} of {objects} objects are left beside the task\n");
        check!(pool.all_freed())?;
        check!(left <= MAX_LEFT)
    }

    /// Sheaves of a cache that are closed or still wait beside the task.
    #[test]
    fn cache() -> Result {
        let other = other_cpu!();
        skip_if!(!alloc::objects_are_recycled(), CHECKED);
        let objects = scaled(100_000);
        let cache = SheafCache::new(c"rcu_ptr_hogged", SIZE, Args::default())?;
        let held = cache.alloc_many(objects)?;
        let next = Atomic::<usize>::new(0);
        let burst = || {
            for _ in 0..BURST {
                let Some(&object) = held.get(next.fetch_add(1, Relaxed)) else {
                    return false;
                };
                // SAFETY: Objects of this cache, each freed once.
                unsafe { cache.free_rcu(object) };
            }
            true
        };
        let left = || {
            let stats = cache.stats();
            stats.now_closed + stats.now_waiting
        };
        let left = burst_beside_hog(other, &burst, |gp_msecs| {
            thread::wait_for(20 * gp_msecs + 2000, || left() <= MAX_SHEAVES);
            left()
        })?;
        pr_info!("hog: {left} sheaves of {objects} objects are left beside the task\n");
        check!(left <= MAX_SHEAVES)
    }
}
