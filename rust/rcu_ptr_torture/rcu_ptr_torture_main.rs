// SPDX-License-Identifier: GPL-2.0

//! `rcu_ptr_torture.ko`: readers and updaters in every context, with every function and every
//! allocator, for a given time, like rcutorture for RCU. The test runs in module init and prints
//! its counts in one line; each failure is logged at once, in a line with `FAILURE!`. See
//! docs/simulation.md.
//!
//! ```text
//!  plan.rs     the parameters of a run
//!  random.rs   random numbers from the seed
//!  count.rs    counters
//!  object.rs   the contents of an object: header and canaries
//!  records.rs  a record for each object: its state, and the snapshot of its grace period
//!  run.rs      slots with objects, updates and reads of them
//!  threads.rs  threads, timers, NMIs, CPU hotplug, barriers, short-lived caches, stuck objects
//! ```

// The files of rust/sys that this module uses (docs/reading.md). `shared`: others use the rest.
#[path = "../sys"]
#[expect(dead_code, reason = "shared")]
mod sys {
    pub(crate) mod alloc;
    pub(crate) mod cache;
    pub(crate) mod core;
    pub(crate) mod cpu;
    pub(crate) mod fault;
    #[warn(dead_code, reason = "not shared")]
    pub(crate) mod freed;
    pub(crate) mod generated;
    pub(crate) mod gp;
    pub(crate) mod irq;
    pub(crate) mod nmi;
    pub(crate) mod perf;
    pub(crate) mod slab;
    pub(crate) mod smp;
    pub(crate) mod srcu_domain;
    pub(crate) mod static_ref;
    pub(crate) mod thread;
    pub(crate) mod timer;
    pub(crate) mod tracepoint;
    pub(crate) mod user;
}

mod count;
mod object;
mod plan;
mod random;
mod records;
mod run;
mod threads;

use count::Count;
use kernel::{prelude::*, sync::atomic::Relaxed};
use sys::{core as rcu_ptr, freed, perf::Hook, thread};

module! {
    type: Torture,
    name: "rcu_ptr_torture",
    authors: ["The rcu_ptr authors"],
    description: "Torture of rcu_ptr, as rcutorture does it for RCU",
    license: "GPL",
    params: {
        seed: u64 {
            default: 1,
            description: "seed of the random numbers",
        },
        msecs: u32 {
            default: 10000,
            description: "duration, in milliseconds",
        },
        objects: u64 {
            default: 0,
            description: "stop after as many freed objects; 0: no limit",
        },
        writers: i32 {
            default: -1,
            description: "threads that replace objects; -1: one per CPU",
        },
        readers: i32 {
            default: -1,
            description: "threads that read objects; -1: one per CPU",
        },
        urgent: i32 {
            default: 1,
            description: "threads of real-time priority that replace objects; -1: one per CPU",
        },
        slots: u32 {
            default: 256,
            description: "slots for objects",
        },
        records: u32 {
            default: 65536,
            description: "most objects at a time",
        },
        sources: u32 {
            default: 127,
            description: "bits: kmalloc, nolock, vmalloc, kvmalloc, kmem_cache, cache, small cache",
        },
        large: u32 {
            default: 65536,
            description: "the largest object, in bytes",
        },
        span_us: u32 {
            default: 1000,
            description: "longest read-side critical section, in microseconds",
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
            description: "interval of CPU hotplug, in milliseconds; 0: none",
        },
        disturb_ms: u32 {
            default: 20,
            description: "interval of barriers, short-lived caches etc. in milliseconds; 0: none",
        },
        fail: u32 {
            default: 0,
            description: "allocations until some fail; 0: none",
        },
        squeeze: u32 {
            default: 0,
            description: "pages to allocate now and then, so that shrinkers run; 0: none",
        },
        stutter_ms: u32 {
            default: 0,
            description: "longest pause of all threads, in milliseconds; 0: none",
        },
    },
}

struct Torture;

impl kernel::Module for Torture {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let plan = plan::Plan::get().inspect_err(|_| pr_err!("these parameters don't fit\n"))?;
        start(&plan).map(|()| Torture)
    }
}

