// SPDX-License-Identifier: GPL-2.0

//! What an object costs the whole system from its allocation to its reclaim, grace periods and all:
//! cycles from the first allocation until everything is freed, minus the time in which the CPUs were
//! idle (between the kernel's tracepoint before it halts and the one of the next interrupt). Meant
//! for -icount and one CPU, where it is exact.

use crate::{
    run::{self, Samples, Spread},
    sys::{
        counters::{self, idle_cycles},
        cpu,
        free::{self, Source},
        thread,
    },
    way::{Group, Way},
    Numbers,
};
use kernel::{fmt, prelude::*};

/// At most this much memory in one repetition.
const BYTES: usize = 64 << 20;
/// Objects between two chances for others to run, as rcuscale.
pub(crate) const CHUNK: usize = 100;
/// Objects that wait, and those that are freed at once, where neither is up to a function.
const PENDING: usize = 1 << 14;
const BLOCK: usize = 480;
/// Longer than KFREE_DRAIN_JIFFIES: kfree_rcu() of large and of vmalloc objects is drained by then.
const KERNEL_DRAIN_MSECS: u32 = 6000;

/// The idle time of the CPU that is idle least: all of them idle at once is what -icount jumps over.
fn idle() -> u64 {
    cpu::online().map(idle_cycles).min().unwrap_or(0)
}

/// Prints `what` with the cycles of `reps` repetitions in which `count` objects go round. `some` has
/// as many of them do so as it is told and returns how many were refused; told 0, at the end, it
/// waits until all are back.
pub(crate) fn measure(
    what: fmt::Arguments<'_>,
    (reps, count): (usize, usize),
    mut some: impl FnMut(usize) -> Result<usize>,
) -> Result {
    let _probes = counters::idle_probes()?;
    let [cycles, refused, periods] = &Samples::of(reps, || {
        let before = (counters::grace_periods(), idle(), counters::cycles());
        let (mut left, mut refused) = (count, 0);
        while left > 0 {
            let n = left.min(CHUNK);
            refused += some(n)?;
            left -= n;
            thread::cond_resched();
        }
        some(0)?;
        let cycles = counters::cycles() - before.2;
        Ok([
            cycles as i64 - (idle() - before.1) as i64,
            refused as i64,
            counters::grace_periods() - before.0,
        ])
    })?;
    let spread = Spread {
        cycles,
        refused,
        count,
        overhead: 0,
    };
    let periods = periods.sum() * 1_000_000 / ((count * reps) as i64).max(1);
    pr_info!(
        "{} {} grace_periods_per_million={}\n",
        what,
        spread,
        periods
    );
    Ok(())
}

/// `test=cycle`.
pub(crate) fn run(numbers: &Numbers) -> Result {
    let size = |source: &Source| {
        let count = numbers.objects.min(BYTES / source.size().max(1)).max(1);
        (numbers.reps, count)
    };
    run::for_each_way(|name, source, way| {
        measure(
            fmt!("cycle {} object={}", way, name),
            size(source),
            |n| match n {
                0 => wait(way, source),
                n => way.go_round(source, n),
            },
        )
    })?;
    run::for_each_source(|name, source| {
        if !source.is_slab() || !Group::Kernel.has("kfree_bulk") {
            return Ok(());
        }
        // What is left when nothing waits and nothing is queued: objects are allocated, kept as long as a
        // grace period takes, and given back by kfree_bulk(). No design that frees by it can be below.
        let mut objects = KVVec::with_capacity(PENDING + CHUNK, GFP_KERNEL)?;
        measure(
            fmt!("cycle free=kfree_bulk engine=kernel object={}", name),
            size(source),
            |n| {
                for _ in 0..n {
                    objects.push(source.alloc()?, GFP_KERNEL)?;
                }
                if n == 0 || objects.len() >= PENDING {
                    for block in objects.chunks_mut(BLOCK) {
                        // SAFETY: Slab objects fresh from the allocator, given away: forgotten below.
                        unsafe { free::kfree_bulk(block) };
                        thread::cond_resched();
                    }
                    objects.clear();
                }
                Ok(0)
            },
        )
    })
}

fn wait(way: &Way, source: &Source) -> Result<usize> {
    way.settle();
    // kfree_rcu() puts those of slabs up to this size into sheaves, which call_rcu() takes; others
    // wait for its monitor.
    let in_sheaves = source.is_slab() && source.size() <= 8192;
    if way.group == Group::Kernel && way.name().starts_with("kfree_rcu") && !in_sheaves {
        thread::sleep(KERNEL_DRAIN_MSECS);
        way.settle();
    }
    Ok(0)
}
