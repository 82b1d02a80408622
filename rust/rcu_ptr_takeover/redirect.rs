// SPDX-License-Identifier: GPL-2.0

//! Decides whether the engine or the kernel handles a redirected call, and makes the destruction of
//! kmem_caches wait for the engine.
//!
//! `kmem_cache_destroy()` waits for objects that the kernel has, and knows nothing of ours. So ours
//! have to be freed before it. And its first step hands objects that NMIs freed (they lie on a list
//! of their CPU until an irq_work runs) to `kvfree_call_rcu()`: were that redirected, objects of
//! the cache would come to the engine when its barrier is over. So while a cache is destroyed,
//! every call is the kernel's:
//!
//! ```text
//!  a call, preemption disabled       kmem_cache_destroy()
//!
//!  DESTROYING?                       DESTROYING += 1
//!    0: insert into the engine       synchronize_rcu(), wait for SLEEPING
//!    else: the kernel's              __rcu_ptr_barrier_objects()
//!                                    the kernel's kmem_cache_destroy()
//!                                    DESTROYING -= 1
//! ```
//!
//! A call that saw 0 has inserted its object when the grace period ends, as preemption was
//! disabled; one that sleeps instead is counted. Thus the barrier sees it.
//!
//! All functions but [`decide()`] and [`rest()`] may sleep.

use crate::sys::redirected::{self as sys, DyingCache};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Full, Relaxed},
};

/// How many caches are being destroyed; and one for each reason to leave all calls to the kernel.
static DESTROYING: Atomic<i32> = Atomic::new(1);

/// Calls that insert with preemption enabled.
static SLEEPING: Atomic<i32> = Atomic::new(0);

/// Calls that may sleep, or lead to the kernel's function, with code of this module on their stack.
static INSIDE: Atomic<i32> = Atomic::new(0);

/// Increments a counter as long as it lives.
struct Counted(&'static Atomic<i32>);

impl Counted {
    fn new(what: &'static Atomic<i32>) -> Self {
        // ORDERING: Full: of two contexts that each raise a counter and then read the other's, at
        // least one sees both raised.
        what.fetch_add(1, Full);
        Self(what)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // ORDERING: What was done while it was counted is over before.
        self.0.fetch_sub(1, Full);
    }
}

fn wait_for_none(what: &Atomic<i32>) {
    while what.load(Relaxed) != 0 {
        sys::sleep();
    }
}

/// Passes an object to the engine by `insert`, unless it must go to the kernel. Returns the counter
/// to increment: `taken`, or the reason why the engine does not have it.
///
/// # Context
///
/// Any, NMI included; preemption disabled.
#[inline(always)]
pub(crate) fn decide(taken: c_uint, insert: impl FnOnce() -> bool) -> c_uint {
    if !sys::is_watching() {
        return sys::NOT_WATCHING;
    }
    // ORDERING: None needed: this is a read-side critical section. A context that has incremented
    // the counter waits for a grace period, which either ends after the insertion, or starts before
    // this load, which then sees the increment.
    if DESTROYING.load(Relaxed) != 0 {
        return sys::WHILE_DESTROYING;
    }
    if insert() {
        taken
    } else {
        sys::NO_ROOM
    }
}

/// Completes a call that [`decide()`] did not pass to the engine: by `sleep` if it may sleep and no
/// cache is being destroyed, otherwise by the function of the kernel.
///
/// # Context
///
/// That of the call.
pub(crate) fn rest(sleep: Option<impl FnOnce()>, original: impl FnOnce()) {
    let _inside = Counted::new(&INSIDE);
    if let Some(sleep) = sleep {
        let _sleeping = Counted::new(&SLEEPING);
        if DESTROYING.load(Relaxed) == 0 {
            sys::count(sys::HEADLESS_SLEPT);
            return sleep();
        }
    }
    original();
}

/// Waits until the engine has freed all objects. No new ones are inserted meanwhile, as the caller
/// has incremented [`DESTROYING`].
fn flush() {
    sys::synchronize_rcu();
    wait_for_none(&SLEEPING);
    sys::barrier();
}

/// `kmem_cache_destroy()`
pub(crate) fn destroy(cache: Option<DyingCache>) {
    let _inside = Counted::new(&INSIDE);
    let Some(cache) = cache else { return };
    sys::count(sys::DESTROYED);
    let _destroying = Counted::new(&DESTROYING);
    flush();
    cache.destroy();
}

/// A module is being unloaded: waits for the objects that it has queued, before the kernel checks
/// for memory that the module has not freed.
///
/// Objects on the kernel's per-CPU lists of NMI-freed objects are not flushed here: at worst the
/// kernel keeps the allocation tags of the module.
pub(crate) fn module_gone() {
    sys::count(sys::MODULES_GONE);
    sys::barrier();
}

/// Starts to pass calls to the engine.
///
/// `kmem_cache_destroy()` is redirected already, but there may be calls of it that began before.
/// All objects of their caches are freed by now, so they are in the kernel, or on the lists of
/// objects that NMIs freed: those are drained first, while they still go to the kernel.
///
/// # Errors
///
/// `ENOMEM`
pub(crate) fn begin() -> Result {
    sys::drain_deferred()?;
    DESTROYING.fetch_sub(1, Full);
    Ok(())
}

/// Passes all calls to the kernel again, and waits until the engine has freed all objects.
pub(crate) fn end() {
    DESTROYING.fetch_add(1, Full);
    flush();
}

/// Waits until no code of this module runs. The functions of the kernel are not redirected any
/// more.
pub(crate) fn drain() {
    // A task that was preempted before it was counted is counted now, and one that is no longer
    // counted is gone after the second.
    sys::synchronize();
    wait_for_none(&INSIDE);
    sys::synchronize();
}
