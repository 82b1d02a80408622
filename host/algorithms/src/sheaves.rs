// SPDX-License-Identifier: GPL-2.0

//! Caches with sheaves, without their kernel parts.

#[path = "../../../rust/rcu_ptr/sheaves/barn.rs"]
pub(crate) mod barn;
#[path = "../../../rust/rcu_ptr/sheaves/cursor.rs"]
pub(crate) mod cursor;
#[path = "../../../rust/rcu_ptr/sheaves/double.rs"]
pub(crate) mod double;
#[path = "../../../rust/rcu_ptr/sheaves/exchange.rs"]
pub(crate) mod exchange;
#[path = "../../../rust/rcu_ptr/sheaves/fastpath.rs"]
pub(crate) mod fastpath;
#[path = "sheaf_geometry.rs"]
pub(crate) mod geometry;
#[path = "../../../rust/rcu_ptr/sheaves/grace.rs"]
pub(crate) mod grace;
#[path = "../../../rust/rcu_ptr/sheaves/local.rs"]
pub(crate) mod local;
#[path = "../../../rust/rcu_ptr/sheaves/reserve.rs"]
pub(crate) mod reserve;
#[path = "../../../rust/rcu_ptr/sheaves/sheaf.rs"]
pub(crate) mod sheaf;
