// SPDX-License-Identifier: GPL-2.0

//! `rcu_ptr_bench.ko`: measures rcu_ptr and the kernel's own functions. It runs when it is loaded,
//! prints its results as lines of `key=value`, and loads only if all tests succeed. docs/bench.md
//! describes each `test=`; qemu/bench.py generates tables. Functions are called in tasks that may
//! sleep, unless they say otherwise.

// The files of rust/sys that this module uses (docs/reading.md). `shared`: others use the rest.
#[path = "../sys"]
mod sys {
    #[expect(dead_code, reason = "shared")]
    pub(crate) mod alloc;
    #[expect(dead_code, reason = "shared")]
    pub(crate) mod cache;
    pub(crate) mod counters;
    #[expect(dead_code, reason = "shared")]
    pub(crate) mod cpu;
    pub(crate) mod free;
    pub(crate) mod generated;
    #[expect(dead_code, reason = "shared")]
    pub(crate) mod gp;
    #[expect(dead_code, reason = "shared")]
    pub(crate) mod irq;
    pub(crate) mod nmi;
    pub(crate) mod params;
    #[expect(dead_code, reason = "shared")]
    pub(crate) mod perf;
    #[expect(dead_code, reason = "shared")]
    pub(crate) mod slab;
    pub(crate) mod smp;
    pub(crate) mod static_ref;
    #[expect(dead_code, reason = "shared")]
    pub(crate) mod step;
    pub(crate) mod texts;
    #[expect(dead_code, reason = "shared")]
    pub(crate) mod thread;
    pub(crate) mod tracepoint;
}

mod backlog;
mod bench_fn;
mod calls;
mod cycle;
mod nmi;
mod path;
mod run;
mod scale;
mod series;
mod sheaf;

use kernel::prelude::*;
use sys::{cpu, params};

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

/// Objects per repetition.
pub(crate) fn objects() -> usize {
    module_parameters::objects.value() as usize
}

/// Repetitions.
pub(crate) fn reps() -> usize {
    module_parameters::reps.value() as usize
}

struct Bench;

/// A test: its name, whether it creates its own threads, and its function.
type Test = (&'static str, bool, fn() -> Result);

static TESTS: [Test; 10] = [
    ("calls", false, calls::run),
    ("path", false, path::run),
    ("cycle", false, cycle::run),
    ("nmi", false, nmi::run),
    ("backlog", false, backlog::run),
    ("series", false, series::run),
    ("sheaf", false, sheaf::run),
    ("parallel", true, calls::parallel),
    ("scale", true, scale::run),
    ("sheafscale", true, scale::pairs),
];

impl kernel::Module for Bench {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let wanted = params::test();
        if objects() == 0 || reps() == 0 {
            pr_err!("objects and reps are at least 1\n");
            return Err(EINVAL);
        }
        let mut found = false;
        for &(name, own_threads, test) in &TESTS {
            if wanted != "all" && wanted != name {
                continue;
            }
            found = true;
            let ret = if own_threads {
                test()
            } else {
                run::in_threads(cpu::online().take(1), &test)
            };
            ret.inspect_err(|e| pr_err!("test {} failed: {:?}\n", name, e))?;
        }
        if !found {
            pr_err!("test={}: there is no such test\n", wanted);
            return Err(EINVAL);
        }
        Ok(Bench)
    }
}
