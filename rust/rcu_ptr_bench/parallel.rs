// SPDX-License-Identifier: GPL-2.0

//! What a call costs when every CPU frees at the same time. Under -icount the counter goes on with
//! the instructions of all CPUs, so from the start of the first loop to the end of the last one it
//! counts all of them, waiting for locks included.

use crate::{
    run::{self, Samples, Sorted},
    sys::{counters, cpu, object::Source},
    way::{self, Objects, Way},
    Numbers,
};
use kernel::{
    prelude::*,
    processor::cpu_relax,
    sync::atomic::{Acquire, Atomic, Full, Relaxed, Release},
};

/// `test=parallel`.
pub(crate) fn run(numbers: &Numbers) -> Result {
    let cpus = cpu::online().count();
    let all = numbers.objects * cpus;
    run::for_each_source(|name, source| {
        let overhead = measure(numbers, name, &way::NOTHING)?.median();
        for way in way::ways(source) {
            pr_info!(
                "parallel cpus={} {} object={} count={} reps={} {}\n",
                cpus,
                way,
                name,
                all,
                numbers.reps,
                measure(numbers, name, way)?.per(all, overhead)
            );
        }
        Ok(())
    })
}

/// Where all threads wait for the last one, and the cycles when that came.
struct Gate {
    came: Atomic<usize>,
    opened: Atomic<u64>,
}

impl Gate {
    const fn new() -> Self {
        Self {
            came: Atomic::new(0),
            opened: Atomic::new(0),
        }
    }

    fn pass(&self, threads: usize) {
        // ORDERING: Full, and acquire below: what all did before is there when any goes on.
        if self.came.fetch_add(1, Full) + 1 == threads {
            // ORDERING: Release pairs with the acquire below.
            self.opened.store(counters::cycles(), Release);
        }
        // Under -icount a pause lets the next CPU go on, so waiting takes a few instructions only.
        while self.opened.load(Acquire) == 0 {
            cpu_relax();
        }
    }
}

fn measure(numbers: &Numbers, name: &'static str, way: &Way) -> Result<Sorted> {
    let mut samples = Samples::new(numbers.reps)?;
    let cpus = cpu::online().count();
    for rep in 0..=numbers.reps {
        let (start, end) = (Gate::new(), Gate::new());
        run::in_threads(cpu::online(), &|| {
            let source = Source::new(name)?;
            // Those that have no objects wait all the same, or the others would wait for ever.
            let mut objects = Objects::new(&source, numbers.objects);
            start.pass(cpus);
            if let Ok(objects) = &mut objects {
                // Some 100 000 instructions: no tick gets in between.
                cpu::irqs_off(|| objects.free(way, numbers.objects));
            }
            end.pass(cpus);
            objects.map(drop)
        })?;
        if rep > 0 {
            samples.push((end.opened.load(Relaxed) - start.opened.load(Relaxed)) as i64)?;
        }
        way.settle();
    }
    Ok(samples.sorted())
}
