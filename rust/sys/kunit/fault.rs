// SPDX-License-Identifier: GPL-2.0

//! Page allocations of this task that fail, by the kernel's fault injection.
//!
//! Documentation: [fault injection](srctree/Documentation/fault-injection/fault-injection.rst)

use super::{generated as sys, user};
use kernel::prelude::*;

/// Whether the kernel can do that.
pub(crate) const CAN: bool = cfg!(all(CONFIG_FAIL_PAGE_ALLOC, CONFIG_FAULT_INJECTION_DEBUG_FS));

/// The kernel's faults as set up: page allocations fail, but only those of tasks in
/// [`NoPages::inside()`].
pub(crate) struct NoPages(());

impl NoPages {
    /// Sets them up.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn set_up() -> Result<Self> {
        user::sh(
            c"cd /sys/kernel/debug/fail_page_alloc && echo Y >task-filter && echo 0 >min-order && \
              echo N >ignore-gfp-wait && echo 0 >verbose && echo -1 >times && \
              echo 100 >probability",
        )?;
        Ok(Self(()))
    }

    /// Calls `f`, in which no page can be allocated.
    ///
    /// # Context
    ///
    /// That of `f`, in a task.
    pub(crate) fn inside<R>(&self, f: impl FnOnce() -> R) -> R {
        // SAFETY: No requirements.
        unsafe { sys::rcu_ptr_kunit_make_it_fail(true) };
        let ret = f();
        // SAFETY: As above.
        unsafe { sys::rcu_ptr_kunit_make_it_fail(false) };
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
