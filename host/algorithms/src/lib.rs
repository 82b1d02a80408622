// SPDX-License-Identifier: GPL-2.0

//! The algorithm files of `rcu_ptr.ko`, as the module compiles them, with tests for the host:
//! exhaustive and random ones, and under loom.
//!
//! The files have no kernel bindings; grace periods and the size of a block come from the
//! `Platform` trait. Module paths are the same as in the crate of the module.

// The module uses all items; the tests use a part of some files, those under loom only a few.
#![cfg_attr(any(not(test), loom), allow(dead_code, unused_imports))]

#[allow(dead_code)]
#[path = "../../../rust/rcu_ptr/entry.rs"]
mod entry;
#[path = "../../../rust/rcu_ptr/link.rs"]
mod link;
#[allow(dead_code)]
#[path = "../../../rust/rcu_ptr/list.rs"]
mod list;
#[path = "../../../rust/rcu_ptr/platform.rs"]
mod platform;
#[allow(dead_code)]
#[path = "../../../rust/rcu_ptr/stats.rs"]
mod stats;

#[allow(dead_code)]
#[path = "../../../rust/rcu_ptr/lockless"]
mod lockless {
    pub(crate) mod barrier;
    pub(crate) mod batches;
    pub(crate) mod block;
    pub(crate) mod insert;
}
mod packing;
#[allow(dead_code)]
#[path = "../../../rust/rcu_ptr/rfc"]
mod rfc {
    pub(crate) mod arm;
    pub(crate) mod barrier;
    pub(crate) mod blocks;
    pub(crate) mod bnode;
    pub(crate) mod deferred;
    pub(crate) mod state;
}
#[cfg(test)]
#[allow(dead_code)]
#[path = "../../../rust/rcu_ptr/sheaves"]
mod sheaves {
    pub(crate) mod arm;
    pub(crate) mod barn;
    pub(crate) mod cursor;
    pub(crate) mod double;
    pub(crate) mod exchange;
    pub(crate) mod fastpath;
    // With slots that report every access to the tests.
    #[path = "../../../host/algorithms/src/sheaf_geometry.rs"]
    pub(crate) mod geometry;
    pub(crate) mod grace;
    pub(crate) mod reserve;
    pub(crate) mod sheaf;
    pub(crate) mod teardown;
}
mod sync;

/// A table of tests: `NAME: TEST;`, or `NAME, "MESSAGE": TEST;` for one that has to panic.
#[cfg(test)]
macro_rules! tests {
    ($($(#[$doc:meta])* $name:ident $(, $words:literal)?: $test:expr;)*) => {$(
        $(#[$doc])*
        #[test]
        $(#[should_panic(expected = $words)])?
        fn $name() {
            $test;
        }
    )*};
}

#[cfg(test)]
mod hook;
#[cfg(test)]
mod lockless_model;
#[cfg(test)]
mod sheaf_model;

#[cfg(all(test, not(loom)))]
#[path = "."]
mod plain {
    mod arm_tests;
    mod barrier_tests;
    mod batches_tests;
    mod blocks_tests;
    mod deferred_tests;
    mod entry_tests;
    mod link_tests;
    mod list_tests;
    mod nested_tests;
    mod sheaf_bounds_tests;
    mod sheaf_grace_tests;
    mod sheaf_nested_tests;
    mod sheaf_reserve_tests;
    mod sheaf_state_tests;
    mod sheaf_teardown_tests;
    mod state_tests;
    mod word_tests;
}
// Only tests for loom, as its types work only inside of a model.
#[cfg(all(test, loom))]
#[path = "."]
mod under_loom {
    mod barrier_loom_tests;
    mod loom_tests;
    mod sheaf_loom_tests;
}
