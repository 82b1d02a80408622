// SPDX-License-Identifier: GPL-2.0

//! For rcu_ptr.ko: the per-CPU word by which engine `lockless` reserves slots, and the static key
//! that enables the engine. Both are static, so their addresses are constants of the fast path.

use super::{generated as sys, this_cpu::this_cpu_word};
use kernel::sync::atomic::Atomic;

this_cpu_word! {
    /// This CPU's word: `rcu_ptr_current_block` of percpu.c.
    CurrentBlock = "rcu_ptr_current_block"
}

/// The word of `cpu`, a possible CPU: to read it, and to modify it when the CPU is dead.
pub(crate) fn of(cpu: i32) -> &'static Atomic<u64> {
    // SAFETY: A static per-CPU word, aligned and initialised; all other access is atomic as well.
    unsafe { Atomic::from_ptr(sys::rcu_ptr_shim_current_block(cpu).cast()) }
}

/// Whether engine `lockless` is enabled.
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

/// Enables engine `lockless`, permanently.
///
/// # Context
///
/// May sleep. At module init, before anything is queued.
pub(crate) fn enable_lockless() {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_shim_enable_lockless() };
}
