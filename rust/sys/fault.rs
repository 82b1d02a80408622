// SPDX-License-Identifier: GPL-2.0

//! Fault injection: page allocations of this task, and allocations of `rcu_ptr.ko`.
//!
//! Documentation: [fault injection](srctree/Documentation/fault-injection/fault-injection.rst)
//!
//! # Context
//!
//! Any, NMI included, unless a function says otherwise.

use super::{generated as sys, user};
use kernel::prelude::*;

/// Whether the kernel can inject failures of page allocations.
pub(crate) const CAN: bool = cfg!(all(CONFIG_FAIL_PAGE_ALLOC, CONFIG_FAULT_INJECTION_DEBUG_FS));

/// The kernel's fault injection, set up to fail all page allocations of tasks in
/// [`NoPages::inside()`].
pub(crate) struct NoPages(());

impl NoPages {
    /// Sets it up; may sleep.
    pub(crate) fn set_up() -> Result<Self> {
        user::sh(
            c"cd /sys/kernel/debug/fail_page_alloc && echo Y >task-filter && echo 0 >min-order && \
              echo N >ignore-gfp-wait && echo 0 >verbose && echo -1 >times && \
              echo 100 >probability",
        )?;
        Ok(Self(()))
    }

    /// Calls `f`, with all page allocations failing.
    ///
    /// # Context
    ///
    /// That of `f`, in a task.
    pub(crate) fn inside<R>(&self, f: impl FnOnce() -> R) -> R {
        // SAFETY: No requirements.
        unsafe { sys::rcu_ptr_shim_make_it_fail(true) };
        let ret = f();
        // SAFETY: As above.
        unsafe { sys::rcu_ptr_shim_make_it_fail(false) };
        ret
    }
}

impl Drop for NoPages {
    fn drop(&mut self) {
        let off = c"cd /sys/kernel/debug/fail_page_alloc && echo 0 >probability && \
                    echo N >task-filter && echo 1 >min-order && echo Y >ignore-gfp-wait";
        if user::sh(off).is_err() {
            pr_err!("the faults can't be turned off\n");
        }
    }
}

/// `rcu_ptr_fail_alloc()`: the `nth` next allocation of caches fails, and the `times - 1` that
/// follow it. Returns the number of allocations that were left until the first failure of the
/// previous call.
pub(crate) fn fail_alloc(nth: u64, times: u64) -> u64 {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_fail_alloc(nth as c_ulong, times as c_ulong) as u64 }
}

/// `rcu_ptr_fail_blocks()`, which does so for blocks of the engine.
pub(crate) fn fail_blocks(nth: u64, times: u64) -> u64 {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_fail_blocks(nth as c_ulong, times as c_ulong) as u64 }
}

/// Both: the `nth` next allocation of each kind fails, and the `times - 1` that follow it.
pub(crate) fn fail(nth: u64, times: u64) {
    fail_blocks(nth, times);
    fail_alloc(nth, times);
}
