// SPDX-License-Identifier: GPL-2.0

//! The instructions that a call executes, one by one: each raises a debug exception (the trap flag,
//! x86 only), whose handler looks at it. So instructions, locked instructions and barriers are
//! counted, not guessed; and the path of the usual call goes into the log.
//!
//! Interrupts are off, so that nothing else is stepped through, and the functions take the way that
//! they take in NMI.

#[cfg(not(CONFIG_X86_64))]
pub(crate) fn run(_numbers: &crate::Numbers) -> kernel::prelude::Result {
    kernel::prelude::pr_info!("note text=no single-stepping here: no path is measured\n");
    Ok(())
}

#[cfg(CONFIG_X86_64)]
pub(crate) use x86::run;

#[cfg(CONFIG_X86_64)]
mod x86 {
    use crate::{
        decode::{self, Kind},
        run::{self, Samples},
        sys::{
            cpu,
            step::{self, Step, Stepper},
        },
        way::{self, Objects, Way},
        Numbers,
    };
    use kernel::prelude::*;

    /// What was counted in a call and the loop around it: instructions, locked ones, full barriers.
    type Counts = (i64, usize, usize);

    /// `test=path`.
    pub(crate) fn run(numbers: &Numbers) -> Result {
        let mut stepper = Stepper::new()?;
        run::for_each_way(|name, source, way| {
            // The loop has neither locks nor barriers.
            let mut objects = Objects::new(source, 2)?;
            one(&mut stepper, &way::NOTHING, &mut objects)?;
            let (overhead, ..) = one(&mut stepper, &way::NOTHING, &mut objects)?;
            // One is to warm up.
            let mut objects = Objects::new(source, numbers.objects + 1)?;
            let mut calls = KVVec::with_capacity(objects.len(), GFP_KERNEL)?;
            let [lengths] = Samples::of(numbers.objects, || {
                let call = one(&mut stepper, way, &mut objects)?;
                calls.push(call, GFP_KERNEL)?;
                Ok([call.0])
            })?;
            way.settle();
            let mut usual = calls.iter().filter(|call| call.0 == lengths.median());
            let &(steps, locked, barriers) = usual.next().ok_or(EIO)?;
            pr_info!(
                "path {} object={} count={} instructions={} locked={} barriers={} max_instructions={}\n",
                way,
                name,
                numbers.objects,
                steps - overhead,
                locked,
                barriers,
                lengths.at(100) - overhead
            );
            // Calls until one takes as many, and prints it.
            let mut objects = Objects::new(source, 100)?;
            while !objects.is_done() {
                if one(&mut stepper, way, &mut objects)?.0 == steps {
                    for (number, step) in stepper.path()?.iter().enumerate() {
                        step.print(way.name, number);
                    }
                    break;
                }
            }
            drop(objects);
            way.settle();
            Ok(())
        })
    }

    fn one(stepper: &mut Stepper, way: &Way, objects: &mut Objects) -> Result<Counts> {
        stepper.clear();
        cpu::irqs_off(|| {
            step::start();
            objects.free(way, 1);
            step::stop();
        });
        let path: &[Step] = stepper.path()?;
        let of = |kind| {
            let kinds = path.iter().map(|step| decode::kind(&step.bytes));
            kinds.filter(|&other| other == kind).count()
        };
        Ok((path.len() as i64, of(Kind::Locked), of(Kind::FullBarrier)))
    }
}
