// SPDX-License-Identifier: GPL-2.0

//! Objects that go round: allocation and free of caches with sheaves, beside the slab's own sheaves,
//! kmalloc_nolock() with kfree_rcu_nolock(), and a cache that is freed by call_rcu(). A call each, in
//! task and in NMI; and the whole cycle, grace periods and reuse included.

use crate::{
    context::NmiSource,
    cycle::Cycles,
    run::{self, Per, Samples},
    sys::{
        counters,
        free::{
            self, Alloc, CacheFreeRcu, Caches, CallRcu, Free, KernelCache, KfreeRcu,
            KfreeRcuNolock, KmallocNolock, Nothing, Sheaf, SheafNolock, SIZE,
        },
        object::Object,
        thread,
    },
    way::Group,
    Numbers,
};
use core::{array, ptr::NonNull};
use kernel::{fmt, prelude::*};

/// Objects that are allocated, and then freed, at a time.
pub(crate) const CHUNK: usize = 100;
/// As many go round between two grace periods.
const ROUND: usize = 20;

/// Cycles of both halves, and allocations that gave nothing.
#[derive(Clone, Copy, Default)]
struct Took {
    alloc: u64,
    free: u64,
    refused: usize,
}

/// Allocates [`CHUNK`] objects, then frees them.
#[inline(never)]
fn chunk<A: Alloc, F: Free>() -> Took {
    let mut objects: [Option<NonNull<Object>>; CHUNK] = array::from_fn(|_| None);
    let before = counters::cycles();
    for object in &mut objects {
        *object = A::alloc();
    }
    let between = counters::cycles();
    let mut refused = 0;
    for &object in &objects {
        match object {
            Some(object) => {
                // SAFETY: Allocated above, and `F` takes what `A` gives.
                unsafe { F::free(object) };
            }
            None => refused += 1,
        }
    }
    Took {
        alloc: between - before,
        free: counters::cycles() - between,
        refused,
    }
}

/// Allocates an object and frees it, [`CHUNK`] times. Returns how often there was none.
#[inline(never)]
fn in_turn<A: Alloc, F: Free>() -> usize {
    let mut refused = 0;
    for _ in 0..CHUNK {
        match A::alloc() {
            Some(object) => {
                // SAFETY: As above.
                unsafe { F::free(object) };
            }
            None => refused += 1,
        }
    }
    refused
}

/// A pair of functions under measurement.
pub(crate) struct Pair {
    name: &'static str,
    pub(crate) group: Group,
    in_nmi: bool,
    chunk: fn() -> Took,
    pub(crate) pairs: fn() -> usize,
}

const fn pair<A: Alloc, F: Free>(name: &'static str, group: Group, in_nmi: bool) -> Pair {
    Pair {
        name,
        group,
        in_nmi,
        chunk: chunk::<A, F>,
        pairs: in_turn::<A, F>,
    }
}

static NOTHING: Pair = pair::<Nothing, Nothing>("nothing", Group::Nothing, true);

static PAIRS: [Pair; 5] = [
    pair::<KernelCache, KfreeRcu>("kmem_cache_alloc+kfree_rcu", Group::Kernel, false),
    pair::<KernelCache, CallRcu>("kmem_cache_alloc+call_rcu", Group::Kernel, false),
    pair::<KmallocNolock, KfreeRcuNolock>("kmalloc_nolock+kfree_rcu_nolock", Group::Kernel, true),
    pair::<Sheaf, CacheFreeRcu>("rcu_ptr_cache_alloc+free_rcu", Group::RcuPtr, false),
    pair::<SheafNolock, CacheFreeRcu>("rcu_ptr_cache_alloc_nolock+free_rcu", Group::RcuPtr, true),
];

/// As `frees=` has them: the kernel's own are measured with one engine only.
pub(crate) fn pairs() -> impl Iterator<Item = &'static Pair> {
    PAIRS.iter().filter(|pair| pair.group.has(pair.name))
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "functions={} engine={}", self.name, self.group.engine())
    }
}

pub(crate) fn settle() {
    free::kernel_settle();
    free::rcu_ptr_settle();
}

/// `test=sheaf`
pub(crate) fn run(numbers: &Numbers) -> Result {
    let nmi = NmiSource::new()?;
    let _caches = Caches::new()?;
    let chunks = numbers.objects.div_ceil(CHUNK);
    let n = chunks * CHUNK;
    for (context, nmi) in run::contexts(&nmi) {
        let loops = calls(numbers.reps, chunks, nmi, &NOTHING)?;
        for pair in pairs().filter(|pair| nmi.is_none() || pair.in_nmi) {
            let took = calls(numbers.reps, chunks, nmi, pair)?;
            pr_info!(
                "pair context={} {} object=cache-{} count={} reps={} refused={} alloc_cost={} \
                 free_cost={}\n",
                context,
                pair,
                SIZE,
                n,
                numbers.reps,
                took.2,
                Per(took.0 - loops.0, n),
                Per(took.1 - loops.1, n)
            );
        }
    }
    for pair in pairs() {
        let cycles = Cycles::measure(numbers.reps, n, || {
            let mut refused = 0;
            for _ in 0..chunks {
                refused += (pair.pairs)();
                thread::cond_resched();
            }
            settle();
            Ok(refused)
        })?;
        pr_info!(
            "recycle context=task {} object=cache-{} {}\n",
            pair,
            SIZE,
            cycles
        );
    }
    Ok(())
}

/// Medians of both halves, and allocations that gave nothing.
fn calls(
    reps: usize,
    chunks: usize,
    nmi: Option<&NmiSource>,
    pair: &Pair,
) -> Result<(i64, i64, usize)> {
    let mut allocs = Samples::new(reps)?;
    let mut frees = Samples::new(reps)?;
    let mut refused = 0;
    // The first two only warm up: there is nothing to go round yet.
    for rep in 0..reps + 2 {
        let mut sum = Took::default();
        for i in 1..=chunks {
            let took = run::inside(nmi, pair.chunk)?;
            sum.alloc += took.alloc;
            sum.free += took.free;
            sum.refused += took.refused;
            if i % ROUND == 0 {
                settle();
            }
            thread::cond_resched();
        }
        settle();
        if rep >= 2 {
            allocs.push(sum.alloc as i64)?;
            frees.push(sum.free as i64)?;
            refused += sum.refused;
        }
    }
    Ok((allocs.sorted().median(), frees.sorted().median(), refused))
}
