// SPDX-License-Identifier: GPL-2.0

//! For tests: a closure that is called at every tracepoint of the kernel and of `rcu_ptr.ko`.

use super::{
    generated as sys,
    static_ref::StaticRef,
    tracepoint::{self, Tracepoint},
};
use ::core::ptr;
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// A tracepoint with a probe.
pub(crate) struct Site {
    tracepoint: Tracepoint,
    /// Calls of the body that acted at this tracepoint, counted by the body.
    pub(crate) acted: Atomic<u64>,
}

impl Site {
    /// The name of the tracepoint.
    pub(crate) fn name(&self) -> &str {
        self.tracepoint.name().to_str().unwrap_or("")
    }
}

/// Called at tracepoints.
type Body<'a> = dyn Fn(&Site) + Sync + 'a;

static BODY: StaticRef<&Body<'_>> = StaticRef::new();

/// Calls `visit` for all tracepoints that are `wanted`.
fn walk(wanted: &dyn Fn(&str) -> bool, mut visit: impl FnMut(Tracepoint)) {
    let mut each = |name: &CStr, tracepoint| {
        if name.to_str().is_ok_and(wanted) {
            visit(tracepoint);
        }
    };
    Tracepoint::for_each(&mut each);
    // Those of `rcu_ptr.ko` are not visited.
    for raw in [
        &raw mut sys::__tracepoint_rcu_ptr_queue,
        &raw mut sys::__tracepoint_rcu_ptr_invoke,
        &raw mut sys::__tracepoint_rcu_ptr_defer,
        &raw mut sys::__tracepoint_rcu_ptr_refill,
        &raw mut sys::__tracepoint_rcu_ptr_shrink,
        &raw mut sys::__tracepoint_rcu_ptr_batch_start,
        &raw mut sys::__tracepoint_rcu_ptr_batch_end,
    ] {
        // SAFETY: This module depends on `rcu_ptr.ko`.
        if let Some(tracepoint) = unsafe { Tracepoint::new(raw) } {
            each(tracepoint.name(), tracepoint);
        }
    }
}

/// Unregisters the probes of all sites on drop.
struct Registered<'a>(KVec<&'a Site>);

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        for site in self.0.iter() {
            site.tracepoint.unregister(PROBE, data(site));
        }
        // SAFETY: Tests may sleep.
        unsafe { sys::rcu_ptr_shim_wake_end() };
        tracepoint::synchronize();
        BODY.clear();
    }
}

fn data(site: &Site) -> *mut c_void {
    ptr::from_ref(site).cast_mut().cast()
}

/// It has no parameters for the arguments of tracepoints.
const PROBE: *mut c_void = traced as *mut c_void;

/// Calls `f`, and meanwhile `body` at every tracepoint whose name is `wanted`. One caller at a
/// time; may sleep.
///
/// `body` has to be safe at every tracepoint: with any lock of the kernel held, in NMI, and when
/// called recursively, by its own actions.
///
/// # Errors
///
/// `ENOMEM`; `EOPNOTSUPP` with CONFIG_CFI, which checks the type of the probe.
pub(crate) fn with_probe<R>(
    wanted: &dyn Fn(&str) -> bool,
    body: &Body<'_>,
    f: impl FnOnce(&[Site]) -> R,
) -> Result<R> {
    // A call through a pointer of another type.
    if cfg!(CONFIG_CFI) {
        return Err(EOPNOTSUPP);
    }
    let mut found = 0;
    walk(wanted, |_| found += 1);
    let mut sites = KVVec::with_capacity(found, GFP_KERNEL)?;
    walk(wanted, |tracepoint| {
        let acted = Atomic::new(0);
        let _ = sites.push_within_capacity(Site { tracepoint, acted });
    });
    BODY.set((&raw const body).cast());
    let mut on = Registered(KVec::with_capacity(sites.len(), GFP_KERNEL)?);
    for site in sites.iter() {
        // SAFETY: The site stays where it is until the probe is unregistered.
        if unsafe { site.tracepoint.register(PROBE, data(site)) }.is_ok() {
            on.0.push(site, GFP_KERNEL)?;
        }
        // Otherwise this machine does not support the event.
    }
    let ret = f(&sites);
    drop(on);
    Ok(ret)
}

/// The probe at every site.
///
/// # Safety
///
/// `site` is what the probe was registered with.
unsafe extern "C" fn traced(site: *mut c_void) {
    // SAFETY: `with_probe()` keeps it until no probe runs any more.
    if let Some(body) = unsafe { BODY.get() } {
        // SAFETY: By the safety requirements of this function; kept as long.
        body(unsafe { &*site.cast::<Site>() });
    }
}

/// Wakes a worker of the kernel if it sleeps.
///
/// # Context
///
/// Any but NMI, in [`with_probe()`].
pub(crate) fn wake_a_task() {
    // SAFETY: The work does nothing; it is flushed at the end of `with_probe()`.
    unsafe { sys::rcu_ptr_shim_wake() };
}

/// The number of actions at the sites of `name`.
pub(crate) fn acted(sites: &[Site], name: &str) -> u64 {
    let named = sites.iter().filter(|site| site.name() == name);
    named.map(|site| site.acted.load(Relaxed)).sum()
}
