// SPDX-License-Identifier: GPL-2.0

//! What an object costs the whole system from its allocation to its reclaim, grace periods and all:
//! cycles from the first allocation until everything is freed, minus the time in which the CPUs were
//! idle (between the kernel's tracepoint before it halts and the one of the next interrupt). Meant
//! for -icount and one CPU, where it is exact.

use crate::{
    run::{self, Samples, Sorted},
    sys::{
        counters, cpu, free,
        object::Source,
        stretch::{idle_cycles, IdleProbes},
        thread,
    },
    way::{Group, Way},
    Numbers,
};
use kernel::{fmt, prelude::*};

/// At most this much memory in one repetition.
const BYTES: usize = 64 << 20;
/// Objects between two chances for others to run, as rcuscale.
const CHUNK: usize = 100;
/// Objects that wait, and those that are freed at once, where neither is up to a function.
const PENDING: usize = 1 << 14;
const BLOCK: usize = 480;
/// Longer than KFREE_DRAIN_JIFFIES: kfree_rcu() of large and of vmalloc objects is drained by then.
const KERNEL_DRAIN_MSECS: u32 = 6000;

/// What was measured.
pub(crate) struct Cycles {
    samples: Sorted,
    count: usize,
    reps: usize,
    refused: usize,
    periods: i64,
}

impl Cycles {
    /// Of `reps` repetitions of `f`, which has `count` objects go round, and returns how many were refused.
    /// One more is before them, to warm up.
    ///
    /// # Errors
    ///
    /// Those of `f`.
    pub(crate) fn measure(
        reps: usize,
        count: usize,
        mut f: impl FnMut() -> Result<usize>,
    ) -> Result<Self> {
        let _probes = IdleProbes::attach();
        let mut samples = Samples::new(reps)?;
        let (mut refused, mut periods) = (0, 0);
        f()?;
        for _ in 0..reps {
            let before = (counters::grace_periods(), idle(), counters::cycles());
            refused += f()?;
            let cycles = counters::cycles() - before.2;
            samples.push(cycles as i64 - (idle() - before.1) as i64)?;
            periods += counters::grace_periods() - before.0;
        }
        Ok(Self {
            samples: samples.sorted(),
            count,
            reps,
            refused,
            periods,
        })
    }
}

impl fmt::Display for Cycles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_fmt(fmt!(
            "count={} reps={} refused={} {} grace_periods_per_million={}",
            self.count,
            self.reps,
            self.refused,
            self.samples.per(self.count, 0),
            self.periods * 1_000_000 / ((self.count * self.reps) as i64).max(1)
        ))
    }
}

/// The idle time of the CPU that is idle least: all of them idle at once is what -icount jumps over.
fn idle() -> u64 {
    cpu::online().map(idle_cycles).min().unwrap_or(0)
}

/// `test=cycle`.
pub(crate) fn run(numbers: &Numbers) -> Result {
    let count = |source: &Source| numbers.objects.min(BYTES / source.size().max(1)).max(1);
    run::for_each_way(|name, source, way| {
        let count = count(source);
        let cycles = Cycles::measure(numbers.reps, count, || once(way, source, count))?;
        pr_info!("cycle {} object={} {}\n", way, name, cycles);
        Ok(())
    })?;
    if !Group::Kernel.has("kfree_bulk") {
        return Ok(());
    }
    run::for_each_source(|name, source| {
        let count = count(source);
        if source.is_slab() {
            let cycles = Cycles::measure(numbers.reps, count, || floor(source, count))?;
            pr_info!(
                "cycle free=kfree_bulk engine=kernel object={} {}\n",
                name,
                cycles
            );
        }
        Ok(())
    })
}

/// What is left when nothing waits and nothing is queued: objects are allocated, kept as long as a
/// grace period takes, and given back by kfree_bulk(). No design that frees by it can be below.
fn floor(source: &Source, count: usize) -> Result<usize> {
    let mut objects = KVVec::with_capacity(PENDING, GFP_KERNEL)?;
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
    Ok(0)
}

fn once(way: &'static Way, source: &Source, count: usize) -> Result<usize> {
    let mut refused = 0;
    let mut left = count;
    while left > 0 {
        let n = left.min(CHUNK);
        refused += free_some(way, source, n)?;
        left -= n;
        thread::cond_resched();
    }
    way.settle();
    // kfree_rcu() puts those of slabs up to this size into sheaves, which call_rcu() takes; others
    // wait for its monitor.
    let in_sheaves = source.is_slab() && source.size() <= 8192;
    if way.group == Group::Kernel && way.name().starts_with("kfree_rcu") && !in_sheaves {
        thread::sleep(KERNEL_DRAIN_MSECS);
        way.settle();
    }
    Ok(refused)
}

/// Allocates objects and frees each at once. Returns how many were not taken.
#[inline]
fn free_some(way: &'static Way, source: &Source, n: usize) -> Result<usize> {
    let mut refused = 0;
    for _ in 0..n {
        refused += usize::from(!way.free_one(source.alloc()?));
    }
    Ok(refused)
}
