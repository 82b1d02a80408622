// SPDX-License-Identifier: GPL-2.0

//! The interface of `rcu_ptr.ko` for Rust clients: objects that are freed after an RCU grace
//! period.
//!
//! A client includes this folder as a public module of its crate (`pub mod rcu_ptr;`; in a private
//! one, unused items would be dead code), and `client.mk` in its Kbuild; see rust/clients/. All
//! functions are safe.
//!
//! | type | when it is dropped | in |
//! |---|---|---|
//! | [`RcuBox`] | drops its object and frees it after a grace period | any context |
//! | [`RcuBox`] of [`WithRoom`] | as above; may call a closure: [`RcuBox::call()`] | any context |
//! | [`RcuFreeBox`] | drops the owner's part immediately, frees after a grace period | any context |
//! | [`CacheBox`] | drops its object after a grace period, for use by its [`Cache`] | any context |
//! | [`UniqueCacheBox`] | as above; immediately if it has no destructor | any context |
//! | [`free_mightsleep()`] | frees a `Box`, without a field, after a grace period | may sleep |
//! | [`try_free_nolock()`] | as above, if there is room | any context |
//!
//! Readers find boxes in an [`RcuSlot`], a [`CacheSlot`] or a [`CacheTable`]; [`RcuBox`] and
//! [`RcuFreeBox`] are [`ForeignOwnable`](kernel::types::ForeignOwnable) too, so an XArray holds
//! them.
//!
//! # Examples
//!
//! rust/clients/ has modules to copy from, without `unsafe`. The items are used in these files, all
//! of which are compiled:
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
//! The examples in the docs of the items are compiled as well (scripts/check.sh `refused`); their
//! lines that begin with `#` are the context of an example. rust/api/refused.rs has code that does
//! not compile, and why.
//!
//! # Unloading
//!
//! Destructors and closures are code of the client that runs later. When a module is unloaded,
//! rcu_ptr.ko waits for its remaining callbacks, after the exit function of the module and before
//! its memory is freed. No barrier is needed; a forgotten box is only leaked.

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
