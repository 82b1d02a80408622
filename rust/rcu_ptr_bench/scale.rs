// SPDX-License-Identifier: GPL-2.0

//! The kfree_rcu test of rcuscale: threads that allocate and free in loops, with its parameters and
//! its line of results (`kfree_scale_thread()` in kernel/rcu/rcuscale.c); and the same loops with
//! pairs of functions, also those of caches.

use crate::{
    bench_fn::{self, Group},
    cycle::CHUNK,
    module_parameters::{kfree_alloc_num, kfree_loops, kfree_mult, kfree_nthreads},
    run::{self, Per},
    sheaf,
    sys::{
        counters, cpu,
        free::{Caches, ObjectKind},
        thread,
    },
};
use kernel::{
    prelude::*,
    str::CString,
    sync::atomic::{Atomic, Full, Relaxed},
};

/// The size of rcuscale's object: 8 bytes and a struct rcu_head.
const OBJECT: usize = 24;

/// The result of all threads together.
struct ScaleResult {
    /// The printed part.
    text: CString,
    allocs: usize,
    ns: u64,
    batches: i64,
    peak: i64,
}

/// Runs threads that call `f`, which allocates and frees [`CHUNK`] objects and returns the number
/// of failures.
fn threads(f: &(dyn Fn() -> Result<usize> + Sync)) -> Result<ScaleResult> {
    let cpus = cpu::online().count().max(1);
    let nthreads = match kfree_nthreads.value() as usize {
        0 => cpus,
        n => n,
    };
    let loops = kfree_loops.value() as usize;
    let chunks = (kfree_alloc_num.value() as usize).div_ceil(CHUNK);
    // The time is from the start of the first thread to the end of the last one.
    let (started, ended) = (Atomic::<usize>::new(0), Atomic::<usize>::new(0));
    let (start, end) = (Atomic::<u64>::new(0), Atomic::<u64>::new(0));
    let (peak, refused) = (Atomic::<i64>::new(0), Atomic::<usize>::new(0));
    let periods = counters::grace_periods();
    let on = (0..nthreads).map(|i| cpu::online().nth(i % cpus).unwrap_or(0));
    run::in_threads(on, &|| {
        thread::set_nice();
        let memory = counters::available_bytes();
        if started.fetch_add(1, Full) == 0 {
            start.store(thread::now() as u64, Relaxed);
        }
        let result = (0..loops).try_for_each(|_| {
            for i in 1..=chunks {
                refused.fetch_add(f()?, Full);
                if i % 10 == 0 {
                    let used = memory - counters::available_bytes();
                    let mut most = peak.load(Relaxed);
                    while most < used {
                        match peak.cmpxchg(most, used, Relaxed) {
                            Ok(_) => break,
                            Err(other) => most = other,
                        }
                    }
                }
            }
            thread::cond_resched();
            Ok(())
        });
        if ended.fetch_add(1, Full) + 1 == nthreads {
            end.store(thread::now() as u64, Relaxed);
        }
        result
    })?;
    let ns = end.load(Relaxed) - start.load(Relaxed);
    let batches = counters::grace_periods() - periods;
    let peak = peak.load(Relaxed);
    Ok(ScaleResult {
        text: CString::try_from_fmt(fmt!(
            "nthreads={} loops={} alloc_num={} ns={} batches={} peak_bytes={} refused={}",
            nthreads,
            loops,
            kfree_alloc_num.value(),
            ns,
            batches,
            peak,
            refused.load(Relaxed)
        ))?,
        allocs: nthreads * loops * chunks * CHUNK,
        ns,
        batches,
        peak,
    })
}

/// `test=scale`.
pub(crate) fn run() -> Result {
    let source = ObjectKind::Kmalloc(kfree_mult.value() as usize * OBJECT);
    for function in bench_fn::functions(&source) {
        let took = threads(&|| function.alloc_and_free(&source, CHUNK))?;
        pr_info!(
            "Total time taken by all kfree'ers: {} ns, loops: {}, batches: {}, memory footprint: \
             {}MB\n",
            took.ns,
            kfree_loops.value(),
            took.batches,
            took.peak >> 20
        );
        pr_info!("scale {} {}\n", function, &*took.text);
        function.settle();
        thread::sleep(200);
    }
    Ok(())
}

/// `test=sheafscale`.
pub(crate) fn pairs() -> Result {
    for pair in sheaf::pairs() {
        let caches = Caches::new()?;
        let took = threads(&|| Ok((pair.alloc_free_loop)()))?;
        let stats = caches.stats();
        // Shares of the allocations: served by a sheaf; of an object that had been used before.
        let share = |others: u64| match pair.group {
            Group::RcuPtr => Per(100 * (took.allocs as i64 - others as i64), took.allocs),
            _ => Per(0, 1),
        };
        pr_info!(
            "sheafscale {} {} hit_percent={} recycled_percent={}\n",
            pair,
            &*took.text,
            share(stats.missed),
            share(stats.slab_allocs)
        );
        sheaf::settle();
    }
    Ok(())
}
