// SPDX-License-Identifier: GPL-2.0

//! Allocation and free: an object is read from a slot of this CPU's allocation sheaf, and stored to
//! a slot of its rcu sheaf or to a reuse slot.
//!
//! ```text
//!  alloc()     reuse slot -> allocation sheaf -> other reuse slots -> spare -> barn
//!                 -> gfp may wait: the slab, another node's barn
//!                 -> gfp may not wait: the slab, another node's barn, the reserve
//!                 -> alloc_nolock(): another node's barn, the reserve, kmalloc_nolock()
//!  free()      reuse slots -> as free_rcu()
//!  free_rcu()  rcu sheaf -> an empty sheaf: spare, barn, kmalloc_nolock() -> the engine or strays
//! ```
//!
//! At the wait limit only the allocation sheaf, the reuse slots and, for callers that can't wait,
//! the reserve are used.

use super::{
    cache::Cache,
    exchange,
    fastpath::{self, Freed, Missed},
    limits,
    pcs::{Here, PcsCounter},
    refill,
};
use crate::{
    api, fault,
    sys::{context, preempt::PreemptOff, slab},
};
use core::ptr::{self, NonNull};
use kernel::sync::atomic::Relaxed;

/// Allocates an object of `cache`; null on failure.
///
/// # Context
///
/// As `gfp` says, never NMI.
#[inline(always)]
pub(crate) fn alloc(cache: &Cache, gfp: u32) -> *mut u8 {
    slab::might_alloc(gfp);
    let pin = PreemptOff::new();
    let here = Here::new(cache, &pin);
    match fastpath::alloc(here) {
        Ok(object) => pin.end_with(ptr::with_exposed_provenance_mut(object)),
        Err(Missed::Reuse) => again(cache, gfp, pin),
        Err(Missed::UsedUp) => slow(cache, gfp, pin),
    }
}

/// As [`alloc()`], from what is available without waiting.
///
/// # Context
///
/// Any, NMI included.
#[inline(always)]
pub(crate) fn alloc_nolock(cache: &Cache) -> *mut u8 {
    let pin = PreemptOff::new();
    let here = Here::new(cache, &pin);
    match fastpath::alloc(here) {
        Ok(object) => pin.end_with(ptr::with_exposed_provenance_mut(object)),
        Err(Missed::Reuse) => again_nolock(cache, pin),
        Err(Missed::UsedUp) => slow_nolock(cache, pin),
    }
}

// Out of line, so that the fast path needs no stack frame.
#[inline(never)]
fn again(cache: &Cache, gfp: u32, pin: PreemptOff) -> *mut u8 {
    match fastpath::alloc_reused(Here::new(cache, &pin).with_ctx()) {
        Some(object) => ptr::with_exposed_provenance_mut(object),
        None => slow(cache, gfp, pin),
    }
}

#[inline(never)]
fn again_nolock(cache: &Cache, pin: PreemptOff) -> *mut u8 {
    match fastpath::alloc_reused(Here::new(cache, &pin).with_ctx()) {
        Some(object) => ptr::with_exposed_provenance_mut(object),
        None => slow_nolock(cache, pin),
    }
}

#[cold]
#[inline(never)]
fn slow(cache: &Cache, gfp: u32, pin: PreemptOff) -> *mut u8 {
    let mut pin = pin;
    if cache.is_at_wait_limit() {
        let may_wait = slab::may_block(gfp);
        if let Some(object) = limits::alloc_at_limit(Here::new(cache, &pin), may_wait) {
            return ptr::with_exposed_provenance_mut(object);
        }
        drop(pin);
        if !limits::wait_below_limit(cache, gfp) {
            return ptr::null_mut();
        }
        pin = PreemptOff::new();
    }
    let here = Here::new(cache, &pin);
    if let Some(object) = exchange::next_object(here.with_ctx()) {
        return ptr::with_exposed_provenance_mut(object);
    }
    here.add(PcsCounter::Missed, 1);
    drop(pin);
    refill::alloc(cache, gfp)
}

