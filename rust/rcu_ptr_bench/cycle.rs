// SPDX-License-Identifier: GPL-2.0

//! The cost of the whole cycle of an object, from allocation to reclaim, grace periods included:
//! cycles from the first allocation until everything is freed, minus the time in which the CPUs are
//! idle (from the tracepoint before the kernel halts to that of the next interrupt). Exact under
//! -icount with one CPU.

use crate::{
    bench_fn::{BenchFn, Group},
    run::{self, Samples, Spread},
    sys::{
        counters::{self, idle_cycles},
        cpu,
        free::{self, ObjectKind},
        thread,
    },
};
use kernel::{fmt, prelude::*};

/// The most memory of one repetition.
const BYTES: usize = 64 << 20;
/// Objects between two calls of cond_resched(), as in rcuscale.
pub(crate) const CHUNK: usize = 100;
/// For kfree_bulk(): the number of objects that are kept before they are freed.
const PENDING: usize = 1 << 14;
/// For kfree_bulk(): the number of objects per call.
const BLOCK: usize = 480;
/// Longer than KFREE_DRAIN_JIFFIES, after which kfree_rcu() has drained large and vmalloc objects.
const KERNEL_DRAIN_MSECS: u32 = 6000;

/// The smallest idle time of all CPUs: -icount skips time in which all are idle.
fn idle() -> u64 {
    cpu::online().map(idle_cycles).min().unwrap_or(0)
}

/// Prints `what` with the cycles of repetitions of `count` objects. `cycle(n)` allocates and
/// frees `n` objects and returns how many were refused; `cycle(0)` waits until all have been freed.
pub(crate) fn measure(
    what: fmt::Arguments<'_>,
    count: usize,
    mut cycle: impl FnMut(usize) -> Result<usize>,
) -> Result {
    let _probes = counters::idle_probes()?;
    let [cycles, refused, periods] = &Samples::of(crate::reps(), || {
        let before = (counters::grace_periods(), idle(), counters::cycles());
        let (mut left, mut refused) = (count, 0);
        while left > 0 {
            let n = left.min(CHUNK);
            refused += cycle(n)?;
            left -= n;
            thread::cond_resched();
        }
        cycle(0)?;
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
    let periods = periods.sum() * 1_000_000 / ((count * crate::reps()) as i64).max(1);
    pr_info!(
        "{} {} grace_periods_per_million={}\n",
        what,
        spread,
        periods
    );
    Ok(())
}

/// `test=cycle`.
pub(crate) fn run() -> Result {
    let count = |source: &ObjectKind| crate::objects().min(BYTES / source.size().max(1)).max(1);
    run::for_each_function(|name, source, function| {
        measure(
            fmt!("cycle {} object={}", function, name),
            count(source),
            |n| match n {
                0 => wait(function, source),
                n => function.alloc_and_free(source, n),
            },
        )
    })?;
    run::for_each_source(|name, source| {
        if !source.is_slab() || !Group::Kernel.has("kfree_bulk") {
            return Ok(());
        }
        // The lower limit of any design that frees by kfree_bulk(): objects are allocated, kept for
        // about a grace period, and freed.
        let mut objects = KVVec::with_capacity(PENDING + CHUNK, GFP_KERNEL)?;
        measure(
            fmt!("cycle free=kfree_bulk engine=kernel object={}", name),
            count(source),
            |n| {
                for _ in 0..n {
                    objects.push(source.alloc()?, GFP_KERNEL)?;
                }
                if n == 0 || objects.len() >= PENDING {
                    for block in objects.chunks_mut(BLOCK) {
                        // SAFETY: Slab objects, just allocated; forgotten below.
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

fn wait(function: &BenchFn, source: &ObjectKind) -> Result<usize> {
    function.settle();
    // kfree_rcu() puts slab objects up to this size into sheaves, which wait by call_rcu(); others
    // wait for its monitor.
    let in_sheaves = source.is_slab() && source.size() <= 8192;
    if function.group == Group::Kernel && function.name().starts_with("kfree_rcu") && !in_sheaves {
        thread::sleep(KERNEL_DRAIN_MSECS);
        function.settle();
    }
    Ok(0)
}
