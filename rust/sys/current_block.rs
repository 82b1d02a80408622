// SPDX-License-Identifier: GPL-2.0

//! The word of each CPU that engine `lockless` reserves slots with, and the static key that says
//! whether it is in charge. Both are static, so that the code of the common path has their
//! addresses.

use super::{generated as sys, this_cpu::this_cpu_word};
use kernel::sync::atomic::Atomic;

this_cpu_word! {
    /// This CPU's word: `rcu_ptr_current_block` of percpu.c.
    CurrentBlock = "rcu_ptr_current_block"
}

/// The word of `cpu`, a possible one: to look at it, and to work on it when the CPU is dead.
pub(crate) fn of(cpu: i32) -> &'static Atomic<u64> {
    // SAFETY: A static per-CPU word, aligned and initialised; all other access is atomic as well.
    unsafe { Atomic::from_ptr(sys::rcu_ptr_shim_current_block(cpu).cast()) }
}

/// Whether engine `lockless` is in charge.
#[inline(always)]
pub(crate) fn is_lockless() -> bool {
    #[cfg(CONFIG_JUMP_LABEL)]
    // SAFETY: A key that percpu.c defines.
    return unsafe {
        kernel::jump_label::static_branch_unlikely!(
            sys::rcu_ptr_lockless_key,
            sys::rcu_ptr_engine_key,
            key
        )
    };
    #[cfg(not(CONFIG_JUMP_LABEL))]
    // SAFETY: A key that percpu.c defines; the C side writes the counter before this is called.
    unsafe {
        (&raw const sys::rcu_ptr_lockless_key.key.key.enabled.counter).read_volatile() > 0
    }
}

/// Puts engine `lockless` in charge, for good.
///
/// # Context
///
/// May sleep. At module init, before anything is queued.
pub(crate) fn enable_lockless() {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_shim_enable_lockless() };
}
