// SPDX-License-Identifier: GPL-2.0

//! Giving an object back: to be used again at once, or after a grace period in one reserved slot of
//! this CPU's rcu sheaf; in any context.
//!
//! ```text
//!  free()      place for reuse -> as free_rcu()
//!  free_rcu()  rcu sheaf -> an empty sheaf: spare, barn, kmalloc_nolock() -> the engine
//! ```

use super::{
    cache::Cache,
    cursor::Cursor,
    local::LocalWord,
    pcs::{Here, REUSE},
    reclaim,
    sheaf::{Closed, Installed},
};
use crate::{
    api,
    sys::{context::Context, preempt::PreemptOff},
};
use core::ptr::NonNull;
use kernel::sync::atomic::Relaxed;

/// Gives `object` back, to be given out again at once.
///
/// # Context
///
/// Any, NMI included.
///
/// # Safety
///
/// `object` is a live object of `cache` that is the caller's, and nobody else looks at it.
#[inline(always)]
pub(crate) unsafe fn free(cache: &Cache, object: NonNull<u8>, caller: usize) {
    let pin = PreemptOff::new();
    let here = Here::new(cache, &pin);
    let addr = object.as_ptr().expose_provenance();
    for i in 0..REUSE {
        if here.reuse(i).put(addr) {
            return here.arm();
        }
    }
    // A grace period does no harm, and it never needs the slab.
    match here.rcu().reserve() {
        Some(slot) => slot.store(addr),
        None => slow(cache, object, caller, pin),
    }
}

/// Gives `object` back, to be given out again after a grace period.
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
pub(crate) unsafe fn free_rcu(cache: &Cache, object: NonNull<u8>, caller: usize) {
    let pin = PreemptOff::new();
    match Here::new(cache, &pin).rcu().reserve() {
        Some(slot) => slot.store(object.as_ptr().expose_provenance()),
        None => slow(cache, object, caller, pin),
    }
}

#[cold]
#[inline(never)]
fn slow(cache: &Cache, object: NonNull<u8>, caller: usize, pin: PreemptOff) {
    let here = Here::new(cache, &pin);
    let ctx = Context::look(&pin);
    let addr = object.as_ptr().expose_provenance();
    let rcu = here.rcu();
    loop {
        let Some(seen) = rcu.used_up() else {
            // A context that came in between has installed one.
            match rcu.reserve() {
                Some(slot) => return slot.store(addr),
                None => continue,
            }
        };
        let Some(sheaf) = here.find_empty(ctx) else {
            match rcu.remove(seen) {
                Ok(old) => here.close(old, ctx),
                Err(()) => continue,
            }
            here.count_fell_back();
            cache.returned.add(1, Relaxed);
            // SAFETY: A live object of a kmem_cache or of kmalloc_nolock(), and 8 bytes in it
            // that are its link or lie behind what the user has: `Cache::create()` saw to that.
            return unsafe { api::kfree_nolock(object, object.add(cache.link), caller) };
        };
        let node = here.pcs().node;
        match rcu.install(seen, sheaf.start(cache.capacity, addr, node)) {
            Ok(old) => {
                here.count_filled();
                here.close(old, ctx);
                return here.arm();
            }
            Err(unused) => here.keep_empty(unused.undo(), ctx),
        }
    }
}

impl Here<'_> {
    /// Lets a full sheaf wait for a grace period.
    fn close(self, old: Option<Installed>, ctx: Context) {
        let Some(old) = old else { return };
        let sheaf = Closed::filled(old, super::geometry::SLOTS);
        let words = self.words();
        if ctx.may_lock {
            // Emptied sheaves of this CPU wait for the same one.
            let mut chain = words.spent.take();
            chain.push(sheaf);
            reclaim::wait(chain);
        } else {
            words.closed.push(sheaf);
            self.ring();
        }
    }
}

/// Closes the rcu sheaf before it is full.
pub(super) fn close_partial<W: LocalWord>(rcu: Cursor<W>) -> Option<Closed> {
    rcu.close().map(|(sheaf, end)| Closed::filled(sheaf, end))
}
