// SPDX-License-Identifier: GPL-2.0

//! Engine `lockless` without its kernel parts.

#[path = "../../../rust/rcu_ptr/lockless/block.rs"]
pub(crate) mod block;
#[path = "../../../rust/rcu_ptr/lockless/insert.rs"]
pub(crate) mod insert;
