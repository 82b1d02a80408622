// SPDX-License-Identifier: GPL-2.0

//! What frees in NMI cause: interrupts that the CPU sends to itself, and irq_works. One object per
//! NMI, with interrupts on in between, as profiling and tracing do it.

use crate::{
    context::NmiSource,
    run::{self, Per},
    sys::{
        counters, cpu, params,
        perf::{Breakpoint, Hook, Kind},
        thread,
    },
    way::Objects,
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
    let Some(nmi) = NmiSource::new()? else {
        return Ok(());
    };
    run::for_each_way(|name, source, way| {
        if !way.in_nmi {
            return Ok(());
        }
        // NMIs turn breakpoints off: calls in them don't count.
        let hits = Atomic::<u64>::new(0);
        let hit = || hits.add(1, Relaxed);
        let hook = Hook::new(&hit);
        let mut breakpoints = KVec::new();
        for address in params::irq_works() {
            // Where the kernel has no kprobes it allows no breakpoints in its text.
            if let Ok(breakpoint) = Breakpoint::new(Kind::Execute, address, &hook) {
                breakpoints.push(breakpoint, GFP_KERNEL)?;
            }
        }
        let ipis = || -> u64 { cpu::online().map(counters::irq_work_ipis).sum() };
        let before = ipis();
        let (mut refused, mut freed) = (0, 0);
        while freed < numbers.objects {
            let mut objects = Objects::new(source, CHUNK.min(numbers.objects - freed))?;
            while !objects.is_done() {
                run::inside(Some(&nmi), || objects.free(way, 1))?;
            }
            freed += objects.len();
            refused += objects.refused();
            thread::cond_resched();
        }
        let per_1000 = |n: u64| Per(n as i64 * 1000, freed);
        pr_info!(
            "nmi {} object={} count={} refused={} ipis_per_1000={} irq_works_per_1000={} \
             irq_works_counted={}\n",
            way,
            name,
            freed,
            refused,
            per_1000(ipis() - before),
            per_1000(hits.load(Relaxed)),
            u8::from(!breakpoints.is_empty())
        );
        drop(breakpoints);
        way.settle();
        Ok(())
    })
}
