// SPDX-License-Identifier: GPL-2.0

//! Nothing is freed before its grace period: readers find their objects intact while these are
//! being freed.

use crate::{
    prelude::*,
    reader::{self, Readers, Seen},
};

/// How long readers stay in their critical sections: many drain intervals.
const HOLD_MSECS: i64 = 400;

/// The least number of checks of every object.
const MIN_CHECKS: usize = 20;

/// Objects that are freed in a row, before a pause for refills.
const BURST: usize = 200;

fn free_all(pool: &Pool, free_fn: FreeFn) {
    while pool.taken() < pool.len() {
        pool.free(free_fn, BURST);
        thread::sleep(4);
    }
}

/// Allocates memory and overwrites it, so that freed objects may be reused.
fn reuse_memory() {
    for _ in 0..50 {
        if let Some(object) = alloc::alloc(alloc::Source::Kmalloc, 96) {
            // SAFETY: Just allocated, not shared.
            unsafe {
                object.write_bytes(0xff, 96);
                alloc::kvfree(object);
            }
        }
    }
}

/// Has the readers leave in `msecs` milliseconds, and overwrites freed memory until then.
fn hold(readers: &Readers, msecs: i64) {
    readers.leave_in(msecs);
    while readers.inside() > 0 {
        reuse_memory();
        thread::sleep(2);
    }
}

/// Checks that readers have checked each of `objects` many times, and found none broken.
fn check_seen(seen: &Seen, objects: usize) -> Result {
    let (checks, broken) = (seen.checks / objects.max(1), seen.broken);
    pr_info!("reader: {checks} checks at every object, {broken} at broken ones\n");
    check!(checks > MIN_CHECKS && broken == 0)
}

/// Frees `count` objects beside readers. Returns how many were linked.
fn watched(count: usize, free_fn: FreeFn) -> Result<u64> {
    let pool = Pool::new(count)?;
    let listed = EventCounter::start(|c| c.list.load(Relaxed))?;
    let seen = reader::watch(&pool, |readers| {
        free_all(&pool, free_fn);
        hold(readers, HOLD_MSECS);
    });
    let listed = listed.count();
    core::barrier();
    check_seen(&seen?, count)?;
    pr_info!("reader: {listed} of {count} objects on the list\n");
    check!(pool.all_freed())?;
    Ok(listed)
}

/// A batch waits for a grace period that a first reader holds up, and more objects are queued:
/// readers of these find them intact when that grace period is over.
fn one_batch_and_another() -> Result {
    let old = Pool::new(300)?;
    let new = Pool::new(300)?;
    // From here on no thread or process ends, each of which would start a grace period.
    let restore = params::quick_drain()?;
    // Nor may one be in progress: the readers would hold it up, and the one that is needed would
    // start after it.
    gp::idle();
    let mut inner = Err(EAGAIN);
    let outer = reader::watch(&old, |first| {
        free_all(&old, FreeFn::Kvfree);
        // By then their grace period has started, so that later readers don't hold it up.
        thread::sleep(150);
        inner = reader::watch(&new, |late| {
            free_all(&new, FreeFn::Kvfree);
            // By then these are in a batch.
            thread::sleep(150);
            first.leave_in(0);
            hold(late, HOLD_MSECS / 2);
        });
        first.leave_in(0);
    })?;
    drop(restore);
    let inner = inner?;
    core::barrier();
    check_seen(&outer, old.len())?;
    check_seen(&inner, new.len())?;
    check!(new.all_freed() && old.all_freed())
}

#[kunit_tests(rcu_ptr_reader)]
mod tests {
    use super::*;

    #[test]
    fn blocks() -> Result {
        let _restore = params::quick_drain()?;
        // Most objects have to be in blocks, or this would be another test of the list; refills may
        // be late.
        for _ in 0..11 {
            if watched(3000, FreeFn::Kvfree)? < 1500 {
                return Ok(());
            }
        }
        Err(EAGAIN)
    }

