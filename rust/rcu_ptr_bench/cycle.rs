// SPDX-License-Identifier: GPL-2.0

//! What an object costs the whole system from its allocation to its reclaim, grace periods and all:
//! cycles from the first allocation until everything is freed, minus the time in which the CPUs were
//! idle (between the kernel's tracepoint before it halts and the one of the next interrupt). Meant for -icount and one CPU, where it is exact.

use crate::{
    run::{self, Per, Samples},
    sys::{
        counters, cpu, free,
        object::Source,
        stretch::{idle_cycles, IdleProbes},
        thread,
    },
    way::{self, Group, Way},
    Numbers,
};
use kernel::prelude::*;

/// At most this much memory in one repetition.
const BYTES: usize = 64 << 20;
/// Objects between two chances for others to run, as rcuscale.
const CHUNK: usize = 100;
/// Objects that wait, and those that are freed at once, where neither is up to a function.
const PENDING: usize = 1 << 14;
const BLOCK: usize = 480;
/// Longer than KFREE_DRAIN_JIFFIES: kfree_rcu() of large and of vmalloc objects is drained by then.
const KERNEL_DRAIN_MSECS: u32 = 6000;

/// `test=cycle`.
pub(crate) fn run(numbers: &Numbers) -> Result {
    let _probes = IdleProbes::attach();
    run::for_each_source(|name, source| {
        let count = numbers.objects.min(BYTES / source.size().max(1)).max(1);
        for way in way::ways(source) {
            let mut samples = Samples::new(numbers.reps)?;
            let (mut periods, mut kept) = (0, 0);
            once(way, source, (count / 4).max(1), &mut 0)?;
            for _ in 0..numbers.reps {
                let before = counters::grace_periods();
                samples.push(once(way, source, count, &mut kept)?)?;
                periods += counters::grace_periods() - before;
            }
            let samples = samples.sorted();
            pr_info!(
                "cycle free={} engine={} object={} count={} reps={} kept={} min={} median={} max={} \
                 grace_periods_per_million={}\n",
                way.name(),
                way.engine(),
                name,
                count,
                numbers.reps,
                kept,
                Per(samples.at(0), count),
                Per(samples.median(), count),
                Per(samples.at(100), count),
                periods * 1_000_000 / ((count * numbers.reps) as i64).max(1)
            );
        }
        if source.is_slab() && way::is_named("kernel", "kfree_bulk") {
            floor(name, source, count, numbers.reps)?;
        }
        Ok(())
    })
}

/// What is left when nothing waits and nothing is queued: objects are allocated, kept as long as a
/// grace period takes, and given back by kfree_bulk(). No design that frees by it can be below.
fn floor(name: &str, source: &Source, count: usize, reps: usize) -> Result {
    let mut samples = Samples::new(reps)?;
    let mut objects = KVVec::with_capacity(PENDING, GFP_KERNEL)?;
    for rep in 0..=reps {
        let busy = Busy::start();
        for i in 1..=count {
            objects.push(source.alloc()?, GFP_KERNEL)?;
            if objects.len() == PENDING || i == count {
                for block in objects.chunks_mut(BLOCK) {
                    // SAFETY: Slab objects fresh from the allocator, given away: forgotten below.
                    unsafe { free::kfree_bulk(block) };
                    thread::cond_resched();
                }
                objects.clear();
            }
            if i % CHUNK == 0 {
                thread::cond_resched();
            }
        }
        let took = busy.stop();
        // The first one warms up.
        if rep > 0 {
            samples.push(took)?;
        }
    }
    let samples = samples.sorted();
    pr_info!(
        "cycle free=kfree_bulk engine=kernel object={} count={} reps={} kept=0 min={} median={} \
         max={} grace_periods_per_million=0\n",
        name,
        count,
        reps,
        Per(samples.at(0), count),
        Per(samples.median(), count),
        Per(samples.at(100), count),
    );
    Ok(())
}

/// Cycles in which any CPU was busy. All of them idle at once is what -icount jumps over.
pub(crate) struct Busy {
    cycles: u64,
    idle: u64,
}

/// The idle time of the CPU that is idle least.
fn idle() -> u64 {
    cpu::online().map(idle_cycles).min().unwrap_or(0)
}

impl Busy {
    pub(crate) fn start() -> Self {
        Self {
            idle: idle(),
            cycles: counters::cycles(),
        }
    }

    pub(crate) fn stop(self) -> i64 {
        let cycles = counters::cycles() - self.cycles;
        cycles as i64 - (idle() - self.idle) as i64
    }
}

fn once(way: &'static Way, source: &Source, count: usize, kept: &mut usize) -> Result<i64> {
    let busy = Busy::start();
    let mut left = count;
    while left > 0 {
        let n = left.min(CHUNK);
        *kept += free_some(way, source, n)?;
        left -= n;
        thread::cond_resched();
    }
    way.settle();
    if way.group == Group::Kernel && way.name().starts_with("kfree_rcu") && !is_sheaf_sized(source)
    {
        thread::sleep(KERNEL_DRAIN_MSECS);
        way.settle();
    }
    Ok(busy.stop())
}

/// Whether kfree_rcu() puts these into sheaves, which call_rcu() takes; others wait for its monitor.
fn is_sheaf_sized(source: &Source) -> bool {
    source.is_slab() && source.size() <= 8192
}

/// Allocates objects and frees each at once. Returns how many were not taken.
#[inline]
fn free_some(way: &'static Way, source: &Source, n: usize) -> Result<usize> {
    let mut kept = 0;
    for _ in 0..n {
        kept += usize::from(!way.free_one(source.alloc()?));
    }
    Ok(kept)
}