#[cold]
#[inline(never)]
fn slow_nolock(cache: &Cache, pin: PreemptOff) -> *mut u8 {
    let here = Here::new(cache, &pin);
    if cache.is_at_wait_limit() {
        let found = limits::alloc_at_limit(here, false);
        return found.map_or(ptr::null_mut(), ptr::with_exposed_provenance_mut);
    }
    if let Some(object) = exchange::any_object(here.with_ctx().allow_remote()) {
        return ptr::with_exposed_provenance_mut(object);
    }
    here.add(PcsCounter::Missed, 1);
    // kmemleak does not track memory of kmalloc_nolock(), and would report what only such an object
    // points to.
    if !cache.accepts_nolock_objects || cfg!(CONFIG_DEBUG_KMEMLEAK) || !context::may_alloc_nolock()
    {
        return ptr::null_mut();
    }
    let object = fault::point()
        .ok()
        .and_then(|()| slab::kmalloc_nolock(cache.full_size));
    match object {
        Some(object) => {
            // ORDERING: Ordered before the free by the caller's publication of the object.
            cache.has_nolock_objects.store(true, Relaxed);
            cache.slab_allocs.add(1, Relaxed);
            here.add(PcsCounter::NolockAlloc, 1);
            object.as_ptr()
        }
        None => ptr::null_mut(),
    }
}

/// Frees `object` for immediate reuse.
///
/// # Context
///
/// Any, NMI included.
///
/// # Safety
///
/// `object` is a live object of `cache` to which no other context has access.
#[inline(always)]
pub(crate) unsafe fn free(cache: &Cache, object: NonNull<u8>, pin: &PreemptOff) -> Freed {
    fastpath::free(Here::new(cache, pin), object.as_ptr().expose_provenance())
}

/// Frees `object` for reuse after a grace period. Returns `false` if [`no_slot()`] has to be
/// called.
///
/// # Context
///
/// Any, NMI included.
///
/// # Safety
///
/// `object` is a live object of `cache`, unlinked by the caller. Readers that found it before may
/// still access it.
#[inline(always)]
#[must_use]
pub(crate) unsafe fn free_rcu(cache: &Cache, object: NonNull<u8>, pin: &PreemptOff) -> bool {
    fastpath::free_rcu(Here::new(cache, pin), object.as_ptr().expose_provenance())
}

/// Completes [`free()`] or [`free_rcu()`] after they found no slot. Preemption has been disabled
/// since.
///
/// # Context
///
/// As for [`free_rcu()`].
///
/// # Safety
///
/// As for [`free_rcu()`].
#[cold]
pub(crate) unsafe fn no_slot(cache: &Cache, object: NonNull<u8>, caller: usize, pin: PreemptOff) {
    let here = Here::new(cache, &pin);
    let addr = object.as_ptr().expose_provenance();
    if exchange::put_object(here.with_ctx(), addr) {
        return;
    }
    here.add(PcsCounter::EngineFallback, 1);
    if cache.uses_strays() {
        let epoch = cache.count_stray();
        // SAFETY: A live object, aligned to 8 bytes at least. `link` is its field for links or lies
        // behind the user's part: `Cache::create()` checks that.
        if unsafe { cache.strays.push(addr, addr + cache.link, epoch) } {
            return here.queue_irq_work();
        }
        // The first copy is still pending; uncounting it wakes the waiters.
        let _ = cache.strays_pending.uncount(epoch);
        return cache.warn_freed_twice(addr, caller);
    }
    cache.slab_frees.add(1, Relaxed);
    // SAFETY: A live object of a kmem_cache or of kmalloc_nolock(). `link` is its field for links
    // or lies behind the user's part: `Cache::create()` checks that.
    unsafe { api::kfree_nolock(object.as_ptr(), object.as_ptr().add(cache.link), caller) };
}
