// SPDX-License-Identifier: GPL-2.0

//! Nothing is freed before its grace period: readers hold on to objects that are freed, and find
//! them intact.

use crate::{
    params,
    pool::Pool,
    reader,
    route::Route,
    sys::{core, mem, thread},
};
use kernel::prelude::*;

/// How long readers stay: many drain intervals.
const HOLD_MSECS: i64 = 400;

/// What a run showed.
struct Outcome {
    looks: usize,
    broken: usize,
    freed: bool,
}

fn free_all(pool: &Pool, route: Route) {
    while let Some(object) = pool.take() {
        // SAFETY: Handed out once, with a field there.
        unsafe { route.free(object.start, object.at) };
    }
}

/// What was freed is given out again and overwritten.
fn churn() {
    for _ in 0..50 {
        if let Some(object) = mem::alloc(mem::Source::Kmalloc, 96) {
            // SAFETY: Just allocated, and nobody else's.
            unsafe {
                object.write_bytes(0xff, 96);
                mem::kvfree(object);
            }
        }
    }
}

/// Frees `count` objects under the eyes of readers.
fn watched(count: usize, route: Route) -> Result<Outcome> {
    let pool = Pool::new(count)?;
    let seen = reader::watch(&pool, |readers| {
        free_all(&pool, route);
        readers.leave_in(HOLD_MSECS);
        while readers.inside() > 0 {
            churn();
            thread::sleep(2);
        }
    })?;
    core::barrier();
    Ok(Outcome {
        looks: seen.looks,
        broken: seen.broken,
        freed: pool.all_freed(),
    })
}

/// The shrinker is called while readers hold objects.
fn shrink_under_readers() -> Result<Outcome> {
    let pool = Pool::new(2000)?;
    let mut shrunk = Ok(());
    let seen = reader::watch(&pool, |readers| {
        free_all(&pool, Route::Kvfree);
        shrunk = params::shrink();
        readers.leave_in(HOLD_MSECS);
        while readers.inside() > 0 {
            churn();
            thread::sleep(2);
        }
    })?;
    shrunk?;
    core::barrier();
    Ok(Outcome {
        looks: seen.looks,
        broken: seen.broken,
        freed: pool.all_freed(),
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

    fn check(outcome: Outcome) {
        assert!(outcome.looks > 1000);
        assert!(outcome.broken == 0);
        assert!(outcome.freed);
    }

    #[test]
    fn blocks() -> Result {
        let defaults = params::quick_drain()?;
        let outcome = watched(3000, Route::Kvfree);
        drop(defaults);
        check(outcome?);
        Ok(())
    }

    #[test]
    fn nolock() -> Result {
        let defaults = params::quick_drain()?;
        let outcome = watched(3000, Route::Nolock);
        drop(defaults);
        check(outcome?);
        Ok(())
    }

    #[test]
    fn mightsleep() -> Result {
        let defaults = params::quick_drain()?;
        let outcome = watched(300, Route::Mightsleep);
        drop(defaults);
        check(outcome?);
        Ok(())
    }

    #[test]
    fn list() -> Result {
        let defaults = params::no_blocks().and_then(|d| params::quick_drain().map(|q| (d, q)))?;
        let outcome = watched(2000, Route::Kvfree);
        drop(defaults);
        check(outcome?);
        Ok(())
    }

    #[test]
    fn shrinker() -> Result {
        check(shrink_under_readers()?);
        Ok(())
    }

    #[test]
    fn barrier_waits_for_them() -> Result {
        let too_early = barrier_under_readers()?;
        assert!(!too_early);
        Ok(())
    }
}
