// SPDX-License-Identifier: GPL-2.0

//! What a call costs, in each context: cycles of a loop over many objects, the loop without a call
//! subtracted. Under -icount a cycle is an instruction.

use crate::{
    context::NmiSource,
    run::{self, Context, Per, Samples, Sorted},
    sys::object::Source,
    way::{self, Objects, Way},
    Numbers,
};
use kernel::prelude::*;

/// `test=calls`.
pub(crate) fn run(numbers: &Numbers) -> Result {
    let nmi = run::nmi_source()?;
    let nmi = nmi.as_ref();
    run::for_each_source(|name, source| {
        for context in run::CONTEXTS {
            if !context.allows(&way::NOTHING, nmi) {
                continue;
            }
            let (loops, _) = measure(numbers, context, &way::NOTHING, nmi, source)?;
            for way in way::ways(source).filter(|way| context.allows(way, nmi)) {
                let (calls, kept) = measure(numbers, context, way, nmi, source)?;
                let per = |percent| Per(calls.at(percent) - loops.median(), numbers.objects);
                pr_info!(
                    "call context={} free={} engine={} object={} calls={} reps={} kept={} \
                     min={} median={} max={} overhead={}\n",
                    context.name(),
                    way.name(),
                    way.engine(),
                    name,
                    numbers.objects,
                    numbers.reps,
                    kept,
                    per(0),
                    per(50),
                    per(100),
                    Per(loops.median(), numbers.objects)
                );
            }
        }
        Ok(())
    })
}

/// Cycles of each repetition, and objects that were not taken. The first repetition only warms up.
fn measure(
    numbers: &Numbers,
    context: Context,
    way: &Way,
    nmi: Option<&NmiSource>,
    source: &Source,
) -> Result<(Sorted, usize)> {
    let mut samples = Samples::new(numbers.reps)?;
    let mut kept = 0;
    for rep in 0..=numbers.reps {
        let mut objects = Objects::new(source, numbers.objects)?;
        let cycles = run::free_all(context, way, nmi, &mut objects)?;
        if rep > 0 {
            samples.push(cycles as i64)?;
            kept += objects.kept();
        }
        way.settle();
    }
    Ok((samples.sorted(), kept))
}
