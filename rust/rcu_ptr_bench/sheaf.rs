// SPDX-License-Identifier: GPL-2.0

//! Objects that go round: allocation and free of caches with sheaves, beside the slab's own sheaves,
//! kmalloc_nolock() with kfree_rcu_nolock(), and a cache that is freed by call_rcu(). A call each, in
//! task and in NMI; the whole cycle, grace periods and reuse included; and in threads as rcuscale's.

use crate::{
    context::NmiSource,
    cycle::Busy,
    run::{self, Per, Samples},
    sys::{
        counters, cpu,
        object::Object,
        pair::{
            Caches, CallRcuCache, KernelCache, KmallocNolock, Nothing, Pair, Sheaf, SheafNolock,
            SIZE,
        },
        params,
        stretch::IdleProbes,
        thread::{self, Thread},
    },
    Numbers,
};
use core::{array, ptr::NonNull};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Atomic, Full, Relaxed},
        Arc,
    },
};

/// Objects that are allocated, and then freed, at a time.
const CHUNK: usize = 100;
/// As many go round between two grace periods.
const ROUND: usize = 20;

/// Cycles of both halves.
#[derive(Clone, Copy, Default)]
struct Took {
    alloc: u64,
    free: u64,
    missed: usize,
}

/// Allocates [`CHUNK`] objects, then frees them.
#[inline(never)]
fn chunk<P: Pair>() -> Took {
    let mut objects: [Option<NonNull<Object>>; CHUNK] = array::from_fn(|_| None);
    let before = counters::cycles();
    for object in &mut objects {
        *object = P::alloc();
    }
    let between = counters::cycles();
    let mut missed = 0;
    for &object in &objects {
        match object {
            // SAFETY: Allocated above.
            Some(object) => unsafe { P::free(object) },
            None => missed += 1,
        }
    }
    Took {
        alloc: between - before,
        free: counters::cycles() - between,
        missed,
    }
}

/// Allocates an object and frees it, [`CHUNK`] times. Returns how often there was none.
#[inline(never)]
fn pairs<P: Pair>() -> usize {
    let mut missed = 0;
    for _ in 0..CHUNK {
        match P::alloc() {
            // SAFETY: Allocated just now.
            Some(object) => unsafe { P::free(object) },
            None => missed += 1,
        }
    }
    missed
}

/// A pair of functions under measurement.
struct Way {
    name: &'static str,
    ours: bool,
    in_nmi: bool,
    in_task: bool,
    chunk: fn() -> Took,
    pairs: fn() -> usize,
}

const fn way<P: Pair>(name: &'static str, ours: bool, in_task: bool, in_nmi: bool) -> Way {
    Way {
        name,
        ours,
        in_nmi,
        in_task,
        chunk: chunk::<P>,
        pairs: pairs::<P>,
    }
}

static NOTHING: Way = way::<Nothing>("nothing", false, true, true);

static WAYS: [Way; 5] = [
    way::<KernelCache>("kmem_cache_alloc+kfree_rcu", false, true, false),
    way::<CallRcuCache>("kmem_cache_alloc+call_rcu", false, true, false),
    way::<KmallocNolock>("kmalloc_nolock+kfree_rcu_nolock", false, true, true),
    way::<Sheaf>("rcu_ptr_cache_alloc+free_rcu", true, true, false),
    way::<SheafNolock>("rcu_ptr_cache_alloc_nolock+free_rcu", true, true, true),
];

/// As `frees=` has them: the kernel's own are measured with one engine only.
fn ways() -> impl Iterator<Item = &'static Way> {
    let wanted = |way: &Way| {
        params::frees().split(',').any(|word| match word {
            "all" => true,
            "kernel" => !way.ours,
            word => way.ours && word.starts_with("rcu_ptr"),
        })
    };
    WAYS.iter().filter(move |way| wanted(way))
}

fn engine(way: &Way) -> &'static str {
    if way.ours {
        params::engine()
    } else {
        "kernel"
    }
}

fn settle() {
    crate::sys::free::kernel_settle();
    crate::sys::free::rcu_ptr_settle();
}

/// Calls `f` in `nmi`, or as it is.
fn inside<R: Default>(nmi: Option<&NmiSource>, mut f: impl FnMut() -> R) -> R {
    let mut ret = R::default();
    match nmi {
        Some(nmi) => nmi.call(&mut || ret = f()),
        None => ret = f(),
    }
    ret
}

/// `test=sheaf`
pub(crate) fn run(numbers: &Numbers) -> Result {
    let nmi = run::nmi_source()?;
    let caches = Caches::new()?;
    for (context, source) in [("task", None), ("nmi", nmi.as_ref())] {
        if context == "nmi" && source.is_none() {
            continue;
        }
        let loops = calls(numbers, source, &NOTHING)?;
        for way in ways().filter(|w| {
            if source.is_some() {
                w.in_nmi
            } else {
                w.in_task
            }
        }) {
            let took = calls(numbers, source, way)?;
            let n = numbers.objects.div_ceil(CHUNK) * CHUNK;
            pr_info!(
                "pair context={} functions={} engine={} object=cache-{} calls={} reps={} missed={} \
                 alloc_cost={} free_cost={} alloc_max={} free_max={}\n",
                context,
                way.name,
                engine(way),
                SIZE,
                n,
                numbers.reps,
                took.missed,
                Per(took.alloc.0 - loops.alloc.0, n),
                Per(took.free.0 - loops.free.0, n),
                Per(took.alloc.1 - loops.alloc.0, n),
                Per(took.free.1 - loops.free.0, n)
            );
        }
    }
    let _probes = IdleProbes::attach();
    for way in ways().filter(|way| way.in_task) {
        cycle(numbers, "task", None, way)?;
    }
    if nmi.is_some() {
        for way in core::iter::once(&NOTHING).chain_ways() {
            cycle(numbers, "nmi", nmi.as_ref(), way)?;
        }
    }
    drop(caches);
    Ok(())
}

