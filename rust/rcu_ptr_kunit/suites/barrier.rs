// SPDX-License-Identifier: GPL-2.0

//! The barrier: what was queued before it is freed when it returns, however much comes meanwhile.

use crate::{
    pool::{Pool, CAN_LOOK},
    route::Route,
    scaled,
    sys::{core, cpu, thread},
};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// What a run showed.
struct Outcome {
    barriers: usize,
    left: usize,
    freed: bool,
}

/// Every CPU frees all the time; after each of `rounds` barriers the objects queued before are
/// looked at.
fn against_queueing(route: Route, rounds: usize) -> Result<Outcome> {
    // Objects of this task, queued on whichever CPU it is on, and those of the others.
    let mine = Pool::new(rounds * 20)?;
    let others = Pool::new(scaled(60_000))?;
    let stop = Atomic::<i32>::new(0);
    let body = |_cpu: i32| {
        while stop.load(Relaxed) == 0 {
            for object in (0..16).map_while(|_| others.take()) {
                // SAFETY: Handed out once, with a field there.
                unsafe { route.free(object.start, object.at) };
            }
            thread::cond_resched();
        }
    };
    let mut left = 0;
    thread::on_cpus(cpu::online(), &body, || {
        for round in 0..rounds {
            for object in (0..20).map_while(|_| mine.take()) {
                // SAFETY: Handed out once, with a field there.
                unsafe { route.free(object.start, object.at) };
            }
            core::barrier();
            if CAN_LOOK {
                let queued = &mine.objects()[..(round + 1) * 20];
                left += queued.iter().filter(|o| o.is_intact()).count();
            }
        }
        stop.store(1, Relaxed);
    })?;
    core::barrier();
    Ok(Outcome {
        barriers: rounds,
        left,
        freed: mine.all_freed() && others.all_freed(),
    })
}

/// Barriers on all CPUs at once, each with objects of its own.
fn many_at_once() -> Result<(usize, bool)> {
    let pool = Pool::new(8000)?;
    let left = Atomic::<usize>::new(0);
    let body = |_cpu: i32| {
        for _ in 0..10 {
            let mut queued = [None; 8];
            for place in &mut queued {
                *place = pool.take();
                if let Some(object) = place {
                    // SAFETY: Handed out once, with a field there.
                    unsafe { Route::Kvfree.free(object.start, object.at) };
                }
            }
            core::barrier();
            if CAN_LOOK {
                let intact = queued.iter().flatten().filter(|o| o.is_intact()).count();
                left.fetch_add(intact, Relaxed);
            }
        }
    };
    thread::on_cpus(cpu::online(), &body, || ())?;
    core::barrier();
    Ok((left.load(Relaxed), pool.all_freed()))
}

#[kunit_tests(rcu_ptr_barrier)]
mod tests {
    use super::*;

    #[test]
    fn nothing_queued() {
        core::barrier();
        core::barrier();
    }

    #[test]
    fn against_queueing_everywhere() -> Result {
        for route in Route::ATOMIC {
            let outcome = against_queueing(route, 20)?;
            assert!(outcome.barriers == 20 && outcome.left == 0);
            assert!(outcome.freed);
        }
        Ok(())
    }

    #[test]
    fn many_barriers_at_once() -> Result {
        let (left, freed) = many_at_once()?;
        assert!(left == 0 && freed);
        Ok(())
    }
}
