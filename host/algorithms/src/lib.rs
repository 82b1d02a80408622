// SPDX-License-Identifier: GPL-2.0

//! The algorithm files of `rcu_ptr.ko`, the same text that the module compiles, with tests that
//! only a host can run: exhaustive ones, and long random ones.
//!
//! The files are free of kernel bindings and take grace periods and the size of a block from the
//! `Platform` trait. Their module paths here are those of the module's crate.

// The module uses all of them; the tests under loom use some.
#![cfg_attr(any(not(test), loom), allow(dead_code))]

#[path = "../../../rust/rcu_ptr/entry.rs"]
mod entry;
#[path = "../../../rust/rcu_ptr/link.rs"]
mod link;
#[path = "../../../rust/rcu_ptr/list.rs"]
mod list;
#[path = "../../../rust/rcu_ptr/platform.rs"]
mod platform;
#[path = "../../../rust/rcu_ptr/stats.rs"]
mod stats;

mod lockless;
mod packing;
mod rfc;
// Its slots tell the tests of every access.
#[cfg(test)]
mod sheaves;
mod sync;

// Under loom only what is made for it: its types work inside of a model only.
#[cfg(all(test, not(loom)))]
mod arm_tests;
#[cfg(all(test, loom))]
mod barrier_loom_tests;
#[cfg(all(test, not(loom)))]
mod barrier_tests;
#[cfg(all(test, not(loom)))]
mod blocks_tests;
#[cfg(all(test, not(loom)))]
mod deferred_tests;
#[cfg(all(test, not(loom)))]
mod entry_tests;
#[cfg(all(test, not(loom)))]
mod link_tests;
#[cfg(all(test, not(loom)))]
mod list_tests;
#[cfg(test)]
mod lockless_model;
#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod nested_tests;
#[cfg(all(test, not(loom)))]
mod sheaf_bounds_tests;
#[cfg(all(test, not(loom)))]
mod sheaf_grace_tests;
#[cfg(all(test, loom))]
mod sheaf_loom_tests;
#[cfg(test)]
mod sheaf_model;
#[cfg(all(test, not(loom)))]
mod sheaf_nested_tests;
#[cfg(all(test, not(loom)))]
mod sheaf_reserve_tests;
#[cfg(all(test, not(loom)))]
mod sheaf_state_tests;
#[cfg(all(test, not(loom)))]
mod state_tests;
#[cfg(all(test, not(loom)))]
mod word_tests;
