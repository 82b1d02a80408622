// SPDX-License-Identifier: GPL-2.0

//! Frees in every context but NMI: with interrupts off, in softirq, in hardirq, on all CPUs at
//! once.

use crate::prelude::*;

/// Frees by each function from timers at `place` and from tasks, on every CPU.
fn from_timer(place: Where, want: Context) -> Result {
    for free_fn in FreeFn::ATOMIC {
        let pool = Pool::new(scaled(20_000))?;
        let (inside, elsewhere) = (Atomic::<usize>::new(0), Atomic::<usize>::new(0));
        let body = || {
            let is_there = cpu::context() == want;
            let counter = if is_there { &inside } else { &elsewhere };
            counter.fetch_add(1, Relaxed);
            pool.free(free_fn, 8);
        };
        let task = |_cpu: i32| {
            let _ = timer::every(place, 300_000, &body, || {
                for _ in 0..by_length(60, 200) {
                    pool.free(free_fn, 4);
                    thread::sleep(1);
                }
            });
        };
        thread::on_cpus(cpu::online(), &task, || ())?;
        core::barrier();
        check!(inside.load(Relaxed) > 20 && elsewhere.load(Relaxed) == 0)?;
        check!(pool.all_freed())?;
    }
    Ok(())
}

/// Functions for tasks, without the sleepable callback.
const IN_TASKS: [FreeFn; 4] = [
    FreeFn::Kvfree,
    FreeFn::Nolock,
    FreeFn::Call,
    FreeFn::Mightsleep,
];

#[kunit_tests(rcu_ptr_contexts)]
mod tests {
    use super::*;

    #[test]
    fn task() -> Result {
        for free_fn in IN_TASKS {
            let pool = Pool::new(3000)?;
            pool.free(free_fn, 2500);
            core::barrier();
            check!(pool.all_freed())?;
        }
        Ok(())
    }

    #[test]
    fn irqs_off() -> Result {
        for free_fn in FreeFn::ATOMIC {
            let pool = Pool::new(3000)?;
            for _ in 0..50 {
                cpu::irqs_off(|| pool.free(free_fn, 50));
            }
            core::barrier();
            check!(pool.all_freed())?;
        }
        Ok(())
    }

    #[test]
    fn every_cpu_at_once() -> Result {
        let n = scaled(30_000);
        for free_fn in IN_TASKS {
            let pool = Pool::new(n)?;
            thread::on_cpus(cpu::online(), &|_| pool.free(free_fn, n), || ())?;
            core::barrier();
            check!(pool.taken() == n && pool.all_freed())?;
        }
        Ok(())
    }

    #[test]
    fn hardirq() -> Result {
        from_timer(Where::Hardirq, Context::Hardirq)
    }

    #[test]
    fn softirq() -> Result {
        from_timer(Where::Softirq, Context::Softirq)
    }
}
