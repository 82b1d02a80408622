// SPDX-License-Identifier: GPL-2.0

//! The kernel as `rcu_ptr_torture.ko` sees it: allocators, threads, timers, NMIs, CPUs, grace
//! periods, and the interface of `rcu_ptr.ko` by address.

#[path = "../generated.rs"]
pub(crate) mod generated;

pub(crate) mod cache;
pub(crate) mod core;
pub(crate) mod cpu;
pub(crate) mod gp;
pub(crate) mod mem;
pub(crate) mod nmi;
pub(crate) mod probe;
pub(crate) mod thread;
pub(crate) mod timer;
