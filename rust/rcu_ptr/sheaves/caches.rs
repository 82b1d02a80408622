// SPDX-License-Identifier: GPL-2.0

//! The list of all caches. No lock is held while waiting or calling another CPU: the cache is
//! pinned instead, and its destruction waits for the pin.

use super::{
    barrier,
    cache::{Cache, CacheRef},
};
use crate::fault;
use core::{ops::Deref, ptr::NonNull};
use kernel::{
    prelude::*,
    sync::atomic::{Acquire, Atomic, Full, Relaxed},
};

/// An entry of the list.
struct CacheEntry {
    /// Caches have ascending ids, from 1.
    id: u64,
    cache: CacheRef,
    /// Set while the cache is being destroyed: the number of that destruction, for
    /// `wait_for_destroys()`.
    destroy_nr: Option<u64>,
}

/// All caches, in the order of their ids.
pub(super) struct Caches {
    known: KVec<CacheEntry>,
    ids: u64,
    destroys: u64,
}

/// Number of completed destructions.
static DESTROYED: Atomic<u64> = Atomic::new(0);

/// A cache that is not destroyed as long as this lives.
///
/// # Invariants
///
/// The value is counted in `pins`.
pub(super) struct CachePin {
    pub(super) id: u64,
    cache: CacheRef,
}

impl Deref for CachePin {
    type Target = Cache;

    fn deref(&self) -> &Cache {
        &self.cache
    }
}

impl Drop for CachePin {
    fn drop(&mut self) {
        // ORDERING: Full pairs with the acquire in `wait_unpinned()`, after which the cache may be
        // freed.
        if self.cache.pins.fetch_sub(1, Full) == 1 {
            barrier::wake();
        }
    }
}

impl Caches {
    pub(super) fn new() -> Self {
        Self {
            known: KVec::new(),
            ids: 0,
            destroys: 0,
        }
    }

    /// The caches that are not being destroyed.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Cache> {
        let used = self.known.iter().filter(|known| known.destroy_nr.is_none());
        used.map(|known| &*known.cache)
    }
}

impl super::Sheaves {
    /// Adds `cache`, which [`Self::remove()`] removes.
    pub(super) fn add(&self, cache: NonNull<Cache>) -> Result {
        fault::point()?;
        let mut room = KVec::new();
        loop {
            let mut caches = self.caches.lock();
            let len = caches.known.len();
            if len == caches.known.capacity() {
                if room.capacity() <= len {
                    drop(caches);
                    // Without the lock, as a caller of the barrier may hold a lock that memory
                    // reclaim takes.
                    room = KVec::with_capacity(2 * len + 8, GFP_KERNEL)?;
                    continue;
                }
                for known in caches.known.drain_all() {
                    room.push_within_capacity(known)?;
                }
                core::mem::swap(&mut caches.known, &mut room);
            }
            let id = caches.ids + 1;
            caches.known.push_within_capacity(CacheEntry {
                id,
                // SAFETY: `remove()` is called before the cache is freed.
                cache: unsafe { CacheRef::new(cache) },
                destroy_nr: None,
            })?;
            caches.ids = id;
            return Ok(());
        }
    }

    /// The first cache after id `after` that is in use and `wanted`.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(super) fn next(&self, after: u64, wanted: impl Fn(&Cache) -> bool) -> Option<CachePin> {
        let caches = self.caches.lock();
        let known = caches
            .known
            .iter()
            .find(|known| known.id > after && known.destroy_nr.is_none() && wanted(&known.cache))?;
        // INVARIANT: Counted here, under the lock, so that its destruction has not begun.
        known.cache.pins.fetch_add(1, Relaxed);
        Some(CachePin {
            id: known.id,
            cache: known.cache,
        })
    }

    /// The caches in use that are `wanted` when they are reached, one after the other.
    pub(super) fn each<'a>(
        &'a self,
        wanted: impl Fn(&Cache) -> bool + 'a,
    ) -> impl Iterator<Item = CachePin> + 'a {
        let mut last = 0;
        core::iter::from_fn(move || {
            let next = self.next(last, &wanted)?;
            last = next.id;
            Some(next)
        })
    }

    /// Begins the destruction of `cache`, which can't be pinned from here on.
    pub(super) fn begin_destroy(&self, cache: &Cache) {
        let mut caches = self.caches.lock();
        let end = caches.destroys + 1;
        caches.destroys = end;
        let mut all = caches.known.iter_mut();
        if let Some(known) = all.find(|known| core::ptr::eq(&*known.cache, cache)) {
            known.destroy_nr = Some(end);
        }
    }

    /// Waits until `cache`, whose destruction has begun, is not pinned any more.
    pub(super) fn wait_unpinned(&self, cache: &Cache) {
        // ORDERING: Acquire pairs with the drop of `CachePin`.
        barrier::wait_until(|| cache.pins.load(Acquire) == 0);
    }

    /// Removes `cache`, whose objects are back in the slab.
    pub(super) fn remove(&self, cache: &Cache) {
        self.caches
            .lock()
            .known
            .retain(|known| !core::ptr::eq(&*known.cache, cache));
        // ORDERING: Full, before the wakeup.
        DESTROYED.fetch_add(1, Full);
        barrier::wake();
    }

    /// Waits for the destructions that have begun so far.
    pub(super) fn wait_for_destroys(&self) {
        let until = self.caches.lock().destroys;
        loop {
            let seen = DESTROYED.load(Acquire);
            let caches = self.caches.lock();
            let mut destroy_nr = caches.known.iter().filter_map(|known| known.destroy_nr);
            let more = destroy_nr.any(|end| end <= until);
            drop(caches);
            if !more {
                return;
            }
            barrier::wait_until(|| DESTROYED.load(Acquire) != seen);
        }
    }
}