/// The empty loop in NMI, which has the cost of the NMIs in it, and the ways that are for NMI.
trait ChainWays: Iterator<Item = &'static Way> + Sized {
    fn chain_ways(self) -> impl Iterator<Item = &'static Way> {
        Iterator::chain(self, ways().filter(|way| way.in_nmi))
    }
}

impl<I: Iterator<Item = &'static Way>> ChainWays for I {}

/// Medians and largest of both halves.
struct Calls {
    alloc: (i64, i64),
    free: (i64, i64),
    missed: usize,
}

fn calls(numbers: &Numbers, nmi: Option<&NmiSource>, way: &Way) -> Result<Calls> {
    let mut allocs = Samples::new(numbers.reps)?;
    let mut frees = Samples::new(numbers.reps)?;
    let mut missed = 0;
    // The first two only warm up: there is nothing to go round yet.
    for rep in 0..numbers.reps + 2 {
        let mut sum = Took::default();
        for i in 0..numbers.objects.div_ceil(CHUNK) {
            let took = inside(nmi, way.chunk);
            sum.alloc += took.alloc;
            sum.free += took.free;
            sum.missed += took.missed;
            if i % ROUND == ROUND - 1 {
                settle();
            }
            thread::cond_resched();
        }
        settle();
        if rep >= 2 {
            allocs.push(sum.alloc as i64)?;
            frees.push(sum.free as i64)?;
            missed += sum.missed;
        }
    }
    let (allocs, frees) = (allocs.sorted(), frees.sorted());
    Ok(Calls {
        alloc: (allocs.median(), allocs.at(100)),
        free: (frees.median(), frees.at(100)),
        missed,
    })
}

/// What a pair costs the whole system, until the object is there to be given out again.
fn cycle(numbers: &Numbers, context: &str, nmi: Option<&NmiSource>, way: &Way) -> Result {
    let chunks = numbers.objects.div_ceil(CHUNK);
    let mut samples = Samples::new(numbers.reps)?;
    let (mut missed, mut periods) = (0, 0);
    for rep in 0..=numbers.reps {
        let before = counters::grace_periods();
        let busy = Busy::start();
        let mut none = 0;
        for _ in 0..chunks {
            none += inside(nmi, way.pairs);
            thread::cond_resched();
        }
        settle();
        if rep > 0 {
            samples.push(busy.stop())?;
            missed += none;
            periods += counters::grace_periods() - before;
        }
    }
    let samples = samples.sorted();
    let n = chunks * CHUNK;
    pr_info!(
        "recycle context={} functions={} engine={} object=cache-{} count={} reps={} missed={} min={} \
         median={} max={} grace_periods_per_million={}\n",
        context,
        way.name,
        engine(way),
        SIZE,
        n,
        numbers.reps,
        missed,
        Per(samples.at(0), n),
        Per(samples.median(), n),
        Per(samples.at(100), n),
        periods * 1_000_000 / ((n * numbers.reps) as i64).max(1)
    );
    Ok(())
}

/// `test=sheafscale`: threads that allocate and free, as rcuscale's kfree_rcu_test.
pub(crate) fn scale(numbers: &Numbers) -> Result {
    let cpus = cpu::online().count().max(1);
    let nthreads = match numbers.nthreads {
        0 => cpus,
        n => n,
    };
    for way in ways().filter(|way| way.in_task) {
        let caches = Caches::new()?;
        let missed = Arc::new(Atomic::<usize>::new(0), GFP_KERNEL)?;
        let numbers = *numbers;
        let before = counters::nanoseconds();
        let periods = counters::grace_periods();
        let mut threads = KVVec::with_capacity(nthreads, GFP_KERNEL)?;
        for i in 0..nthreads {
            let cpu = cpu::online().nth(i % cpus).unwrap_or(0);
            let missed = missed.clone();
            let body = move || {
                for _ in 0..numbers.loops {
                    for _ in 0..numbers.alloc_num.div_ceil(CHUNK) {
                        missed.fetch_add((way.pairs)(), Full);
                    }
                    thread::cond_resched();
                }
                Ok(())
            };
            threads.push(Thread::spawn(cpu, 0, body)?, GFP_KERNEL)?;
        }
        let mut result = Ok(());
        for thread in threads {
            result = result.and(thread.join());
        }
        result?;
        let took = counters::nanoseconds() - before;
        let periods = counters::grace_periods() - periods;
        let stats = caches.stats();
        let n = nthreads * numbers.loops * numbers.alloc_num.div_ceil(CHUNK) * CHUNK;
        // Of the allocations: those that a sheaf served, and those whose object had been freed
        // before.
        let share = |others: u64| Per(100 * (n as i64 - others as i64), n);
        pr_info!(
            "sheafscale functions={} engine={} nthreads={} loops={} alloc_num={} ns={} batches={} \
             missed={} hit_percent={} recycled_percent={} obtained={} fell_back={}\n",
            way.name,
            engine(way),
            nthreads,
            numbers.loops,
            numbers.alloc_num,
            took,
            periods,
            missed.load(Relaxed),
            share(if way.ours { stats.missed } else { n as u64 }),
            share(if way.ours {
                stats.slab_allocs
            } else {
                n as u64
            }),
            stats.slab_allocs,
            stats.engine_fallback
        );
        settle();
        drop(caches);
    }
    Ok(())
}
