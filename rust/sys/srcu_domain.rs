// SPDX-License-Identifier: GPL-2.0

//! SRCU domains of each kind for tests, and their readers.
//!
//! C header: [`include/linux/srcu.h`](srctree/include/linux/srcu.h)
//!
//! # Context
//!
//! A task that may sleep.

use super::generated as sys;
use ::core::ptr::NonNull;
use kernel::{bindings, prelude::*};

/// A kind of domain, by its readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `srcu_read_lock()`
    Plain = sys::RCU_PTR_SRCU_PLAIN as isize,
    /// `srcu_read_lock_fast()`
    Fast = sys::RCU_PTR_SRCU_FAST as isize,
    /// `srcu_read_lock_nmisafe()`
    NmiSafe = sys::RCU_PTR_SRCU_NMISAFE as isize,
    /// `rcu_read_lock_trace()`: a single domain of the kernel.
    TasksTrace = sys::RCU_PTR_SRCU_TASKS_TRACE as isize,
}

impl Kind {
    /// Every kind.
    pub(crate) const ALL: [Self; 4] = [Self::Plain, Self::Fast, Self::NmiSafe, Self::TasksTrace];
}

/// A domain, cleaned up on drop, which warns if it is still in use.
///
/// # Invariants
///
/// The pointer is an initialised domain of this kind; owned, except that of the kernel.
pub(crate) struct Domain {
    raw: NonNull<bindings::srcu_struct>,
    kind: Kind,
}

// SAFETY: Domains are used from any CPU.
unsafe impl Send for Domain {}
// SAFETY: As above.
unsafe impl Sync for Domain {}

impl Domain {
    /// Creates a domain.
    pub(crate) fn new(kind: Kind) -> Result<Self> {
        // SAFETY: No requirements.
        let raw = unsafe { sys::rcu_ptr_shim_srcu_new(kind as c_int) };
        // INVARIANT: Just made.
        let raw = NonNull::new(raw).ok_or(ENOMEM)?;
        Ok(Self { raw, kind })
    }

    /// The C domain, for the arguments of a cache.
    pub(crate) fn raw(&self) -> *mut bindings::srcu_struct {
        self.raw.as_ptr()
    }

    /// Waits for a normal grace period, as callbacks do; `synchronize_srcu()` may be expedited.
    pub(crate) fn wait(&self) {
        // SAFETY: By the type invariants.
        let cookie = unsafe { bindings::start_poll_synchronize_srcu(self.raw()) };
        // SAFETY: As above.
        while !unsafe { bindings::poll_state_synchronize_srcu(self.raw(), cookie) } {
            kernel::time::delay::fsleep(kernel::time::Delta::from_millis(1));
        }
    }

    /// Calls `f` as a reader, which may sleep.
    pub(crate) fn read<R>(&self, f: impl FnOnce() -> R) -> R {
        // SAFETY: By the type invariants.
        let token = unsafe { sys::rcu_ptr_shim_srcu_lock(self.kind as c_int, self.raw()) };
        let ret = f();
        // SAFETY: As above; locked above, by this task.
        unsafe { sys::rcu_ptr_shim_srcu_unlock(self.kind as c_int, self.raw(), token) };
        ret
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; no longer in use.
        unsafe { sys::rcu_ptr_shim_srcu_free(self.kind as c_int, self.raw()) };
    }
}
