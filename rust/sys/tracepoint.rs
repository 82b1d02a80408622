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

/// A tracepoint that stays: of the kernel itself, or of a module that this one depends on.
#[derive(Clone, Copy)]
pub(crate) struct Tracepoint(NonNull<bindings::tracepoint>);

// SAFETY: Tracepoints lock what they have to.
unsafe impl Send for Tracepoint {}
// SAFETY: As above.
unsafe impl Sync for Tracepoint {}

/// What looks at each tracepoint.
type Visit<'a> = dyn FnMut(&'static CStr, Tracepoint) + 'a;

impl Tracepoint {
    /// The tracepoint at `raw`.
    ///
    /// # Safety
    ///
    /// It is one that stays.
    pub(crate) unsafe fn new(raw: *mut bindings::tracepoint) -> Option<Self> {
        NonNull::new(raw).map(Self)
    }

    /// Calls `visit` for every tracepoint of the kernel itself.
    pub(crate) fn for_each(visit: &mut Visit<'_>) {
        let mut wide = visit;
        // SAFETY: `visited` gets the closure, which lives for the call.
        unsafe { bindings::for_each_kernel_tracepoint(Some(visited), (&raw mut wide).cast()) };
    }

    /// The kernel's tracepoint of that name.
    pub(crate) fn find(name: &CStr) -> Option<Self> {
        let mut found = None;
        Self::for_each(&mut |at, tracepoint| {
            if at == name {
                found = Some(tracepoint);
            }
        });
        found
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static CStr {
        // SAFETY: A tracepoint that stays, with a string that does.
        unsafe { CStr::from_char_ptr((*self.0.as_ptr()).name) }
    }

    /// Has `probe` called with `data` and the arguments of the tracepoint.
    ///
    /// # Safety
    ///
    /// `probe` is a function of the C ABI that takes a pointer, and then the arguments of the
    /// tracepoint or the first of them; it and `data` stay until it is off and [`synchronize()`]
    /// has returned.
    pub(crate) unsafe fn register(self, probe: *mut c_void, data: *mut c_void) -> Result {
        // SAFETY: By the safety requirements of this function.
        to_result(unsafe { bindings::tracepoint_probe_register(self.0.as_ptr(), probe, data) })
    }

    /// Takes `probe` with `data` off.
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

/// Waits until no probe runs that is off (`tracepoint_synchronize_unregister()`).
pub(crate) fn synchronize() {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_shim_tracepoint_synchronize() };
}

/// Probes without data that are on as long as it lives, each where its tracepoint is there.
pub(crate) struct Probes<const N: usize>([(Option<Tracepoint>, *mut c_void); N]);

impl<const N: usize> Probes<N> {
    /// Registers them.
    ///
    /// # Safety
    ///
    /// Each is a probe as [`Tracepoint::register()`] takes it, that stays.
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

    /// Whether every tracepoint was there.
    pub(crate) fn are_all(&self) -> bool {
        self.0.iter().all(|(tracepoint, _)| tracepoint.is_some())
    }
}

impl<const N: usize> Drop for Probes<N> {
    /// Waits until none of them runs any more.
    fn drop(&mut self) {
        for (tracepoint, probe) in self.0 {
            if let Some(tracepoint) = tracepoint {
                tracepoint.unregister(probe, ptr::null_mut());
            }
        }
        synchronize();
    }
}
