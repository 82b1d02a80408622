// SPDX-License-Identifier: GPL-2.0

//! The kernel as `rcu_ptr_bench.ko` sees it: every binding and every `extern "C"` of the benchmark.

#[path = "../generated.rs"]
pub(crate) mod generated;

pub(crate) mod context;
pub(crate) mod counters;
pub(crate) mod free;
pub(crate) mod object;
pub(crate) mod pair;
pub(crate) mod params;
#[cfg(CONFIG_X86_64)]
pub(crate) mod step;
pub(crate) mod stretch;
pub(crate) mod thread;
