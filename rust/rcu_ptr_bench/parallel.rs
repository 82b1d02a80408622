// SPDX-License-Identifier: GPL-2.0

//! What a call costs when every CPU frees at the same time. Under -icount the counter goes on with
//! the instructions of all CPUs, so from the start of the first loop to the end of the last one it
//! counts all of them, waiting for locks included.

use crate::{
    run::{self, Per, Samples, Sorted},
    sys::{counters, cpu, object::Source, thread::Thread},
    way::{self, Objects, Way},
    Numbers,
};
use kernel::{
    prelude::*,
    processor::cpu_relax,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed, Release},
        Arc,
    },
};

/// `test=parallel`.
pub(crate) fn run(numbers: &Numbers) -> Result {
    let cpus = cpu::online().count();
    run::for_each_source(|name, _| {
        let mut baseline = 0;
        let first = core::iter::once(&way::NOTHING);
        let source = Source::new(name)?;
        for way in Iterator::chain(first, way::ways(&source)) {
            let samples = measure(numbers, name, way, cpus)?;
            if way.group == way::Group::Nothing {
                baseline = samples.median();
                continue;
            }
            let all = numbers.objects * cpus;
            pr_info!(
                "parallel cpus={} free={} engine={} object={} calls={} reps={} min={} median={} max={}\n",
                cpus,
                way.name(),
                way.engine(),
                name,
                all,
                numbers.reps,
                Per(samples.at(0) - baseline, all),
                Per(samples.median() - baseline, all),
                Per(samples.at(100) - baseline, all)
            );
        }
        Ok(())
    })
}

/// What the threads of one repetition share.
struct Shared {
    cpus: usize,
    ready: Atomic<usize>,
    done: Atomic<usize>,
    start: Atomic<u64>,
    end: Atomic<u64>,
}

fn measure(
    numbers: &Numbers,
    name: &'static str,
    way: &'static Way,
    cpus: usize,
) -> Result<Sorted> {
    let mut samples = Samples::new(numbers.reps)?;
    for rep in 0..=numbers.reps {
        let shared = Arc::new(
            Shared {
                cpus,
                ready: Atomic::new(0),
                done: Atomic::new(0),
                start: Atomic::new(0),
                end: Atomic::new(0),
            },
            GFP_KERNEL,
        )?;
        let mut threads = KVVec::with_capacity(cpus, GFP_KERNEL)?;
        for cpu in cpu::online() {
            let (shared, count) = (shared.clone(), numbers.objects);
            threads.push(
                Thread::spawn(cpu, 0, move || one(&shared, name, way, count))?,
                GFP_KERNEL,
            )?;
        }
        let mut result = Ok(());
        for thread in threads {
            result = result.and(thread.join());
        }
        result?;
        if rep > 0 {
            let took = shared.end.load(Relaxed) - shared.start.load(Relaxed);
            samples.push(took as i64)?;
        }
        way.settle();
    }
    Ok(samples.sorted())
}

fn one(shared: &Shared, name: &'static str, way: &'static Way, count: usize) -> Result {
    let source = Source::new(name)?;
    let objects = Objects::new(&source, count);
    // Those that have no objects wait all the same, or the others would wait for ever.
    // ORDERING: Full, and acquire below: all objects are there before any thread starts.
    if shared.ready.fetch_add(1, Full) + 1 == shared.cpus {
        // ORDERING: Release pairs with the acquire below.
        shared.start.store(counters::cycles(), Release);
    }
    // Under -icount a pause lets the next CPU go on, so waiting takes a few instructions only.
    while shared.start.load(Acquire) == 0 {
        cpu_relax();
    }
    let objects = objects.map(|mut objects| {
        // Some 100 000 instructions: no tick gets in between.
        cpu::irqs_off(|| objects.free(way, count));
        objects
    });
    if shared.done.fetch_add(1, Full) + 1 == shared.cpus {
        // ORDERING: Release pairs with the acquire below.
        shared.end.store(counters::cycles(), Release);
    }
    while shared.end.load(Acquire) == 0 {
        cpu_relax();
    }
    objects.map(drop)
}
