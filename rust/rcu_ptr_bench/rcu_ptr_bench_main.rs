// SPDX-License-Identifier: GPL-2.0

//! `rcu_ptr_bench.ko`: measures rcu_ptr beside the kernel's own functions. It runs when it is
//! loaded, says what it found in lines of `key=value` in the log, and loads only if all objects
//! went well. docs/bench.md explains the method; qemu/bench.py runs it and makes tables of it.
//!
//! | `test=` | measures | file |
//! |---|---|---|
//! | `calls` | a call, in task and in NMI | calls.rs |
//! | `path` | locked instructions and barriers of a call, by single-stepping | path.rs |
//! | `cycle` | alloc, free, grace period and reclaim, whole system | cycle.rs |
//! | `nmi` | self-interrupts and irq_works that NMIs cause | nmi.rs |
//! | `backlog` | the longest interrupt and softirq after many objects | backlog.rs |
//! | `series` | pending memory over time | series.rs |
//! | `parallel` | a call, with all CPUs at it | parallel.rs |
//! | `scale` | rcuscale's kfree_rcu_test | scale.rs |
//! | `sheaf` | objects that go round: a call, and the whole cycle | sheaf.rs |
//! | `sheafscale` | the same in threads, and how many found a sheaf | scale.rs |

// The files of rust/sys that this module takes: docs/reading.md. Of those that others take too it uses a part.
#[path = "../sys"]
mod sys {
    #[allow(dead_code)]
    pub(crate) mod alloc;
    #[allow(dead_code)]
    pub(crate) mod cache;
    pub(crate) mod counters;
    #[allow(dead_code)]
    pub(crate) mod cpu;
    pub(crate) mod free;
    pub(crate) mod generated;
    #[allow(dead_code)]
    pub(crate) mod gp;
    #[allow(dead_code)]
    pub(crate) mod irq;
    #[allow(dead_code)]
    pub(crate) mod nmi;
    pub(crate) mod object;
    pub(crate) mod params;
    #[allow(dead_code)]
    pub(crate) mod perf;
    #[allow(dead_code)]
    pub(crate) mod slab;
    #[allow(dead_code)]
    pub(crate) mod step;
    pub(crate) mod stretch;
    #[allow(dead_code)]
    pub(crate) mod thread;
    #[allow(dead_code)]
    pub(crate) mod tracepoint;
}

mod backlog;
mod calls;
mod context;
mod cycle;
#[cfg(CONFIG_X86_64)]
mod decode;
mod nmi;
mod parallel;
mod path;
mod run;
mod scale;
mod series;
mod sheaf;
mod way;

use kernel::prelude::*;
use sys::params;

module! {
    type: Bench,
    name: "rcu_ptr_bench",
    authors: ["The rcu_ptr authors"],
    description: "Measures rcu_ptr beside the kernel's own functions",
    license: "GPL",
    params: {
        objects: u32 {
            default: 2000,
            description: "objects per repetition",
        },
        reps: u32 {
            default: 15,
            description: "repetitions",
        },
        cpu: i32 {
            default: 0,
            description: "CPU to measure on, where it is one",
        },
        kfree_nthreads: u32 {
            default: 0,
            description: "threads of test=scale, 0: one per online CPU",
        },
        kfree_alloc_num: u32 {
            default: 8000,
            description: "objects per loop of test=scale",
        },
        kfree_loops: u32 {
            default: 10,
            description: "loops of test=scale",
        },
        kfree_mult: u32 {
            default: 1,
            description: "objects of test=scale are this many times 24 bytes",
        },
    },
}

/// The parameters that are numbers.
#[derive(Clone, Copy)]
pub(crate) struct Numbers {
    pub(crate) objects: usize,
    pub(crate) reps: usize,
    pub(crate) cpu: i32,
    pub(crate) nthreads: usize,
    pub(crate) alloc_num: usize,
    pub(crate) loops: usize,
    pub(crate) mult: usize,
}

impl Numbers {
    fn get() -> Self {
        use module_parameters as p;
        Self {
            objects: p::objects.value() as usize,
            reps: p::reps.value() as usize,
            cpu: p::cpu.value(),
            nthreads: p::kfree_nthreads.value() as usize,
            alloc_num: p::kfree_alloc_num.value() as usize,
            loops: p::kfree_loops.value() as usize,
            mult: p::kfree_mult.value() as usize,
        }
    }
}

struct Bench;

/// A test: its name, and what it does.
type Test = (&'static str, fn(&Numbers) -> Result);

/// Those that run in a thread bound to one CPU.
static BOUND: [Test; 7] = [
    ("calls", calls::run),
    ("path", path::run),
    ("cycle", cycle::run),
    ("nmi", nmi::run),
    ("backlog", backlog::run),
    ("series", series::run),
    ("sheaf", sheaf::run),
];

/// Those that make their own threads.
static OWN_THREADS: [Test; 3] = [
    ("parallel", parallel::run),
    ("scale", scale::run),
    ("sheafscale", scale::pairs),
];

impl kernel::Module for Bench {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let numbers = Numbers::get();
        let wanted = params::test();
        let mut found = false;
        if numbers.objects == 0 || numbers.reps == 0 {
            pr_err!("objects and reps are at least 1\n");
            return Err(EINVAL);
        }
        for &(name, test) in &BOUND {
            if wanted == "all" || wanted == name {
                found = true;
                run::in_threads([numbers.cpu].into_iter(), &|| test(&numbers))
                    .inspect_err(|e| pr_err!("test {} failed: {:?}\n", name, e))?;
            }
        }
        for &(name, test) in &OWN_THREADS {
            if wanted == "all" || wanted == name {
                found = true;
                test(&numbers).inspect_err(|e| pr_err!("test {} failed: {:?}\n", name, e))?;
            }
        }
        if !found {
            pr_err!("test={}: there is no such test\n", wanted);
            return Err(EINVAL);
        }
        Ok(Bench)
    }
}
