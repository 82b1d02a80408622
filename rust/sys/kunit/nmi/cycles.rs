// SPDX-License-Identifier: GPL-2.0

//! The cycle counter of every CPU, through perf: it overflows into an NMI.
//!
//! C header: [`include/linux/perf_event.h`](srctree/include/linux/perf_event.h)

use super::super::{cpu, generated as sys};
use super::Hook;
use kernel::{bindings, error::from_err_ptr, prelude::*};

/// A counter on every CPU that was up when it was made.
///
/// # Invariants
///
/// The pointers are live kernel counters.
pub(crate) struct Cycles<'a> {
    events: KVec<*mut bindings::perf_event>,
    _hook: &'a Hook<'a>,
}

impl<'a> Cycles<'a> {
    /// Runs `hook` every `period` cycles of each CPU, as far as perf allows it.
    ///
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT` where there is no PMU.
    pub(crate) fn new(period: u64, hook: &'a Hook<'a>) -> Result<Self> {
        let mut this = Self {
            events: KVec::with_capacity(cpu::nr_ids() as usize, GFP_KERNEL)?,
            _hook: hook,
        };
        for cpu in cpu::online() {
            // SAFETY: `hook` outlives the counters, by the lifetime.
            let event = from_err_ptr(unsafe {
                sys::rcu_ptr_kunit_cycles_create(
                    cpu,
                    period,
                    core::ptr::from_ref(hook).cast_mut().cast(),
                )
            })?;
            // INVARIANT: Just made.
            this.events.push(event.cast(), GFP_KERNEL)?;
        }
        Ok(this)
    }
}

impl Drop for Cycles<'_> {
    fn drop(&mut self) {
        for &event in self.events.iter() {
            // SAFETY: By the type invariants.
            unsafe { sys::perf_event_release_kernel(event) };
        }
    }
}
