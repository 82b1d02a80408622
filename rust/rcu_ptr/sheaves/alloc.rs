// SPDX-License-Identifier: GPL-2.0

//! The calls: an object is taken from a reserved slot of this CPU's allocation sheaf, and given back in one of the rcu
//! sheaf, or in a reuse slot.
//!
//! ```text
//!  alloc()     reuse slot -> allocation sheaf -> other reuse slots -> spare -> barn
//!                 -> with a gfp that may wait: the slab, another node's barn; with another one: and the reserve
//!                 -> without: another node's barn, the reserve, kmalloc_nolock()
//!  free()      reuse slot -> as free_rcu()
//!  free_rcu()  rcu sheaf -> an empty sheaf: spare, barn, kmalloc_nolock() -> the engine, or the strays
//! ```
//!
//! At the wait limit nothing comes after the allocation sheaf but the other reuse slots and, for those who can't wait,
//! the reserve.

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
    sys::{preempt::PreemptOff, slab},
};
use core::ptr::{self, NonNull};
use kernel::sync::atomic::Relaxed;

/// An object of `cache`, or null.
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
        Ok(object) => ptr::with_exposed_provenance_mut(object),
        Err(Missed::Reuse) => again(cache, gfp, pin),
        Err(Missed::UsedUp) => slow(cache, gfp, pin),
    }
}

/// An object of `cache`, or null where none is at hand.
///
/// # Context
///
/// Any, NMI included.
#[inline(always)]
pub(crate) fn alloc_nolock(cache: &Cache) -> *mut u8 {
    let pin = PreemptOff::new();
    let here = Here::new(cache, &pin);
    match fastpath::alloc(here) {
        Ok(object) => ptr::with_exposed_provenance_mut(object),
        Err(Missed::Reuse) => again_nolock(cache, pin),
        Err(Missed::UsedUp) => slow_nolock(cache, pin),
    }
}

// Functions of their own, so that the common way needs no stack.
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
    // What only such an object points to would count as leaked: kmemleak is not told of it.
    if !cache.accepts_nolock_objects || cfg!(CONFIG_DEBUG_KMEMLEAK) {
        return ptr::null_mut();
    }
    let object = fault::point()
        .ok()
        .and_then(|()| slab::kmalloc_nolock(cache.full_size));
    match object {
        Some(object) => {
            // ORDERING: The object is freed after it was passed on by the caller, and with it this store.
            cache.has_nolock_objects.store(true, Relaxed);
            cache.slab_allocs.add(1, Relaxed);
            here.add(PcsCounter::NolockAlloc, 1);
            object.as_ptr()
        }
        None => ptr::null_mut(),
    }
}

/// Gives `object` back, to be allocated again at once.
///
/// # Context
///
/// Any, NMI included.
///
/// # Safety
///
/// `object` is a live object of `cache` that is the caller's alone.
#[inline(always)]
pub(crate) unsafe fn free(cache: &Cache, object: NonNull<u8>, pin: &PreemptOff) -> Freed {
    fastpath::free(Here::new(cache, pin), object.as_ptr().expose_provenance())
}

/// Gives `object` back, to be allocated again after a grace period. `false`: it is for [`no_slot()`].
///
/// # Context
///
/// Any, NMI included.
///
/// # Safety
///
/// `object` is a live object of `cache` that is the caller's. Readers that found it before may look at it.
#[inline(always)]
#[must_use]
pub(crate) unsafe fn free_rcu(cache: &Cache, object: NonNull<u8>, pin: &PreemptOff) -> bool {
    fastpath::free_rcu(Here::new(cache, pin), object.as_ptr().expose_provenance())
}

/// The rest of both where there was no slot, with preemption disabled since.
///
/// # Context
///
/// As there.
///
/// # Safety
///
/// As there.
#[cold]
pub(crate) unsafe fn no_slot(cache: &Cache, object: NonNull<u8>, caller: usize, pin: PreemptOff) {
    let here = Here::new(cache, &pin);
    let addr = object.as_ptr().expose_provenance();
    if exchange::put_object(here.with_ctx(), addr) {
        return;
    }
    here.add(PcsCounter::EngineFallback, 1);
    if cache.has_strays() {
        let epoch = cache.count_stray();
        // SAFETY: A live object, aligned to 8 bytes at least, and 8 bytes in it that are its link or lie
        // behind what the user has: `Cache::create()` saw to that.
        if unsafe { cache.strays.push(addr, addr + cache.link, epoch) } {
            return here.queue_irq_work();
        }
        // The other copy is still to be taken in, which wakes the waiters.
        let _ = cache.strays_pending.uncount(epoch);
        return cache.warn_freed_twice(addr, caller);
    }
    cache.slab_frees.add(1, Relaxed);
    // SAFETY: A live object of a kmem_cache or of kmalloc_nolock(), and 8 bytes in it that are its
    // link or lie behind what the user has: `Cache::create()` saw to that.
    unsafe { api::kfree_nolock(object, object.add(cache.link), caller) };
}
