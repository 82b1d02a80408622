// SPDX-License-Identifier: GPL-2.0

//! Nothing is freed before its grace period: readers hold on to objects that are freed, and find
//! them intact.

use crate::{
    cpus,
    events::EventCounter,
    free_fn::FreeFn,
    params,
    pool::Pool,
    reader::{self, Readers, Seen},
    sys::{alloc, core, cpu, fault, gp, thread},
};
use kernel::{
    prelude::*,
    sync::{atomic::Relaxed, rcu},
};

/// How long readers stay: many drain intervals.
const HOLD_MSECS: i64 = 400;

/// Looks at every object that there have to be: readers look all the time, not once.
const LOOKS: usize = 20;

/// Objects freed in one go: then refills bring blocks for the next.
const PORTION: usize = 200;

fn free_all(pool: &Pool, free_fn: FreeFn) {
    while pool.taken() < pool.len() {
        pool.free(free_fn, PORTION);
        thread::sleep(4);
    }
}

/// What was freed is allocated again and overwritten.
fn churn() {
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

/// Lets the readers leave in `msecs` milliseconds, and overwrites what may be freed until then.
fn hold(readers: &Readers, msecs: i64) {
    readers.leave_in(msecs);
    while readers.inside() > 0 {
        churn();
        thread::sleep(2);
    }
}

/// Readers have looked at each of `objects` all the time, and found none broken.
fn check_seen(seen: &Seen, objects: usize) -> Result {
    let (checks, broken) = (seen.checks / objects.max(1), seen.broken);
    pr_info!("reader: {checks} checks at every object, {broken} at broken ones\n");
    check!(checks > LOOKS && broken == 0);
    Ok(())
}

/// Frees `count` objects under the eyes of readers. Returns how many went on the list.
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
    check!(pool.all_freed());
    Ok(listed)
}

/// A batch waits for a grace period that a first reader holds up, and more objects come: readers
/// that hold only these find them intact when that grace period is over.
fn one_batch_and_another() -> Result {
    let old = Pool::new(300)?;
    let new = Pool::new(300)?;
    // No thread or process ends from here on: each would have a grace period begin.
    let restore = params::quick_drain()?;
    // Nor is one under way that a process has begun: the readers would hold that up, and what is
    // wanted would begin after it.
    gp::idle();
    let mut inner = Err(EAGAIN);
    let outer = reader::watch(&old, |first| {
        free_all(&old, FreeFn::Kvfree);
        // Their grace period has begun by then: the readers to come don't hold it up.
        thread::sleep(150);
        inner = reader::watch(&new, |late| {
            free_all(&new, FreeFn::Kvfree);
            // These are in a batch by then.
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
    check!(new.all_freed() && old.all_freed());
    Ok(())
}

#[kunit_tests(rcu_ptr_reader)]
mod tests {
    use super::*;

    #[test]
    fn blocks() -> Result {
        let _restore = params::quick_drain()?;
        // Most are in blocks, else this would be another test of the list; refills may be late.
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

    /// A one-argument call finds no page for a block while readers hold its object, and waits as
    /// they do.
    #[test]
    fn mightsleep_without_a_page() -> Result {
        for _ in 0..4 {
            let restore = params::no_blocks()?;
            let pool = Pool::new(4)?;
            let waited = EventCounter::start(|c| c.waited.load(Relaxed))?;
            let seen = reader::watch(&pool, |readers| {
                // Until then the call has to wait.
                readers.leave_in(HOLD_MSECS / 4);
                fault::fail_blocks(1, u64::MAX);
                pool.free(FreeFn::Mightsleep, 1);
                fault::fail_blocks(0, 0);
                // A caller that has not waited still finds them inside.
                hold(readers, HOLD_MSECS / 4);
            })?;
            let waited = waited.count();
            core::barrier();
            drop(restore);
            check_seen(&seen, 1)?;
            check!(waited == 1 && pool.all_freed());
        }
        Ok(())
    }

    #[test]
    fn list() -> Result {
        let _restore = (params::no_blocks()?, params::quick_drain()?);
        check!(watched(2000, FreeFn::Kvfree)? == 2000);
        Ok(())
    }

    #[test]
    fn callbacks_on_the_list() -> Result {
        let _restore = (params::no_blocks()?, params::quick_drain()?);
        for free_fn in FreeFn::CALLS {
            check!(watched(1000, free_fn)? == 1000);
        }
        Ok(())
    }

    /// Objects join a list whose first ones have waited long enough already, and the shrinker
    /// comes: readers that hold the later ones find them intact.
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
        check!(new.all_freed() && old.all_freed());
        Ok(())
    }

    #[test]
    fn one_batch_after_another() -> Result {
        // A grace period that others have begun may be in the way of the one that is wanted.
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
        check!(pool.all_freed());
        Ok(())
    }

    #[test]
    fn barrier_waits_for_them() -> Result {
        let pool = Pool::new(500)?;
        let mut inside = usize::MAX;
        reader::watch(&pool, |readers| {
            free_all(&pool, FreeFn::Kvfree);
            readers.leave_in(HOLD_MSECS);
            core::barrier();
            inside = readers.inside();
        })?;
        check!(inside == 0);
        Ok(())
    }
}
