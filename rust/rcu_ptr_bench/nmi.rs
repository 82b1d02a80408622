// SPDX-License-Identifier: GPL-2.0

//! What frees in NMI cause: interrupts that the CPU sends to itself, and irq_works. One object per
//! NMI, with interrupts on in between, as profiling and tracing do it.

use crate::{
    run::{self, Per},
    sys::{
        counters, cpu,
        perf::{Breakpoint, Hook, Kind},
        thread,
    },
    way::{self, Objects},
    Numbers,
};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// Objects allocated at once.
const CHUNK: usize = 1000;

/// `test=nmi`.
pub(crate) fn run(numbers: &Numbers) -> Result {
    let Some(nmi) = run::nmi_source()? else {
        return Ok(());
    };
    run::for_each_source(|name, source| {
        for way in way::ways(source).filter(|way| way.in_nmi) {
            // NMIs turn breakpoints off: calls in them don't count.
            let hits = Atomic::<u64>::new(0);
            let hit = || hits.add(1, Relaxed);
            let hook = Hook::new(&hit);
            // Where the kernel has no kprobes it allows no breakpoints in its text.
            let breakpoints = numbers.irq_works.map(|address| {
                (address != 0)
                    .then(|| Breakpoint::new(Kind::Execute, address, &hook).ok())
                    .flatten()
            });
            let counted = breakpoints.iter().any(Option::is_some);
            let works = || hits.load(Relaxed);
            let ipis = || -> u64 { cpu::online().map(counters::irq_work_ipis).sum() };
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
                thread::cond_resched();
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
