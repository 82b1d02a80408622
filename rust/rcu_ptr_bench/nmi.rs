// SPDX-License-Identifier: GPL-2.0

//! What frees in NMI cause: interrupts that the CPU sends to itself, and irq_works. One object per
//! NMI, with interrupts on in between, as profiling and tracing do it.

use crate::{
    run::{self, Per},
    sys::{
        context,
        counters::{self, CallCounter},
    },
    way::{self, Objects},
    Numbers,
};
use kernel::prelude::*;

/// Objects allocated at once.
const CHUNK: usize = 1000;

/// `test=nmi`.
pub(crate) fn run(numbers: &Numbers) -> Result {
    let Some(nmi) = run::nmi_source()? else {
        return Ok(());
    };
    run::for_each_source(|name, source| {
        for way in way::ways(source).filter(|way| way.in_nmi) {
            // Where the kernel has no kprobes it allows no breakpoints in its text.
            let breakpoints = numbers.irq_works.map(|address| {
                (address != 0)
                    .then(|| CallCounter::new(address).ok())
                    .flatten()
            });
            let counted = breakpoints.iter().any(Option::is_some);
            let works = || {
                if counted {
                    CallCounter::count()
                } else {
                    0
                }
            };
            let ipis = || -> u64 { context::online_cpus().map(counters::irq_work_ipis).sum() };
            let periods = counters::grace_periods();
            let before = ipis();
            let (mut kept, mut freed) = (0, 0);
            while freed < numbers.objects {
                let mut objects = Objects::new(source, CHUNK.min(numbers.objects - freed))?;
                while !objects.is_done() {
                    nmi.call(&mut || {
                        objects.free(way, 1);
                    });
                }
                freed += objects.len();
                kept += objects.kept();
                context::cond_resched();
            }
            let steady = (ipis() - before, works());
            way.settle();
            let all = (ipis() - before, works());
            let periods = counters::grace_periods() - periods;
            drop(breakpoints);
            let per_1000 = |n: u64| Per(n as i64 * 1000, freed);
            pr_info!(
                "nmi free={} engine={} object={} nmis={} kept={} ipis_per_1000={} \
                 irq_works_per_1000={} ipis_with_barrier={} irq_works_with_barrier={} \
                 grace_periods={} irq_works_counted={}\n",
                way.name(),
                way.engine(),
                name,
                freed,
                kept,
                per_1000(steady.0),
                per_1000(steady.1),
                per_1000(all.0),
                per_1000(all.1),
                periods,
                u8::from(counted)
            );
        }
        Ok(())
    })
}
