// SPDX-License-Identifier: GPL-2.0

//! Engine `rfc` without its kernel parts.

#[path = "../../../rust/rcu_ptr/rfc/arm.rs"]
pub(crate) mod arm;
#[path = "../../../rust/rcu_ptr/rfc/barrier.rs"]
pub(crate) mod barrier;
#[path = "../../../rust/rcu_ptr/rfc/blocks.rs"]
pub(crate) mod blocks;
#[path = "../../../rust/rcu_ptr/rfc/bnode.rs"]
pub(crate) mod bnode;
#[path = "../../../rust/rcu_ptr/rfc/deferred.rs"]
pub(crate) mod deferred;
#[path = "../../../rust/rcu_ptr/rfc/state.rs"]
pub(crate) mod state;
