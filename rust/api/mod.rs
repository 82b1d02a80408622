// SPDX-License-Identifier: GPL-2.0

//! What a Rust client of `rcu_ptr.ko` uses: objects that go after an RCU grace period.
//!
//! A client includes this folder as a public module of its crate (`pub mod rcu_ptr;`, as what it
//! does not use would be dead code otherwise), and `client.mk` in its Kbuild; see rust/clients/.
//! All of it is safe to call.
//!
//! | type | when it is dropped | in |
//! |---|---|---|
//! | [`RcuBox`] | drops its object and frees it after a grace period | any context |
//! | [`RcuBox`] of [`WithRoom`] | the same; or calls a closure first: [`RcuBox::call()`] | any context |
//! | [`RcuFreeBox`] | drops what readers don't see at once, frees the memory after a grace period | any context |
//! | [`CacheBox`] | drops its object after a grace period, for use by its [`Cache`] | any context |
//! | [`UniqueCacheBox`] | the same, at once where there is nothing to drop | any context |
//! | [`free_mightsleep()`] | frees a box of the kernel's after a grace period, without a word in it | may sleep |
//! | [`try_free_nolock()`] | the same, if there is room | any context |
//!
//! [`RcuSlot`], [`CacheSlot`] and [`CacheTable`] are places where readers find them; boxes are
//! [`ForeignOwnable`](kernel::types::ForeignOwnable) too, so an XArray holds them.
//!
//! # Examples
//!
//! Modules to copy from, without `unsafe`, are in rust/clients/; the suites of rcu_ptr_kunit.ko use
//! the rest. All of these are compiled:
//!
//! | item | used in |
//! |---|---|
//! | [`RcuBox`], [`RcuKBox`], [`RcuSlot`], [`barrier()`] | rust/clients/rust/rcu_ptr_client_rs.rs |
//! | [`RcuBox::new_nolock()`], [`RcuSlot::put()`], [`RcuSlot::remove()`] | rust/clients/sleepers/rcu_ptr_sleepers_main.rs |
//! | [`Cache`], [`CacheTable`], [`UniqueCacheBox::share()`] | rust/clients/nmi_hash/rcu_ptr_nmi_hash_main.rs |
//! | [`CacheBox`], [`CacheSlot`], [`CacheLimits`], [`UniqueCacheBox`] | rust/rcu_ptr_kunit/suites/cache_api.rs |
//! | [`RcuVBox`], [`RcuKVBox`], [`RcuSleepBox`], [`KvFree`], [`CallbackContext`], [`BhOff`], [`MaySleep`] | rust/rcu_ptr_kunit/suites/rust_api.rs |
//! | [`RcuFreeSafe`], [`RcuFreeBox`], [`RcuFree`], [`RcuFreeKBox`], [`RcuFreeVBox`], [`RcuFreeKVBox`] | rust/rcu_ptr_kunit/suites/rust_api.rs |
//! | [`WithRoom`], [`RcuBox::call()`], [`ForeignOwnableRcu`] | rust/rcu_ptr_kunit/suites/rust_api.rs |
//! | [`free_mightsleep()`], [`try_free_nolock()`] | rust/rcu_ptr_kunit/suites/rust_api.rs |
//!
//! The examples in these docs are compiled too (scripts/check.sh `refused`); lines that begin with
//! `#` are what an example takes for granted. rust/api/refused.rs has what does not compile, and
//! why.
//!
//! # Unloading
//!
//! Destructors and closures are code of the client that runs later. When a module goes, rcu_ptr.ko
//! waits for those of its callbacks that are left, after the module's own exit and before its
//! memory is freed: no barrier has to be remembered, and no box that is forgotten can do harm.

// The files of rust/sys that this module uses: docs/reading.md. `shared`: another one uses the
// rest.
#[path = "../sys"]
mod sys {
    #[expect(dead_code, reason = "shared")]
    pub(super) mod cache;
    #[expect(dead_code, reason = "shared")]
    pub(super) mod core;
    pub(super) mod generated;
}

mod cache;
mod cache_slot;
mod call;
mod foreign;
mod free_box;
mod headless;
mod rcu_box;
mod slot;
mod storage;

pub use cache::{Cache, CacheBox, CacheLimits, UniqueCacheBox};
pub use cache_slot::{CacheSlot, CacheTable};
pub use call::WithRoom;
pub use foreign::ForeignOwnableRcu;
pub use free_box::{RcuFree, RcuFreeBox, RcuFreeKBox, RcuFreeKVBox, RcuFreeSafe, RcuFreeVBox};
pub use headless::{free_mightsleep, try_free_nolock};
pub use rcu_box::{
    BhOff, CallbackContext, MaySleep, RcuBox, RcuKBox, RcuKVBox, RcuSleepBox, RcuVBox,
};
pub use slot::RcuSlot;
pub use storage::KvFree;

/// Waits until everything queued before the call is freed, dropped or called, by whichever module
/// (`rcu_ptr_barrier()`).
///
/// A client needs it before it destroys a kmem_cache, or to see the effects. It does not need it
/// before it unloads: see [above](self#unloading).
///
/// # Context
///
/// May sleep.
pub fn barrier() {
    sys::core::barrier();
}
