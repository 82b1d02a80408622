// SPDX-License-Identifier: GPL-2.0

//! All contexts at once on one cache with sheaves: tasks, softirqs and interrupts of every CPU
//! replace objects that readers look at. Nothing is given out twice or too early, nothing is lost.

use crate::{
    sys::{
        cache::{Args, SheafCache},
        cpu, thread,
        timer::{Periodic, Where},
    },
    table::{Alloc, Table, Wrong, SIZE},
};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

struct Outcome {
    wrong: Wrong,
    replaced: u64,
    looks: u64,
    interrupts: u64,
}

/// A storm of `rounds` of each task, with objects in sheaves of `capacity`.
fn storm(capacity: u32, rounds: usize) -> Result<Outcome> {
    let args = Args {
        sheaf_capacity: capacity,
        barn_limit: 16,
        ..Args::default()
    };
    let cache = SheafCache::new(c"rcu_ptr_storm", SIZE, args)?;
    cache.prefill(500)?;
    let table = Table::new(&cache, 400)?;
    let interrupts = Atomic::<u64>::new(0);
    let next = Atomic::<u64>::new(0);
    let interrupt = || {
        interrupts.fetch_add(1, Relaxed);
        for _ in 0..8 {
            let i = next.fetch_add(1, Relaxed) as usize;
            table.replace(i * 31, Alloc::Nolock);
            table.look(i, 7);
        }
        table.touch(Alloc::Nolock);
    };
    let task = |cpu: i32| {
        let _ = Periodic::run(Where::Hardirq, 150_000, &interrupt, || {
            let _ = Periodic::run(Where::Softirq, 230_000, &interrupt, || {
                for i in 0..rounds {
                    let i = i * 13 + cpu as usize * 97;
                    match i % 4 {
                        0 => table.replace(i, Alloc::Sleep),
                        1 => cpu::irqs_off(|| table.replace(i, Alloc::Nolock)),
                        2 => table.replace(i, Alloc::Nolock),
                        _ => table.replace(i, Alloc::Atomic),
                    }
                    table.look(i + 5, 20);
                    table.touch(Alloc::Sleep);
                    if i % 64 == 0 {
                        thread::cond_resched();
                    }
                }
            });
        });
    };
    thread::on_cpus(cpu::online(), &task, || ())?;
    let outcome = Outcome {
        wrong: table.wrong(),
        replaced: table.replaced.load(Relaxed),
        looks: table.looks.load(Relaxed),
        interrupts: interrupts.load(Relaxed),
    };
    drop(table);
    Ok(outcome)
}

fn report(what: &str, o: &Outcome) {
    kernel::kunit::info(fmt!(
        "rcu_ptr_sheaf_storm: {}: {} objects replaced, {} looks, {} interrupts\n",
        what,
        o.replaced,
        o.looks,
        o.interrupts
    ));
}

#[kunit_tests(rcu_ptr_sheaf_storm)]
mod tests {
    use super::*;

    #[test]
    fn large_sheaves() -> Result {
        let outcome = storm(0, 30_000)?;
        report("56 slots", &outcome);
        assert!(outcome.wrong == Wrong::default());
        assert!(outcome.interrupts > 20 && outcome.looks > 1000);
        Ok(())
    }

    /// The slow ways all the time.
    #[test]
    fn small_sheaves() -> Result {
        for capacity in [1, 2, 5] {
            let outcome = storm(capacity, 10_000)?;
            report("small", &outcome);
            assert!(outcome.wrong == Wrong::default());
            assert!(outcome.interrupts > 20 && outcome.looks > 1000);
        }
        Ok(())
    }
}