fn start(plan: &plan::Plan) -> Result {
    let records = records::Records::new(plan.records)?;
    let destructed = |address| records.destructed(address);
    freed::with_destructor_probe(&destructed, || torture(plan, &records))
}

fn torture(plan: &plan::Plan, records: &records::Records) -> Result {
    let run = run::Run::new(plan, records)?;
    let at_free = |objects: &[usize]| records.freed(objects);
    let in_nmi = || threads::on_nmi(&run);
    let hook = Hook::new(&in_nmi);
    let had_nmis = freed::with_probe(&at_free, || {
        let nmis = threads::Nmis::new(plan.timer, &hook);
        let body = |number| threads::body(&run, &nmis, number as usize);
        thread::together(threads::count(&run), &body, || wait(&run))?;
        let had_nmis = nmis.exist();
        drop(nmis);
        run.clear();
        // Everything has to be freed without a barrier, too.
        if run.random.one_in(2) {
            threads::settle(&run);
        }
        rcu_ptr::barrier();
        Ok::<bool, Error>(had_nmis)
    })??;
    let lost = records.lost();
    report(&run, lost, had_nmis);
    Ok(())
}

/// Waits until the end of the run, and has the threads pause now and then.
fn wait(run: &run::Run<'_>) {
    let plan = run.plan;
    let end = thread::now_in_nmi() + plan.nsecs;
    let mut phase = thread::now_in_nmi();
    while thread::now_in_nmi() < end && !current!().signal_pending() {
        if plan.objects > 0 && run.records.totals.queued.get() >= plan.objects {
            break;
        }
        if plan.stutter > 0 && thread::now_in_nmi() >= phase {
            let rests = run.idle.load(Relaxed) == 0 && run.random.one_in(2);
            run.idle.store(i32::from(rests), Relaxed);
            phase =
                thread::now_in_nmi() + 1_000_000 * (1 + run.random.below(u64::from(plan.stutter)));
        }
        thread::sleep(2);
    }
    // Stopping the threads one by one under load would take seconds on a slow machine.
    run.idle.store(1, Relaxed);
}

fn sum<'a>(of: impl IntoIterator<Item = &'a Count>) -> u64 {
    of.into_iter().map(Count::get).sum()
}

/// Prints the line with the results.
fn report(run: &run::Run<'_>, lost: u64, had_nmis: bool) {
    let (totals, counts) = (&run.records.totals, &run.counts);
    let call = |i: usize| sum(&counts.calls[i]);
    let context = |i: usize| sum(counts.calls.iter().map(|call| &call[i]));
    let (early, double, broken) = (totals.early.get(), totals.double.get(), counts.broken.get());
    let (left, stuck) = (counts.left_by_barrier.get(), counts.stuck.get());
    pr_info!(
        "seed={} objects={} freed={} reused={} destructed={} kvfree={} nolock={} headless={} \
         mightsleep={} free_rcu={} call={} call_sleepable={} task={} softirq={} hardirq={} nmi={} \
         nmis={} elsewhere={} looks={} nmi_looks={} refused={} missed={} full={} barriers={} \
         hotplugs={} returns={} expedited={} caches={} squeezes={} longest_us={} peak={} \
         early={early} lost={lost} double={double} broken={broken} left={left} stuck={stuck} \
         trace={:016x}\n",
        run.plan.seed,
        totals.queued.get(),
        totals.freed.get(),
        totals.reused.get(),
        totals.destructed.get(),
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
        sum(&counts.reads),
        counts.reads[3].get(),
        counts.refused.get(),
        counts.missed.get(),
        counts.full.get(),
        counts.barriers.get(),
        counts.hotplugs.get(),
        counts.returns.get(),
        counts.expedited.get(),
        counts.caches.get(),
        counts.squeezes.get(),
        totals.longest.get() / 1000,
        totals.peak.get(),
        totals.trace.get()
    );
    if !had_nmis {
        pr_info!("this machine has no source of NMIs\n");
    }
    if early + lost + double + broken + left + stuck > 0 {
        pr_err!(
            "FAILURE! {early} early, {lost} lost, {double} double, {broken} broken, {left} left, \
             {stuck} stuck\n"
        );
    }
}