    #[test]
    fn nolock() -> Result {
        let _restore = params::quick_drain()?;
        watched(3000, FreeFn::Nolock).map(drop)
    }

    #[test]
    fn callbacks() -> Result {
        let _restore = params::quick_drain()?;
        for free_fn in FreeFn::CALLS {
            watched(3000, free_fn)?;
        }
        Ok(())
    }

    #[test]
    fn mightsleep() -> Result {
        let _restore = params::quick_drain()?;
        watched(300, FreeFn::Mightsleep).map(drop)
    }

    /// rcu_ptr_kvfree_mightsleep() finds no page for a block while readers hold the object, and
    /// waits for them.
    #[test]
    fn mightsleep_without_a_page() -> Result {
        for _ in 0..4 {
            let restore = params::no_blocks()?;
            let pool = Pool::new(4)?;
            let waited = EventCounter::start(|c| c.waited.load(Relaxed))?;
            let seen = reader::watch(&pool, |readers| {
                // The call has to wait until then.
                readers.leave_in(HOLD_MSECS / 4);
                fault::fail_blocks(1, u64::MAX);
                pool.free(FreeFn::Mightsleep, 1);
                fault::fail_blocks(0, 0);
                // If the call has not waited, the readers are still inside here, and find the
                // object broken.
                hold(readers, HOLD_MSECS / 4);
            })?;
            let waited = waited.count();
            core::barrier();
            drop(restore);
            check_seen(&seen, 1)?;
            check!(waited == 1 && pool.all_freed())?;
        }
        Ok(())
    }

    #[test]
    fn list() -> Result {
        let _restore = (params::no_blocks()?, params::quick_drain()?);
        check!(watched(2000, FreeFn::Kvfree)? == 2000)
    }

    #[test]
    fn callbacks_on_the_list() -> Result {
        let _restore = (params::no_blocks()?, params::quick_drain()?);
        for free_fn in FreeFn::CALLS {
            check!(watched(1000, free_fn)? == 1000)?;
        }
        Ok(())
    }

    /// Objects are added to a list whose first ones have waited for a grace period already, and the
    /// shrinker is called: readers of the later ones find them intact.
    #[test]
    fn list_goes_on() -> Result {
        let _restore = params::no_blocks()?;
        let old = Pool::new(4)?;
        let new = Pool::new(200)?;
        // All on the list of one CPU.
        let cpu = cpu::this();
        let free_on = |pool: &Pool| cpus::on(cpu, || free_all(pool, FreeFn::Kvfree));
        free_on(&old)?;
        rcu::synchronize_rcu();
        let mut done = Ok(());
        let seen = reader::watch(&new, |readers| {
            done = free_on(&new).and_then(|()| params::shrink());
            hold(readers, HOLD_MSECS);
        })?;
        done?;
        core::barrier();
        check_seen(&seen, new.len())?;
        check!(new.all_freed() && old.all_freed())
    }

    #[test]
    fn one_batch_after_another() -> Result {
        // Repeated, as a grace period of others may disturb an attempt.
        (0..6).try_for_each(|_| one_batch_and_another())
    }

    /// The shrinker is called while readers hold objects.
    #[test]
    fn shrinker() -> Result {
        let pool = Pool::new(2000)?;
        let mut shrunk = Ok(());
        let seen = reader::watch(&pool, |readers| {
            free_all(&pool, FreeFn::Kvfree);
            shrunk = params::shrink();
            hold(readers, HOLD_MSECS);
        })?;
        shrunk?;
        core::barrier();
        check_seen(&seen, pool.len())?;
        check!(pool.all_freed())
    }

    #[test]
    fn barrier_waits_for_the_readers() -> Result {
        let pool = Pool::new(500)?;
        let mut inside = usize::MAX;
        reader::watch(&pool, |readers| {
            free_all(&pool, FreeFn::Kvfree);
            readers.leave_in(HOLD_MSECS);
            core::barrier();
            inside = readers.inside();
        })?;
        check!(inside == 0)
    }
}
