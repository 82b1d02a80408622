// SPDX-License-Identifier: GPL-2.0

//! Giving an object back: to be used again at once, or after a grace period in one reserved slot of
//! this CPU's rcu sheaf; in any context.
//!
//! ```text
//!  free()      reuse slot -> as free_rcu()
//!  free_rcu()  rcu sheaf -> an empty sheaf: spare, barn, kmalloc_nolock() -> the engine, or the strays
//! ```

use super::{
    cache::Cache,
    exchange,
    fastpath::{self, Freed},
    pcs::{Event, Here},
};
use crate::{
    api,
    sys::{context::Context, preempt::PreemptOff},
};
use core::ptr::NonNull;
use kernel::sync::atomic::Relaxed;

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
/// `object` is a live object of `cache` that is the caller's. Readers that found it before may look
/// at it.
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
    if exchange::put_object(here.at(Context::look(&pin)), addr) {
        return;
    }
    here.add(Event::EngineFallback, 1);
    if cache.has_strays() {
        let epoch = cache.count_stray();
        // SAFETY: A live object, aligned to 8 bytes at least, and 8 bytes in it that are its link or lie
        // behind what the user has: `Cache::create()` saw to that.
        if unsafe { cache.strays.push(addr, addr + cache.link, epoch) } {
            return here.kick();
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

/// The rest of [`free()`] for an object that is there already.
///
/// # Context
///
/// Any, NMI included.
#[cold]
pub(crate) fn twice(cache: &Cache, object: NonNull<u8>, caller: usize) {
    cache.warn_freed_twice(object.as_ptr().addr(), caller);
}
