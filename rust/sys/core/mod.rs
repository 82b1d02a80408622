// SPDX-License-Identifier: GPL-2.0

//! The kernel as `rcu_ptr.ko` sees it: every binding of the core, behind types that carry their rules.
//! What the kernel calls is in rust/rcu_ptr/exports.rs and in the callbacks here.

#[path = "../generated.rs"]
pub(crate) mod generated;

pub(crate) mod callback;
pub(crate) mod context;
pub(crate) mod current_block;
pub(crate) mod debug;
pub(crate) mod gp;
pub(crate) mod hotplug;
pub(crate) mod ipi;
pub(crate) mod irq;
pub(crate) mod irq_work;
pub(crate) mod mem;
pub(crate) mod module;
pub(crate) mod node;
pub(crate) mod param_lock;
pub(crate) mod percpu;
pub(crate) mod pinned_timer;
pub(crate) mod preempt;
pub(crate) mod raw_lock;
pub(crate) mod rcu_callback;
pub(crate) mod shrinker;
pub(crate) mod slab;
pub(crate) mod srcu;
pub(crate) mod this_cpu;
pub(crate) mod trace;
pub(crate) mod wait;
pub(crate) mod work;
