// SPDX-License-Identifier: GPL-2.0

//! Nothing is freed before its grace period: readers hold on to objects that are freed, and find
//! them intact.

use crate::{
    params,
    pool::Pool,
    reader::{self, Readers},
    route::Route,
    sys::{alloc, core, cpu, fault, gp, probes, thread},
};
use kernel::{
    prelude::*,
    sync::{atomic::Relaxed, rcu},
};

/// How long readers stay: many drain intervals.
const HOLD_MSECS: i64 = 400;

/// Looks at every object that there have to be: readers look all the time, not once.
const LOOKS: usize = 20;

/// What a run showed.
struct Outcome {
    /// At every object.
    looks: usize,
    broken: usize,
    freed: bool,
    /// Objects that went on the list.
    listed: u64,
}

/// Objects freed in one go: then refills bring blocks for the next.
const PORTION: usize = 200;

fn free_all(pool: &Pool, route: Route) {
    while pool.taken() < pool.len() {
        pool.free(route, PORTION);
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

/// Frees `count` objects under the eyes of readers.
fn watched(count: usize, route: Route) -> Result<Outcome> {
    let pool = Pool::new(count)?;
    let probes = probes::Probes::register()?;
    let before = probes::COUNTERS.list.load(Relaxed);
    let seen = reader::watch(&pool, |readers| {
        free_all(&pool, route);
        hold(readers, HOLD_MSECS);
    });
    let listed = probes::COUNTERS.list.load(Relaxed) - before;
    drop(probes);
    core::barrier();
    let seen = seen?;
    Ok(Outcome {
        looks: seen.looks / pool.len().max(1),
        broken: seen.broken,
        freed: pool.all_freed(),
        listed,
    })
}

/// Objects join a list whose first ones have waited long enough already, and the shrinker comes:
/// whether readers that hold the later ones find them intact.
fn list_between_grace_periods() -> Result<bool> {
    let old = Pool::new(4)?;
    let new = Pool::new(200)?;
    // All on the list of one CPU.
    let cpu = cpu::this();
    let free_on = |pool: &Pool| {
        let body = |_cpu: i32| free_all(pool, Route::Kvfree);
        thread::on_cpus(::core::iter::once(cpu), &body, || ())
    };
    free_on(&old)?;
    rcu::synchronize_rcu();
    let mut done = Ok(());
    let seen = reader::watch(&new, |readers| {
        done = free_on(&new).and_then(|()| params::shrink());
        hold(readers, HOLD_MSECS);
    })?;
    done?;
    core::barrier();
    Ok(seen.looks > LOOKS * new.len() && seen.broken == 0 && new.all_freed() && old.all_freed())
}

/// A batch waits for a grace period that a first reader holds up, and more objects come: whether
/// readers that hold only these find them intact when that grace period is over.
fn one_batch_and_another() -> Result<bool> {
    let old = Pool::new(300)?;
    let new = Pool::new(300)?;
    // No thread or process ends from here on: each would have a grace period begin.
    let defaults = params::quick_drain()?;
    // Nor is one under way that a process has begun: the readers would hold that up, and what is wanted
    // would begin after it.
    gp::idle();
    let mut inner = Err(EAGAIN);
    let outer = reader::watch(&old, |first| {
        free_all(&old, Route::Kvfree);
        // Their grace period has begun by then: the readers to come don't hold it up.
        thread::sleep(150);
        inner = reader::watch(&new, |late| {
            free_all(&new, Route::Kvfree);
            // These are in a batch by then.
            thread::sleep(150);
            first.leave_in(0);
            hold(late, HOLD_MSECS / 2);
        });
        first.leave_in(0);
    })?;
    drop(defaults);
    let inner = inner?;
    core::barrier();
    let seen = outer.looks > LOOKS * old.len() && inner.looks > LOOKS * new.len();
    Ok(seen && outer.broken + inner.broken == 0 && new.all_freed() && old.all_freed())
}

/// A one-argument call finds no page for a block while readers hold its object. Returns how many
/// callers waited as well.
fn no_page_under_readers() -> Result<(Outcome, u64)> {
    let defaults = params::no_blocks()?;
    let pool = Pool::new(4)?;
    let probes = probes::Probes::register()?;
    let before = probes::COUNTERS.waited.load(Relaxed);
    let seen = reader::watch(&pool, |readers| {
        // Until then the call has to wait.
        readers.leave_in(HOLD_MSECS / 4);
        fault::fail_blocks(1, u64::MAX);
        pool.free(Route::Mightsleep, 1);
        fault::fail_blocks(0, 0);
        // A caller that has not waited still finds them inside.
        hold(readers, HOLD_MSECS / 4);
    });
    let waited = probes::COUNTERS.waited.load(Relaxed) - before;
    drop(probes);
    core::barrier();
    drop(defaults);
    let seen = seen?;
    let outcome = Outcome {
        looks: seen.looks,
        broken: seen.broken,
        freed: pool.all_freed(),
        listed: 0,
    };
    Ok((outcome, waited))
}

/// The shrinker is called while readers hold objects.
fn shrink_under_readers() -> Result<Outcome> {
    let pool = Pool::new(2000)?;
    let mut shrunk = Ok(());
    let seen = reader::watch(&pool, |readers| {
        free_all(&pool, Route::Kvfree);
        shrunk = params::shrink();
        hold(readers, HOLD_MSECS);
    })?;
    shrunk?;
    core::barrier();
    Ok(Outcome {
        looks: seen.looks / pool.len().max(1),
        broken: seen.broken,
        freed: pool.all_freed(),
        listed: 0,
    })
}

/// Whether a reader was still inside when the barrier returned.
fn barrier_under_readers() -> Result<bool> {
    let pool = Pool::new(500)?;
    let mut still_inside = 0;
    reader::watch(&pool, |readers| {
        free_all(&pool, Route::Kvfree);
        readers.leave_in(HOLD_MSECS);
        core::barrier();
        still_inside = readers.inside();
    })?;
    Ok(still_inside > 0)
}

#[kunit_tests(rcu_ptr_reader)]
mod tests {
    use super::*;

    // KUnit's assertions are for the tests themselves: elsewhere they panic.
    fn is_good(o: &Outcome) -> bool {
        pr_info!(
            "reader: {} looks at every object, {} at broken ones; {} objects on the list\n",
            o.looks,
            o.broken,
            o.listed
        );
        o.looks > LOOKS && o.broken == 0 && o.freed
    }

    #[test]
    fn blocks() -> Result {
        let _defaults = params::quick_drain()?;
        let mut outcome = watched(3000, Route::Kvfree)?;
        // Most are in blocks, else this would be another test of the list; refills may be late.
        for _ in 0..10 {
            if !is_good(&outcome) || outcome.listed < 1500 {
                break;
            }
            outcome = watched(3000, Route::Kvfree)?;
        }
        check!(is_good(&outcome));
        check!(outcome.listed < 1500);
        Ok(())
    }

    #[test]
    fn nolock() -> Result {
        let _defaults = params::quick_drain()?;
        check!(is_good(&watched(3000, Route::Nolock)?));
        Ok(())
    }

    #[test]
    fn callbacks() -> Result {
        let _defaults = params::quick_drain()?;
        for route in Route::CALLS {
            check!(is_good(&watched(3000, route)?));
        }
        Ok(())
    }

    #[test]
    fn mightsleep() -> Result {
        let _defaults = params::quick_drain()?;
        check!(is_good(&watched(300, Route::Mightsleep)?));
        Ok(())
    }

    #[test]
    fn mightsleep_without_a_page() -> Result {
        for _ in 0..4 {
            let (outcome, waited) = no_page_under_readers()?;
            check!(is_good(&outcome));
            check!(waited == 1);
        }
        Ok(())
    }

    #[test]
    fn list() -> Result {
        let _defaults = (params::no_blocks()?, params::quick_drain()?);
        let outcome = watched(2000, Route::Kvfree)?;
        check!(is_good(&outcome));
        check!(outcome.listed == 2000);
        Ok(())
    }

    #[test]
    fn callbacks_on_the_list() -> Result {
        let _defaults = (params::no_blocks()?, params::quick_drain()?);
        for route in Route::CALLS {
            let outcome = watched(1000, route)?;
            check!(is_good(&outcome));
            check!(outcome.listed == 1000);
        }
        Ok(())
    }

    #[test]
    fn list_goes_on() -> Result {
        let _defaults = params::no_blocks()?;
        check!(list_between_grace_periods()?);
        Ok(())
    }

    #[test]
    fn one_batch_after_another() -> Result {
        // A grace period that others have begun may be in the way of the one that is wanted.
        for _ in 0..6 {
            check!(one_batch_and_another()?);
        }
        Ok(())
    }

    #[test]
    fn shrinker() -> Result {
        check!(is_good(&shrink_under_readers()?));
        Ok(())
    }

    #[test]
    fn barrier_waits_for_them() -> Result {
        check!(!barrier_under_readers()?);
        Ok(())
    }
}
