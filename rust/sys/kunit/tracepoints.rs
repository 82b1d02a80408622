// SPDX-License-Identifier: GPL-2.0

//! The kernel's tracepoints, and those of `rcu_ptr.ko`: something that runs at each of them, wherever in
//! the kernel that is.

use super::generated as sys;
use ::core::ptr;
use kernel::{
    error::to_result,
    prelude::*,
    sync::atomic::{Acquire, Atomic, Full, Relaxed, Release},
};

/// A tracepoint.
pub(crate) struct Site {
    name: &'static CStr,
    tracepoint: *mut c_void,
    /// Runs of the body that did something there: the body's own count.
    pub(crate) acted: Atomic<u64>,
}

// SAFETY: Tracepoints of the kernel and of a module that this one depends on stay.
unsafe impl Send for Site {}
// SAFETY: As above.
unsafe impl Sync for Site {}

impl Site {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.name.to_str().unwrap_or("")
    }
}

/// What runs at tracepoints.
type Body<'a> = dyn Fn(&Site) + Sync + 'a;

static BODY: Atomic<*mut c_void> = Atomic::new(ptr::null_mut());

/// A walk over all tracepoints.
struct Walk<'a> {
    wanted: &'a dyn Fn(&str) -> bool,
    /// Those that are wanted, as far as there is room.
    sites: KVVec<Site>,
    found: usize,
}

impl Walk<'_> {
    fn go(&mut self) {
        self.found = 0;
        // SAFETY: The callback gets this walk, which lives.
        unsafe { sys::rcu_ptr_kunit_tracepoints_walk(ptr::from_mut(self).cast()) };
    }
}

/// # Safety
///
/// `name` is a string and `tracepoint` a tracepoint, both of which stay; `walk` is a [`Walk`].
#[no_mangle]
unsafe extern "C" fn rcu_ptr_kunit_rs_tracepoint(
    name: *const c_char,
    tracepoint: *mut c_void,
    walk: *mut c_void,
) {
    // SAFETY: By the safety requirements of this function.
    let (walk, name) = unsafe { (&mut *walk.cast::<Walk<'_>>(), CStr::from_char_ptr(name)) };
    if !name.to_str().is_ok_and(walk.wanted) {
        return;
    }
    walk.found += 1;
    let site = Site {
        name,
        tracepoint,
        acted: Atomic::new(0),
    };
    // The first walk only counts.
    let _ = walk.sites.push_within_capacity(site);
}

/// Unregisters the probes of all sites on drop.
struct Registered<'a>(KVec<&'a Site>);

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        for site in self.0.iter() {
            // SAFETY: Registered with this site.
            unsafe { unregister(site) };
        }
        // SAFETY: Tests may sleep.
        unsafe { sys::rcu_ptr_kunit_tracepoints_sync() };
        // ORDERING: No probe runs any more; full for what comes next.
        BODY.xchg(ptr::null_mut(), Full);
    }
}

fn data(site: &Site) -> *mut c_void {
    ptr::from_ref(site).cast_mut().cast()
}

/// # Safety
///
/// The probe is registered with `site`.
unsafe fn unregister(site: &Site) {
    // SAFETY: By the safety requirements of this function.
    unsafe { sys::rcu_ptr_kunit_tracepoint_unregister(site.tracepoint, data(site)) };
}

/// Calls `f`, and meanwhile `body` at every tracepoint whose name is `wanted`. One caller at a time.
///
/// `body` has to be fit for wherever tracepoints are: with any lock of the kernel held, in NMI; and for
/// being called by what it does itself.
///
/// # Context
///
/// May sleep.
///
/// # Errors
///
/// `ENOMEM`; `EOPNOTSUPP` where calls are checked (CFI).
pub(crate) fn during<R>(
    wanted: &dyn Fn(&str) -> bool,
    body: &Body<'_>,
    f: impl FnOnce(&[Site]) -> R,
) -> Result<R> {
    let mut walk = Walk {
        wanted,
        sites: KVVec::new(),
        found: 0,
    };
    walk.go();
    walk.sites.reserve(walk.found, GFP_KERNEL)?;
    walk.go();
    let mut wide = body;
    // ORDERING: Pairs with the acquire in the probe.
    BODY.store((&raw mut wide).cast(), Release);
    let mut on = Registered(KVec::with_capacity(walk.sites.len(), GFP_KERNEL)?);
    for site in walk.sites.iter() {
        // SAFETY: The site stays where it is until the probe is unregistered.
        let done = to_result(unsafe {
            sys::rcu_ptr_kunit_tracepoint_register(site.tracepoint, data(site))
        });
        match done {
            Ok(()) => on.0.push(site, GFP_KERNEL)?,
            Err(e) if e == EOPNOTSUPP => return Err(e),
            // One that this machine hasn't got the means for.
            Err(_) => {}
        }
    }
    let ret = f(&walk.sites);
    drop(on);
    Ok(ret)
}

/// Called by shim.c at a tracepoint.
///
/// # Safety
///
/// `site` is what the probe was registered with.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_kunit_rs_traced(site: *mut c_void) {
    // ORDERING: Pairs with the release in `during()`.
    let body = BODY.load(Acquire).cast::<&Body<'_>>();
    if !body.is_null() {
        // SAFETY: `during()` keeps both until no probe runs any more.
        unsafe { (*body)(&*site.cast::<Site>()) };
    }
}

/// Wakes a task, a worker of the kernel's, if that sleeps.
///
/// # Context
///
/// Any but NMI, in [`during()`].
pub(crate) fn wake_a_task() {
    // SAFETY: The work does nothing, and is waited for at the end of `during()`.
    unsafe { sys::rcu_ptr_kunit_wake() };
}

/// How often bodies have acted at the sites of `name`.
pub(crate) fn acted(sites: &[Site], name: &str) -> u64 {
    let named = sites.iter().filter(|site| site.name() == name);
    named.map(|site| site.acted.load(Relaxed)).sum()
}
