// SPDX-License-Identifier: GPL-2.0

//! rcuscale's kfree_rcu_test: threads that allocate and free in loops, with its parameters and its
//! line of results (`kfree_scale_thread()` in kernel/rcu/rcuscale.c).

use crate::{
    sys::{
        counters, cpu,
        object::Source,
        thread::{self, Thread},
    },
    way::{self, Way},
    Numbers,
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Atomic, Full, Relaxed},
        Arc,
    },
};

/// Bytes of rcuscale's object: 8 of its own and a struct rcu_head.
const OBJECT: usize = 24;
const MAX_NICE: i32 = 19;

/// `test=scale`.
pub(crate) fn run(numbers: &Numbers) -> Result {
    let cpus = cpu::online().count().max(1);
    let nthreads = if numbers.nthreads == 0 {
        cpus
    } else {
        numbers.nthreads
    };
    let any = Source::new("kmalloc-24")?;
    for way in way::ways(&any) {
        let shared = Arc::new(Shared::new(), GFP_KERNEL)?;
        let mut threads = KVVec::with_capacity(nthreads, GFP_KERNEL)?;
        let numbers = *numbers;
        for i in 0..nthreads {
            let cpu = cpu::online().nth(i % cpus).unwrap_or(0);
            let shared = shared.clone();
            threads.push(
                Thread::spawn(cpu, MAX_NICE, move || one(&shared, &numbers, way, nthreads))?,
                GFP_KERNEL,
            )?;
        }
        let mut result = Ok(());
        for thread in threads {
            result = result.and(thread.join());
        }
        result?;
        let took = shared.end.load(Relaxed) - shared.start.load(Relaxed);
        let periods = shared.periods_end.load(Relaxed) - shared.periods_start.load(Relaxed);
        let peak = shared.peak.load(Relaxed).max(0);
        pr_info!(
            "Total time taken by all kfree'ers: {} ns, loops: {}, batches: {}, memory footprint: {}MB\n",
            took,
            numbers.loops,
            periods,
            peak >> 20
        );
        pr_info!(
            "scale free={} engine={} nthreads={} loops={} alloc_num={} mult={} ns={} batches={} \
             peak_bytes={}\n",
            way.name(),
            way.engine(),
            nthreads,
            numbers.loops,
            numbers.alloc_num,
            numbers.mult,
            took,
            periods,
            peak
        );
        way.settle();
        thread::sleep(200);
    }
    Ok(())
}

struct Shared {
    started: Atomic<usize>,
    ended: Atomic<usize>,
    start: Atomic<u64>,
    end: Atomic<u64>,
    periods_start: Atomic<i64>,
    periods_end: Atomic<i64>,
    peak: Atomic<i64>,
}

impl Shared {
    const fn new() -> Self {
        Self {
            started: Atomic::new(0),
            ended: Atomic::new(0),
            start: Atomic::new(0),
            end: Atomic::new(0),
            periods_start: Atomic::new(0),
            periods_end: Atomic::new(0),
            peak: Atomic::new(0),
        }
    }
}

fn one(shared: &Shared, numbers: &Numbers, way: &'static Way, nthreads: usize) -> Result {
    let source = Source::Kmalloc(numbers.mult * OBJECT);
    let memory = counters::available_bytes();
    // The time is that of the first thread to start, to the last one to end.
    if shared.started.fetch_add(1, Full) == 0 {
        shared.start.store(counters::nanoseconds(), Relaxed);
        shared
            .periods_start
            .store(counters::grace_periods(), Relaxed);
    }
    let mut result = Ok(());
    'loops: for _ in 0..numbers.loops {
        for i in 0..numbers.alloc_num {
            match source.alloc() {
                Ok(object) => {
                    way.free_one(object);
                }
                Err(e) => {
                    result = Err(e);
                    break 'loops;
                }
            }
            if i % 1000 == 999 {
                let used = memory - counters::available_bytes();
                let mut peak = shared.peak.load(Relaxed);
                while peak < used {
                    match shared.peak.cmpxchg(peak, used, Relaxed) {
                        Ok(_) => break,
                        Err(other) => peak = other,
                    }
                }
            }
        }
        thread::cond_resched();
    }
    if shared.ended.fetch_add(1, Full) + 1 == nthreads {
        shared.end.store(counters::nanoseconds(), Relaxed);
        shared.periods_end.store(counters::grace_periods(), Relaxed);
    }
    result
}
