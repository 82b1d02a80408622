// SPDX-License-Identifier: GPL-2.0

//! Caches with sheaves, without their kernel parts.

#[path = "../../../rust/rcu_ptr/sheaf/barn.rs"]
pub(crate) mod barn;
#[path = "../../../rust/rcu_ptr/sheaf/cursor.rs"]
pub(crate) mod cursor;
#[path = "../../../rust/rcu_ptr/sheaf/double.rs"]
pub(crate) mod double;
#[path = "../../../rust/rcu_ptr/sheaf/exchange.rs"]
pub(crate) mod exchange;
#[path = "sheaf_geometry.rs"]
pub(crate) mod geometry;
#[path = "../../../rust/rcu_ptr/sheaf/local.rs"]
pub(crate) mod local;
#[path = "../../../rust/rcu_ptr/sheaf/reserve.rs"]
pub(crate) mod reserve;
#[path = "../../../rust/rcu_ptr/sheaf/sheaf.rs"]
#[allow(clippy::module_inception)]
pub(crate) mod sheaf;
