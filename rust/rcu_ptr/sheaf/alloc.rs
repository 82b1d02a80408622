// SPDX-License-Identifier: GPL-2.0

//! Taking an object: one reserved slot of this CPU's allocation sheaf, in any context.
//!
//! ```text
//!  place for reuse -> allocation sheaf -> other places -> spare -> barn -> with gfp: the slab
//!                                                                   without: kmalloc_nolock()
//! ```

use super::{
    cache::Cache,
    cursor::Undisturbed,
    geometry::SLOTS,
    pcs::{Here, REUSE},
    refill,
    sheaf::{Closed, Full, Installed, Rest},
};
use crate::sys::{context::Context, preempt::PreemptOff, slab};
use core::ptr;
use kernel::sync::atomic::Relaxed;

/// An object of `cache`, or null.
///
/// # Context
///
/// As `gfp` says, never NMI.
#[inline(always)]
pub(crate) fn alloc(cache: &Cache, gfp: u32) -> *mut u8 {
    let pin = PreemptOff::new();
    let here = Here::new(cache, &pin);
    if here.reuse(0).is_there() {
        return again(cache, gfp, pin);
    }
    match here.alloc().reserve() {
        Some(slot) => ptr::with_exposed_provenance_mut(slot.load()),
        None => slow(cache, gfp, pin),
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
    if here.reuse(0).is_there() {
        return again_nolock(cache, pin);
    }
    match here.alloc().reserve() {
        Some(slot) => ptr::with_exposed_provenance_mut(slot.load()),
        None => slow_nolock(cache, pin),
    }
}

// Functions of their own, so that the common way needs no stack.
#[inline(never)]
fn again(cache: &Cache, gfp: u32, pin: PreemptOff) -> *mut u8 {
    match Here::new(cache, &pin).reuse(0).take() {
        Some(object) => ptr::with_exposed_provenance_mut(object),
        None => slow(cache, gfp, pin),
    }
}

#[inline(never)]
fn again_nolock(cache: &Cache, pin: PreemptOff) -> *mut u8 {
    match Here::new(cache, &pin).reuse(0).take() {
        Some(object) => ptr::with_exposed_provenance_mut(object),
        None => slow_nolock(cache, pin),
    }
}

#[cold]
#[inline(never)]
fn slow(cache: &Cache, gfp: u32, pin: PreemptOff) -> *mut u8 {
    let here = Here::new(cache, &pin);
    if let Some(object) = here.next_sheaf(Context::look(&pin), false) {
        return ptr::with_exposed_provenance_mut(object);
    }
    here.count_missed();
    drop(pin);
    refill::alloc(cache, gfp)
}

#[cold]
#[inline(never)]
fn slow_nolock(cache: &Cache, pin: PreemptOff) -> *mut u8 {
    let here = Here::new(cache, &pin);
    if let Some(object) = here.next_sheaf(Context::look(&pin), true) {
        return ptr::with_exposed_provenance_mut(object);
    }
    here.count_missed();
    cache.wants_refill.store(true, Relaxed);
    here.ring();
    // What only such an object points to would count as leaked: kmemleak is not told of it.
    if !cache.takes_foreign || cfg!(CONFIG_DEBUG_KMEMLEAK) {
        return ptr::null_mut();
    }
    match slab::kmalloc_nolock(cache.full_size) {
        Some(object) => {
            // ORDERING: Who gives the object back has it from the caller, and with it this store.
            cache.has_foreign.store(true, Relaxed);
            cache.obtained.add(1, Relaxed);
            here.count_foreign();
            object.as_ptr()
        }
        None => ptr::null_mut(),
    }
}

impl Here<'_> {
    /// An object from the next sheaf, which is installed. `None`: there is no other.
    ///
    /// The cursor is put right in either case.
    fn next_sheaf(self, ctx: Context, nolock: bool) -> Option<usize> {
        for i in 0..REUSE {
            if let Some(object) = self.reuse(i).take() {
                self.put_right(ctx);
                return Some(object);
            }
        }
        loop {
            let Some(seen) = self.alloc().used_up() else {
                // A context that came in between has installed one.
                match self.alloc().reserve() {
                    Some(slot) => return Some(slot.load()),
                    None => continue,
                }
            };
            match self.find_full(ctx, nolock) {
                Some(sheaf) => {
                    let (object, rest) = sheaf.pop();
                    match rest {
                        Rest::Full(sheaf) => self.install(sheaf, ctx),
                        Rest::Empty(sheaf) => {
                            self.keep_empty(sheaf, ctx);
                            self.put_right(ctx);
                        }
                    }
                    return Some(object);
                }
                None => {
                    if let Ok(old) = self.alloc().remove(seen) {
                        self.retire(old, ctx);
                        return None;
                    }
                }
            }
        }
    }

    /// Makes `sheaf` the allocation sheaf if the one there is used up, and keeps it otherwise.
    pub(super) fn install(self, mut sheaf: Full, ctx: Context) {
        while let Some(seen) = self.alloc().used_up() {
            match self.alloc().install(seen, sheaf) {
                Ok(old) => {
                    self.count_emptied();
                    self.retire(old, ctx);
                    self.arm();
                    return;
                }
                Err(back) => sheaf = back,
            }
        }
        self.keep_full(sheaf, ctx);
    }

    /// Takes a used-up cursor back to where it can't run further.
    fn put_right(self, ctx: Context) {
        while let Some(seen) = self.alloc().used_up() {
            if let Ok(old) = self.alloc().remove(seen) {
                return self.retire(old, ctx);
            }
        }
    }

    /// What becomes of an emptied sheaf: contexts that were interrupted may still read from it.
    fn retire(self, old: Option<Installed>, ctx: Context) {
        let Some(old) = old else { return };
        if ctx.preemptible {
            // SAFETY: This context was preemptible, and preemption is off since.
            let undisturbed = unsafe { Undisturbed::assume() };
            if let Rest::Empty(sheaf) = old.into_rest(SLOTS, &undisturbed) {
                self.keep_empty(sheaf, ctx);
            }
        } else {
            self.words().spent.push(Closed::spent(old));
        }
    }
}
