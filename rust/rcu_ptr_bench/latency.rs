// SPDX-License-Identifier: GPL-2.0

//! Every single call timed: the usual one, and the worst, which finds a block full or has to
//! allocate.

use crate::{
    context::NmiSource,
    run::{self, Context, Samples, Sorted},
    sys::{cpu, object::Source},
    way::{self, Objects, Way},
    Numbers,
};
use kernel::prelude::*;

const CHUNK: usize = 50;

/// `test=latency`.
pub(crate) fn run(numbers: &Numbers) -> Result {
    let nmi = run::nmi_source()?;
    let nmi = nmi.as_ref();
    run::for_each_source(|name, source| {
        for context in [Context::IrqsOff, Context::Nmi] {
            if !context.allows(&way::NOTHING, nmi) {
                continue;
            }
            let overhead = measure(numbers, context, &way::NOTHING, nmi, source)?.median();
            for way in way::ways(source).filter(|way| context.allows(way, nmi)) {
                let calls = measure(numbers, context, way, nmi, source)?;
                pr_info!(
                    "latency context={} free={} engine={} object={} calls={} p50={} p99={} max={}\n",
                    context.name(),
                    way.name(),
                    way.engine(),
                    name,
                    numbers.objects * numbers.reps,
                    calls.median() - overhead,
                    calls.at(99) - overhead,
                    calls.at(100) - overhead
                );
            }
        }
        Ok(())
    })
}

fn measure(
    numbers: &Numbers,
    context: Context,
    way: &Way,
    nmi: Option<&NmiSource>,
    source: &Source,
) -> Result<Sorted> {
    let mut samples = Samples::new(numbers.objects * numbers.reps)?;
    for _ in 0..numbers.reps {
        let mut objects = Objects::new(source, numbers.objects)?;
        while !objects.is_done() {
            let mut chunk = [0; CHUNK];
            let before = objects.left();
            let mut free = || objects.free_each(way, &mut chunk);
            match nmi {
                Some(nmi) if context == Context::Nmi => nmi.call(&mut free),
                _ => cpu::irqs_off(free),
            }
            for &cycles in chunk.iter().take(before - objects.left()) {
                samples.push(i64::from(cycles))?;
            }
        }
        way.settle();
    }
    Ok(samples.sorted())
}
