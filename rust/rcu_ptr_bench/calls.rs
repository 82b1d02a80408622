// SPDX-License-Identifier: GPL-2.0

//! What a call costs, in task context and in NMI: cycles of a loop over many objects, the loop without
//! a call subtracted. Under -icount a cycle is an instruction.

use crate::{
    context::NmiSource,
    run::{self, Samples, Sorted},
    sys::object::Source,
    way::{self, Objects, Way},
    Numbers,
};
use kernel::prelude::*;

/// Objects that are freed in an NMI.
const CHUNK: usize = 100;

/// `test=calls`.
pub(crate) fn run(numbers: &Numbers) -> Result {
    let nmi = NmiSource::new()?;
    run::for_each_source(|name, source| {
        for (context, nmi) in run::contexts(&nmi) {
            let overhead = measure(numbers, nmi, &way::NOTHING, source)?.0.median();
            for way in way::ways(source).filter(|way| nmi.is_none() || way.in_nmi) {
                let (calls, refused) = measure(numbers, nmi, way, source)?;
                pr_info!(
                    "call context={} {} object={} count={} reps={} refused={} {}\n",
                    context,
                    way,
                    name,
                    numbers.objects,
                    numbers.reps,
                    refused,
                    calls.per(numbers.objects, overhead)
                );
            }
        }
        Ok(())
    })
}

/// Cycles of each repetition, and objects that were not taken. The first repetition only warms up.
fn measure(
    numbers: &Numbers,
    nmi: Option<&NmiSource>,
    way: &Way,
    source: &Source,
) -> Result<(Sorted, usize)> {
    let mut samples = Samples::new(numbers.reps)?;
    let mut refused = 0;
    let chunk = nmi.map_or(numbers.objects, |_| CHUNK);
    for rep in 0..=numbers.reps {
        let mut objects = Objects::new(source, numbers.objects)?;
        let mut cycles = 0;
        while !objects.is_done() {
            cycles += run::inside(nmi, || objects.free(way, chunk))?;
        }
        if rep > 0 {
            samples.push(cycles as i64)?;
            refused += objects.refused();
        }
        way.settle();
    }
    Ok((samples.sorted(), refused))
}
