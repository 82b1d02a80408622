// SPDX-License-Identifier: GPL-2.0

//! What a call costs: cycles of a loop over many objects, the loop without a call subtracted. Under
//! -icount a cycle is an instruction. In task context and in NMI; and where every CPU frees at the same
//! time: the counter goes on with the instructions of all of them, so from the start of the first loop
//! to the end of the last one it counts waiting for locks too.

use crate::{
    nmi::NmiSource,
    run::{self, Samples, Spread},
    sys::{counters, cpu},
    way::{self, Objects, Way},
    Numbers,
};
use kernel::{
    fmt,
    prelude::*,
    processor::cpu_relax,
    sync::atomic::{Acquire, Atomic, Full, Relaxed, Release},
};

/// Objects that are freed in an NMI.
const CHUNK: usize = 100;

/// Prints `what` with the cost of each of `ways`, of repetitions of `once` with `count` objects.
fn measure<'a>(
    what: fmt::Arguments<'_>,
    (reps, count): (usize, usize),
    ways: impl Iterator<Item = &'a Way>,
    mut once: impl FnMut(&Way) -> Result<[i64; 2]>,
) -> Result {
    let mut samples = |way: &Way| {
        Samples::of(reps, || {
            let took = once(way)?;
            way.settle();
            Ok(took)
        })
    };
    let overhead = samples(&way::NOTHING)?[0].median();
    for way in ways {
        let [cycles, refused] = &samples(way)?;
        let spread = Spread {
            cycles,
            refused,
            count,
            overhead,
        };
        pr_info!("{} {} {}\n", what, way, spread);
    }
    Ok(())
}

/// `test=calls`.
pub(crate) fn run(numbers: &Numbers) -> Result {
    let nmi = NmiSource::new()?;
    run::for_each_source(|name, source| {
        for (context, nmi) in run::contexts(&nmi) {
            let chunk = nmi.map_or(numbers.objects, |_| CHUNK);
            measure(
                fmt!("call context={} object={}", context, name),
                (numbers.reps, numbers.objects),
                way::ways(source).filter(|way| nmi.is_none() || way.in_nmi),
                |way| {
                    let mut objects = Objects::new(source, numbers.objects)?;
                    let mut cycles = 0;
                    while !objects.is_done() {
                        cycles += run::inside(nmi, || objects.free(way, chunk))?;
                    }
                    Ok([cycles as i64, objects.refused() as i64])
                },
            )?;
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

/// `test=parallel`.
pub(crate) fn parallel(numbers: &Numbers) -> Result {
    let cpus = cpu::online().count();
    run::for_each_source(|name, source| {
        measure(
            fmt!("parallel cpus={} object={}", cpus, name),
            (numbers.reps, numbers.objects * cpus),
            way::ways(source),
            |way| {
                let (start, end) = (Gate::new(), Gate::new());
                let refused = Atomic::<i64>::new(0);
                run::in_threads(cpu::online(), &|| {
                    // Those that have no objects wait all the same, or the others would wait for ever.
                    let mut objects = Objects::new(source, numbers.objects);
                    start.pass(cpus);
                    if let Ok(objects) = &mut objects {
                        // Some 100 000 instructions: no tick gets in between.
                        cpu::irqs_off(|| objects.free(way, numbers.objects));
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
