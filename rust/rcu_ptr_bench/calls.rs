// SPDX-License-Identifier: GPL-2.0

//! The cost of a call: cycles of a loop over many objects, minus those of the empty loop. Under
//! -icount a cycle is an instruction. In task context and in NMI; and on all CPUs at once: the
//! counter advances with the instructions of all CPUs, so from the start of the first loop to the
//! end of the last one it includes waiting for locks.

use crate::{
    bench_fn::{self, BenchFn, BenchObjects},
    nmi::NmiSource,
    run::{self, Samples, Spread},
    sys::{counters, cpu},
};
use kernel::{
    fmt,
    prelude::*,
    processor::cpu_relax,
    sync::atomic::{Acquire, Atomic, Full, Relaxed, Release},
};

/// Objects that are freed per NMI.
const CHUNK: usize = 100;

/// Prints `what` with the cost of each of `functions`: repetitions of `once` with `count` objects.
fn measure<'a>(
    what: fmt::Arguments<'_>,
    count: usize,
    functions: impl Iterator<Item = &'a BenchFn>,
    mut once: impl FnMut(&BenchFn) -> Result<[i64; 2]>,
) -> Result {
    let mut samples = |function: &BenchFn| {
        Samples::of(crate::reps(), || {
            let took = once(function)?;
            function.settle();
            Ok(took)
        })
    };
    let overhead = samples(&bench_fn::NOTHING)?[0].median();
    for function in functions {
        let [cycles, refused] = &samples(function)?;
        let spread = Spread {
            cycles,
            refused,
            count,
            overhead,
        };
        pr_info!("{} {} {}\n", what, function, spread);
    }
    Ok(())
}

/// `test=calls`.
pub(crate) fn run() -> Result {
    let nmi = NmiSource::new()?;
    run::for_each_source(|name, source| {
        for (context, nmi) in run::contexts(&nmi) {
            let chunk = nmi.map_or(crate::objects(), |_| CHUNK);
            measure(
                fmt!("call context={} object={}", context, name),
                crate::objects(),
                bench_fn::functions(source).filter(|function| nmi.is_none() || function.in_nmi),
                |function| {
                    let mut objects = BenchObjects::new(source, crate::objects())?;
                    let mut cycles = 0;
                    while !objects.is_done() {
                        cycles += run::in_context(nmi, || objects.free(function, chunk))?;
                    }
                    Ok([cycles as i64, objects.refused() as i64])
                },
            )?;
        }
        Ok(())
    })
}

/// A barrier of threads, with the cycle count when the last one arrived.
struct Rendezvous {
    came: Atomic<usize>,
    opened: Atomic<u64>,
}

impl Rendezvous {
    const fn new() -> Self {
        Self {
            came: Atomic::new(0),
            opened: Atomic::new(0),
        }
    }

    fn pass(&self, threads: usize) {
        // ORDERING: Full, and acquire below: orders all that the threads did before against all
        // after.
        if self.came.fetch_add(1, Full) + 1 == threads {
            // ORDERING: Release pairs with the acquire below.
            self.opened.store(counters::cycles(), Release);
        }
        // Under -icount cpu_relax() switches to the next CPU, so waiting takes only a few
        // instructions.
        while self.opened.load(Acquire) == 0 {
            cpu_relax();
        }
    }
}

/// `test=parallel`.
pub(crate) fn parallel() -> Result {
    let cpus = cpu::online().count();
    run::for_each_source(|name, source| {
        measure(
            fmt!("parallel cpus={} object={}", cpus, name),
            crate::objects() * cpus,
            bench_fn::functions(source),
            |function| {
                let (start, end) = (Rendezvous::new(), Rendezvous::new());
                let refused = Atomic::<i64>::new(0);
                run::in_threads(cpu::online(), &|| {
                    // Without objects, too: the others wait for this thread.
                    let mut objects = BenchObjects::new(source, crate::objects());
                    start.pass(cpus);
                    if let Ok(objects) = &mut objects {
                        // Some 100 000 instructions, without a tick in between.
                        cpu::irqs_off(|| objects.free(function, crate::objects()));
                        refused.add(objects.refused() as i64, Relaxed);
                    }
                    end.pass(cpus);
                    objects.map(drop)
                })?;
                let took = end.opened.load(Relaxed) - start.opened.load(Relaxed);
                Ok([took as i64, refused.load(Relaxed)])
            },
        )
    })
}
