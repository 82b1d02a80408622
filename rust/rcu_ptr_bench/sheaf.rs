// SPDX-License-Identifier: GPL-2.0

//! Pairs of allocation and free: of caches with sheaves, and for comparison the slab's own sheaves,
//! kmalloc_nolock() with kfree_rcu_nolock(), and a kmem_cache with call_rcu(). Single calls in task
//! and in NMI, and the whole cycle, grace periods and reuse included.

use crate::{
    bench_fn::Group,
    cycle::{self, CHUNK},
    nmi::NmiSource,
    run::{self, Per, Samples},
    sys::{
        counters,
        free::{
            self, Alloc, CacheFreeRcu, Caches, CallRcu, Free, KernelCache, KfreeRcu,
            KfreeRcuNolock, KmallocNolock, Nothing, Object, Sheaf, SheafNolock, SIZE,
        },
        thread,
    },
};
use core::{array, ptr::NonNull};
use kernel::{fmt, prelude::*};

/// Chunks of objects between two grace periods.
const ROUND: usize = 20;

/// Allocates [`CHUNK`] objects, then frees them. Returns the cycles of both, and the number of
/// failed allocations.
#[inline(never)]
fn chunk<A: Alloc, F: Free>() -> [i64; 3] {
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
                // SAFETY: Allocated above, by an allocator that `F` accepts.
                unsafe { F::free(object) };
            }
            None => refused += 1,
        }
    }
    let end = counters::cycles();
    [(between - before) as i64, (end - between) as i64, refused]
}

/// Allocates an object and frees it, [`CHUNK`] times. Returns the number of failed allocations.
#[inline(never)]
fn alloc_free_loop<A: Alloc, F: Free>() -> usize {
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
    chunk: fn() -> [i64; 3],
    pub(crate) alloc_free_loop: fn() -> usize,
}

const fn pair<A: Alloc, F: Free>(name: &'static str, group: Group, in_nmi: bool) -> Pair {
    Pair {
        name,
        group,
        in_nmi,
        chunk: chunk::<A, F>,
        alloc_free_loop: alloc_free_loop::<A, F>,
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

/// The pairs that `frees=` selects.
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
pub(crate) fn run() -> Result {
    let nmi = NmiSource::new()?;
    let _caches = Caches::new()?;
    let chunks = crate::objects().div_ceil(CHUNK);
    let n = chunks * CHUNK;
    for (context, nmi) in run::contexts(&nmi) {
        let [allocs, frees, _] = calls(chunks, nmi, &NOTHING)?;
        let loops = (allocs.median(), frees.median());
        for pair in pairs().filter(|pair| nmi.is_none() || pair.in_nmi) {
            let [allocs, frees, refused] = calls(chunks, nmi, pair)?;
            pr_info!(
                "pair context={} {} object=cache-{} count={} reps={} refused={} alloc_cost={} \
                 free_cost={}\n",
                context,
                pair,
                SIZE,
                n,
                crate::reps(),
                refused.sum(),
                Per(allocs.median() - loops.0, n),
                Per(frees.median() - loops.1, n)
            );
        }
    }
    pairs().try_for_each(|pair| {
        cycle::measure(
            fmt!("recycle context=task {} object=cache-{}", pair, SIZE),
            n,
            |n| match n {
                0 => {
                    settle();
                    Ok(0)
                }
                _ => Ok((pair.alloc_free_loop)()),
            },
        )
    })
}

/// Returns the cycles of both halves, and the number of failed allocations, of each repetition.
fn calls(chunks: usize, nmi: Option<&NmiSource>, pair: &Pair) -> Result<[Samples; 3]> {
    let all = || {
        let mut sum = [0; 3];
        for i in 1..=chunks {
            let took = run::in_context(nmi, pair.chunk)?;
            sum.iter_mut().zip(took).for_each(|(sum, n)| *sum += n);
            if i % ROUND == 0 {
                settle();
            }
            thread::cond_resched();
        }
        settle();
        Ok(sum)
    };
    // A second repetition for warming up: in the first one there are no objects to reuse yet.
    all()?;
    Samples::of(crate::reps(), all)
}
