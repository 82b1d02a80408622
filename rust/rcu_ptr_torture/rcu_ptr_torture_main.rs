// SPDX-License-Identifier: GPL-2.0

//! `rcu_ptr_torture.ko`: readers and writers in every context, through every call and source of objects,
//! for as long as it is told, as rcutorture does it for RCU. It runs while it is loaded, and says in one
//! line what it did; each fault is a line with `FAILURE!` as soon as it is seen. docs/simulation.md.
//!
//! ```text
//!  plan.rs     what a run is to do
//!  dice.rs     numbers that follow from the seed
//!  count.rs    counts
//!  object.rs   what is in an object: header and canaries
//!  book.rs     a record for each object, and when it may be freed
//!  world.rs    places with objects, turns of writers and looks of readers
//!  cast.rs     threads, timers, NMIs, CPUs that come and go, disturbances
//! ```

#[path = "../sys/torture/mod.rs"]
mod sys;

mod book;
mod cast;
mod count;
mod dice;
mod object;
mod plan;
mod world;

use count::Count;
use kernel::{prelude::*, sync::atomic::Relaxed};
use sys::{cache, core as rcu_ptr, nmi, probe, thread};

module! {
    type: Torture,
    name: "rcu_ptr_torture",
    authors: ["The rcu_ptr authors"],
    description: "Torture of rcu_ptr, as rcutorture does it for RCU",
    license: "GPL",
    params: {
        seed: u64 {
            default: 1,
            description: "all that is random follows from it",
        },
        msecs: u32 {
            default: 10000,
            description: "how long, in milliseconds",
        },
        objects: u64 {
            default: 0,
            description: "end earlier, with as many objects given to rcu_ptr; 0: not",
        },
        writers: i32 {
            default: -1,
            description: "threads that replace objects; -1: one per CPU",
        },
        readers: i32 {
            default: -1,
            description: "threads that look at them; -1: one per CPU",
        },
        urgent: i32 {
            default: 1,
            description: "writers of real-time priority; -1: one per CPU",
        },
        slots: u32 {
            default: 256,
            description: "places for objects",
        },
        records: u32 {
            default: 65536,
            description: "objects that may be there at a time",
        },
        sources: u32 {
            default: 127,
            description: "bits: kmalloc, kmalloc_nolock, vmalloc, kvmalloc, kmem_cache, cache, small cache",
        },
        large: u32 {
            default: 65536,
            description: "the largest object, in bytes",
        },
        span_us: u32 {
            default: 1000,
            description: "the longest look of a reader, in microseconds",
        },
        timer_us: u32 {
            default: 100,
            description: "between interrupts of a thread's timers, in microseconds",
        },
        nmis: u32 {
            default: 4,
            description: "NMIs for 8 hard interrupts",
        },
        hotplug_ms: u32 {
            default: 0,
            description: "between ups and downs of CPUs, in milliseconds; 0: none",
        },
        disturb_ms: u32 {
            default: 20,
            description: "between barriers, short-lived caches and the like, in milliseconds; 0: none",
        },
        fail: u32 {
            default: 0,
            description: "allocations until some fail; 0: none",
        },
        squeeze: u32 {
            default: 0,
            description: "pages to take from all now and then, so that shrinkers run; 0: none",
        },
        stutter_ms: u32 {
            default: 0,
            description: "rest now and then for as long, in milliseconds; 0: never",
        },
    },
}

struct Torture;

impl kernel::Module for Torture {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let plan = plan::Plan::get().inspect_err(|_| pr_err!("these parameters don't fit\n"))?;
        run(&plan).map(|()| Torture)
    }
}

fn run(plan: &plan::Plan) -> Result {
    let book = book::Book::new(plan.records)?;
    let destructed = |address| book.destructed(address);
    cache::during(&destructed, || torture(plan, &book))
}

fn torture(plan: &plan::Plan, book: &book::Book) -> Result {
    let world = world::World::new(plan, book)?;
    let freed = |objects: &[usize]| book.freed(objects);
    let nmi = || cast::on_nmi(&world);
    let had_nmis = probe::during(&freed, || {
        let had_nmis = nmi::during(plan.timer, &nmi, |nmis| {
            let body = |number| cast::play(&world, nmis, number);
            thread::together(cast::threads(&world), &body, || wait(&world))?;
            Ok::<bool, Error>(nmis.exists())
        })?;
        world.clear();
        rcu_ptr::barrier();
        Ok::<bool, Error>(had_nmis)
    })??;
    let lost = book.lost();
    report(&world, lost, had_nmis);
    Ok(())
}

/// Until the time is over, with rests in between.
fn wait(world: &world::World<'_>) {
    let plan = world.plan;
    let end = thread::now() + plan.nsecs;
    let mut phase = thread::now();
    while thread::now() < end && !thread::is_interrupted() {
        if plan.objects > 0 && world.book.sums.queued.get() >= plan.objects {
            break;
        }
        if plan.stutter > 0 && thread::now() >= phase {
            let rests = world.idle.load(Relaxed) == 0 && world.dice.one_in(2);
            world.idle.store(i32::from(rests), Relaxed);
            phase = thread::now() + 1_000_000 * (1 + world.dice.below(u64::from(plan.stutter)));
        }
        thread::sleep(2);
    }
    world.idle.store(0, Relaxed);
}

fn sum<'a>(of: impl IntoIterator<Item = &'a Count>) -> u64 {
    of.into_iter().map(Count::get).sum()
}

/// The line with the result.
fn report(world: &world::World<'_>, lost: u64, had_nmis: bool) {
    let (sums, counts) = (&world.book.sums, &world.counts);
    let call = |i: usize| sum(&counts.calls[i]);
    let context = |i: usize| sum(counts.calls.iter().map(|call| &call[i]));
    let (early, double, broken) = (sums.early.get(), sums.double.get(), counts.broken.get());
    let left = counts.left_by_barrier.get();
    pr_info!(
        "seed={} objects={} freed={} reused={} destructed={} kvfree={} nolock={} headless={} mightsleep={} \
         free_rcu={} call={} call_sleepable={} task={} softirq={} hardirq={} nmi={} nmis={} elsewhere={} looks={} \
         nmi_looks={} refused={} missed={} full={} barriers={} hotplugs={} caches={} squeezes={} \
         longest_us={} peak={} early={} lost={} double={} broken={} left={} trace={:016x}\n",
        world.plan.seed,
        sums.queued.get(),
        sums.freed.get(),
        sums.reused.get(),
        sums.destructed.get(),
        call(0),
        call(1),
        call(2),
        call(3),
        call(4),
        call(5),
        call(6),
        context(0),
        context(1),
        context(2),
        context(3),
        counts.nmis.get(),
        counts.elsewhere.get(),
        sum(&counts.looks),
        counts.looks[3].get(),
        counts.refused.get(),
        counts.missed.get(),
        counts.full.get(),
        counts.barriers.get(),
        counts.hotplugs.get(),
        counts.caches.get(),
        counts.squeezes.get(),
        sums.longest.get() / 1000,
        sums.peak.get(),
        early,
        lost,
        double,
        broken,
        left,
        sums.trace.get(),
    );
    if !had_nmis {
        pr_info!("this machine has no NMIs that a module can make\n");
    }
    if early + lost + double + broken + left > 0 {
        pr_err!(
            "FAILURE! {} early, {} lost, {} double, {} broken, {} left\n",
            early,
            lost,
            double,
            broken,
            left
        );
    }
}
