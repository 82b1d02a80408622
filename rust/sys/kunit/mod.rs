// SPDX-License-Identifier: GPL-2.0

//! The kernel as `rcu_ptr_kunit.ko` sees it: allocators, threads, timers, CPUs, the user space of
//! the machine, KUnit, and the interface of `rcu_ptr.ko` by address.

#[path = "../generated.rs"]
pub(crate) mod generated;

pub(crate) mod cache;
pub(crate) mod core;
pub(crate) mod cpu;
pub(crate) mod fault;
pub(crate) mod file;
pub(crate) mod mem;
pub(crate) mod nmi;
pub(crate) mod probes;
#[cfg(RCU_PTR_RUNNER)]
pub(crate) mod runner;
pub(crate) mod skip;
pub(crate) mod srcu;
pub(crate) mod text;
pub(crate) mod thread;
pub(crate) mod timer;
pub(crate) mod tracepoints;
pub(crate) mod user;
