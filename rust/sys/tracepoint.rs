// SPDX-License-Identifier: GPL-2.0

//! Tracepoints of the kernel by name, and probes on them.
//!
//! C header: [`include/linux/tracepoint.h`](srctree/include/linux/tracepoint.h)
//!
//! # Context
//!
//! A task that may sleep, unless a function says otherwise.

use super::generated as sys;
use ::core::ptr::{self, NonNull};
use kernel::{bindings, error::to_result, prelude::*};

/// A tracepoint that is never freed: of the kernel, or of a module that this one depends on.
#[derive(Clone, Copy)]
pub(crate) struct Tracepoint(NonNull<bindings::tracepoint>);

// SAFETY: Registration does its own locking.
unsafe impl Send for Tracepoint {}
// SAFETY: As above.
unsafe impl Sync for Tracepoint {}

/// Called for each tracepoint.
type Visit<'a> = dyn FnMut(&'static CStr, Tracepoint) + 'a;

impl Tracepoint {
    /// The tracepoint at `raw`.
    ///
    /// # Safety
    /// It is never freed.
    pub(crate) unsafe fn new(raw: *mut bindings::tracepoint) -> Option<Self> {
        NonNull::new(raw).map(Self)
    }

    /// Calls `visit` for every tracepoint of the kernel, without those of modules.
    pub(crate) fn for_each(visit: &mut Visit<'_>) {
        let mut wide = visit;
        // SAFETY: `visited` gets the closure, which lives for the call.
        unsafe { bindings::for_each_kernel_tracepoint(Some(visited), (&raw mut wide).cast()) };
    }

    /// Finds a tracepoint of the kernel by name.
    pub(crate) fn find(name: &CStr) -> Option<Self> {
        let mut found = None;
        Self::for_each(&mut |at, tracepoint| {
            if at == name {
                found = Some(tracepoint);
            }
        });
        found
    }

    /// The name of the tracepoint.
    pub(crate) fn name(self) -> &'static CStr {
        // SAFETY: Neither the tracepoint nor its name is ever freed.
        unsafe { CStr::from_char_ptr((*self.0.as_ptr()).name) }
    }

    /// Registers `probe`, to be called with `data` and the arguments of the tracepoint.
    ///
    /// # Safety
    ///
    /// `probe` is a function of the C ABI whose parameters are a pointer and all or the first of
    /// the arguments of the tracepoint. It and `data` stay valid until it is unregistered and
    /// [`synchronize()`] has returned.
    pub(crate) unsafe fn register(self, probe: *mut c_void, data: *mut c_void) -> Result {
        // SAFETY: By the safety requirements of this function.
        to_result(unsafe { bindings::tracepoint_probe_register(self.0.as_ptr(), probe, data) })
    }

    /// Unregisters `probe` with `data`.
    pub(crate) fn unregister(self, probe: *mut c_void, data: *mut c_void) {
        // SAFETY: It fails for a probe that is not registered.
        unsafe { bindings::tracepoint_probe_unregister(self.0.as_ptr(), probe, data) };
    }
}

/// # Safety
///
/// `tracepoint` is one that stays; `visit` is a reference to a [`Visit`] that lives.
unsafe extern "C" fn visited(tracepoint: *mut bindings::tracepoint, visit: *mut c_void) {
    // SAFETY: By the safety requirements of this function.
    unsafe {
        if let Some(tracepoint) = Tracepoint::new(tracepoint) {
            (*visit.cast::<&mut Visit<'_>>())(tracepoint.name(), tracepoint);
        }
    }
}

/// Waits until no unregistered probe runs (`tracepoint_synchronize_unregister()`).
pub(crate) fn synchronize() {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_shim_tracepoint_synchronize() };
}

/// Registered probes without data, of those tracepoints that exist; unregistered on drop.
pub(crate) struct Probes<const N: usize>([(Option<Tracepoint>, *mut c_void); N]);

impl<const N: usize> Probes<N> {
    /// Registers them.
    ///
    /// # Safety
    ///
    /// Each meets the requirements of [`Tracepoint::register()`] and is never freed.
    pub(crate) unsafe fn register(probes: [(Option<Tracepoint>, *mut c_void); N]) -> Result<Self> {
        let mut this = Self([(None, ptr::null_mut()); N]);
        for (at, (tracepoint, probe)) in this.0.iter_mut().zip(probes) {
            if let Some(tracepoint) = tracepoint {
                // SAFETY: By the safety requirements of this function; it is taken off in `drop()`.
                unsafe { tracepoint.register(probe, ptr::null_mut()) }?;
                *at = (Some(tracepoint), probe);
            }
        }
        Ok(this)
    }

    /// Whether all tracepoints exist.
    pub(crate) fn are_all(&self) -> bool {
        self.0.iter().all(|(tracepoint, _)| tracepoint.is_some())
    }
}

impl<const N: usize> Drop for Probes<N> {
    /// Waits until none of them runs.
    fn drop(&mut self) {
        for (tracepoint, probe) in self.0 {
            if let Some(tracepoint) = tracepoint {
                tracepoint.unregister(probe, ptr::null_mut());
            }
        }
        synchronize();
    }
}
