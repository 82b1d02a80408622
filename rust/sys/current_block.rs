// SPDX-License-Identifier: GPL-2.0

//! For rcu_ptr.ko: the per-CPU word by which engine `lockless` reserves slots, and the static key
//! that enables the engine. Both are static, so their addresses are constants of the fast path.

use super::{generated as sys, trace::is_on};
use kernel::sync::atomic::Atomic;

/// This CPU's word: `rcu_ptr_current_block` of percpu.c.
pub(crate) use super::this_cpu::arch::current_block as this;

/// The word of `cpu`, a possible CPU: to read it, and to modify it while that CPU does not use it.
pub(crate) fn of(cpu: i32) -> &'static Atomic<u64> {
    // SAFETY: A static per-CPU word, aligned and initialised; all other access is atomic as well.
    unsafe { Atomic::from_ptr(sys::rcu_ptr_shim_current_block(cpu).cast()) }
}

/// Whether engine `lockless` is enabled.
#[inline(always)]
pub(crate) fn is_lockless() -> bool {
    is_on!(rcu_ptr_lockless_key: sys::rcu_ptr_engine_key)
}

/// Enables engine `lockless`, permanently.
///
/// # Context
///
/// May sleep. At module init, before anything is queued.
pub(crate) fn enable_lockless() {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_shim_enable_lockless() };
}
