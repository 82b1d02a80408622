// SPDX-License-Identifier: GPL-2.0

//! What a Rust client of `rcu_ptr.ko` uses: memory that is freed after an RCU grace period.
//!
//! A client includes this folder as a module of its crate and `client.mk` in its Kbuild; see
//! rust/clients/rust/ and rust/clients/nmi_hash/. All of it is safe to call; boxes without a cache need
//! types that implement [`HasRcuPtr`], which [`impl_has_rcu_ptr!`] does.
//!
//! | type | frees its memory |
//! |---|---|
//! | [`RcuBox`] | after a grace period, when it is dropped |
//! | [`RcuDropBox`] | the same, and runs a destructor first |
//! | [`RcuNolockBox`] | the same as [`RcuBox`], and is made and dropped in any context, NMI too |
//! | [`CacheBox`] | the same, for use by its [`Cache`], in any context |
//! | [`UniqueCacheBox`] | at once, for use by its [`Cache`], in any context |
//! | [`free_mightsleep()`] | after a grace period, with no field in the object |
//! | [`try_free_nolock()`] | the same in any context, if there is room |
//!
//! ```ignore
//! #[pin_data]
//! struct Entry {
//!     key: u64,
//!     #[pin]
//!     rcu: RcuPtr,
//! }
//!
//! impl_has_rcu_ptr! {
//!     impl HasRcuPtr for Entry { self.rcu }
//! }
//!
//! static TABLE: RcuSlot<Entry> = RcuSlot::new();
//!
//! let entry = RcuBox::new(pin_init!(Entry { key: 1, rcu <- RcuPtr::new() }), GFP_KERNEL)?;
//! // The entry that was there is freed when no reader can have it any more.
//! drop(TABLE.swap(Some(entry)));
//!
//! let guard = rcu::read_lock();
//! if let Some(entry) = TABLE.load(&guard) {
//!     pr_info!("{}\n", entry.key);
//! }
//! ```

// A client uses what it needs of this.
#![allow(dead_code, unused_imports, unused_macros)]

#[path = "../sys/client/mod.rs"]
mod sys;

mod cache;
mod cache_slot;
mod field;
mod rcu_box;
mod slot;

pub(crate) use cache::{Cache, CacheBox, UniqueCacheBox};
pub(crate) use cache_slot::{CacheSlot, CacheTable};
pub(crate) use field::{impl_has_rcu_ptr, HasRcuPtr, RcuPtr};
pub(crate) use rcu_box::{
    free_mightsleep, try_free_nolock, DropBeforeGp, KvFree, RcuBox, RcuDropBox, RcuNolockBox,
};
pub(crate) use slot::RcuSlot;

/// Waits until everything queued before the call is freed, by whichever module (`rcu_ptr_barrier()`).
///
/// A client needs it before it destroys a kmem_cache. It does not need it before it unloads:
/// no code of the client runs when its memory is freed.
///
/// # Context
///
/// May sleep.
pub(crate) fn barrier() {
    sys::barrier();
}
