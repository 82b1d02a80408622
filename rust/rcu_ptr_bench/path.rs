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
        run::{self, Per, Samples},
        sys::{
            cpu,
            step::{Step, Stepper},
        },
        way::{self, Objects, Way},
        Numbers,
    };
    use kernel::prelude::*;

    /// What was counted in one call.
    #[derive(Clone, Copy, Default)]
    struct Counts {
        instructions: i64,
        locked: i64,
        barriers: i64,
        fences: i64,
        interrupts: i64,
        slow: i64,
    }

    impl Counts {
        fn of(path: &[Step]) -> Self {
            let mut counts = Self {
                instructions: path.len() as i64,
                ..Self::default()
            };
            for step in path {
                match decode::kind(&step.bytes) {
                    Kind::Plain => {}
                    Kind::Locked => counts.locked += 1,
                    Kind::FullBarrier => counts.barriers += 1,
                    Kind::Fence => counts.fences += 1,
                    Kind::Interrupts => counts.interrupts += 1,
                    Kind::Slow => counts.slow += 1,
                }
            }
            counts
        }

        fn minus(self, other: Self) -> Self {
            Self {
                instructions: self.instructions - other.instructions,
                locked: self.locked - other.locked,
                barriers: self.barriers - other.barriers,
                fences: self.fences - other.fences,
                interrupts: self.interrupts - other.interrupts,
                slow: self.slow - other.slow,
            }
        }
    }

    /// `test=path`.
    pub(crate) fn run(numbers: &Numbers) -> Result {
        let mut stepper = Stepper::new()?;
        run::for_each_source(|name, source| {
            let mut objects = Objects::new(source, 2)?;
            let mut overhead = Counts::default();
            for _ in 0..2 {
                overhead = one(&mut stepper, &way::NOTHING, &mut objects)?;
            }
            drop(objects);
            for way in way::ways(source) {
                let mut objects = Objects::new(source, numbers.objects)?;
                let mut lengths = Samples::new(numbers.objects)?;
                let mut counts = KVVec::with_capacity(numbers.objects, GFP_KERNEL)?;
                while !objects.is_done() {
                    let call = one(&mut stepper, way, &mut objects)?.minus(overhead);
                    lengths.push(call.instructions)?;
                    counts.push(call, GFP_KERNEL)?;
                }
                drop(objects);
                way.settle();
                let lengths = lengths.sorted();
                let usual = lengths.median();
                let Some(common) = counts.iter().find(|c| c.instructions == usual) else {
                    return Err(EIO);
                };
                let mean = |f: fn(&Counts) -> i64| Per(counts.iter().map(f).sum(), counts.len());
                pr_info!(
                    "path free={} engine={} object={} calls={} instructions={} locked={} \
                     barriers={} fences={} interrupts={} slow={} mean_instructions={} \
                     mean_locked={} mean_barriers={} mean_fences={} max_instructions={}\n",
                    way.name(),
                    way.engine(),
                    name,
                    counts.len(),
                    common.instructions,
                    common.locked,
                    common.barriers,
                    common.fences,
                    common.interrupts,
                    common.slow,
                    mean(|c| c.instructions),
                    mean(|c| c.locked),
                    mean(|c| c.barriers),
                    mean(|c| c.fences),
                    lengths.at(100)
                );
                print_usual(&mut stepper, way, source, usual + overhead.instructions)?;
            }
            Ok(())
        })
    }

    fn one(stepper: &mut Stepper, way: &Way, objects: &mut Objects) -> Result<Counts> {
        stepper.clear();
        cpu::irqs_off(|| objects.free_step(way));
        stepper.path().map(Counts::of)
    }

    /// Calls until one takes `steps` instructions, and prints those.
    fn print_usual(
        stepper: &mut Stepper,
        way: &Way,
        source: &crate::sys::object::Source,
        steps: i64,
    ) -> Result {
        let mut objects = Objects::new(source, 100)?;
        while !objects.is_done() {
            if one(stepper, way, &mut objects)?.instructions == steps {
                for (number, step) in stepper.path()?.iter().enumerate() {
                    step.print(way.name, number);
                }
                break;
            }
        }
        drop(objects);
        way.settle();
        Ok(())
    }
}
