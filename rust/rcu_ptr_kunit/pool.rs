// SPDX-License-Identifier: GPL-2.0

//! A pool of objects that tell what became of them: still intact, or freed.
//!
//! The objects come from a cache of the pool's own that poisons what is freed at once and reports
//! what is freed twice. Objects that the pool keeps lie between them, so that no slab goes away and
//! a freed object can be looked at; of KASAN, which allows no look at its words, at its shadow.
//! Destroying the cache proves that every object came back. What has no other context may sleep.

pub(crate) use crate::sys::alloc::Checks;
use crate::{
    callback,
    route::Route,
    sys::{
        alloc::{self, RawCache},
        core as engine,
    },
};
use core::ptr::NonNull;
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// Whether freed objects can be told from live ones.
pub(crate) const CAN_LOOK: bool = cfg!(any(
    CONFIG_KASAN_GENERIC,
    all(CONFIG_SLUB_DEBUG, not(CONFIG_KASAN))
));

/// Bytes of an object unless the test says otherwise.
pub(crate) const SIZE: usize = 96;

/// What the slab writes into freed objects (`POISON_FREE`, `POISON_END`).
const POISON: u8 = 0x6b;
const POISON_END: u8 = 0xa5;

/// Every so many objects one stays with the pool.
const KEEP: usize = 4;

/// What an object looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// As its owner left it, but for the field.
    Intact,
    /// Freed.
    Freed,
    /// Neither.
    Broken,
}

/// An object of a pool.
#[derive(Clone, Copy)]
pub(crate) struct Object {
    /// Its start.
    pub(crate) start: NonNull<u8>,
    /// Its number, from which what is in it follows.
    number: usize,
    size: usize,
    /// Where its field is.
    pub(crate) at: usize,
}

impl Object {
    fn word(&self, i: usize) -> u64 {
        (self.number as u64 ^ 0xa110_c8ed_0000_0000).rotate_left(i as u32) ^ i as u64
    }

    fn fill(&self) {
        for i in 0..self.size / 8 {
            // SAFETY: Inside the object, which is the pool's.
            unsafe { self.start.cast::<u64>().add(i).write_volatile(self.word(i)) };
        }
    }

    /// Looks at the memory. Where it may have been freed: only if [`CAN_LOOK`].
    pub(crate) fn look(&self) -> Look {
        if cfg!(CONFIG_KASAN) {
            // Its words are not to be looked at: it may be freed just now.
            return if alloc::is_poisoned(self.start) {
                Look::Freed
            } else {
                Look::Intact
            };
        }
        if self.is_intact() {
            return Look::Intact;
        }
        // SAFETY: The slab that the object is in stays, by what the pool keeps.
        let byte = |i| unsafe { self.start.add(i).read_volatile() };
        if (0..self.size - 1).all(|i| byte(i) == POISON) && byte(self.size - 1) == POISON_END {
            return Look::Freed;
        }
        Look::Broken
    }

    /// Whether it is intact, though it may have been freed. Only if [`CAN_LOOK`].
    pub(crate) fn is_live(&self) -> bool {
        self.look() == Look::Intact
    }

    /// Whether everything but the field is as it was; of an object that is not freed. Behind the field there
    /// may be the function of a callback.
    pub(crate) fn is_intact(&self) -> bool {
        (0..self.size / 8).filter(|i| i * 8 != self.at).all(|i| {
            // SAFETY: As in `look()`; an object that was not freed is live.
            let word = unsafe { self.start.cast::<u64>().add(i).read_volatile() };
            word == self.word(i) || (i * 8 == self.at + 8 && callback::is_func(word))
        })
    }
}

/// The pool. Objects are handed out once each; those that never were are freed with it.
pub(crate) struct Pool {
    objects: KVVec<Object>,
    kept: KVVec<NonNull<u8>>,
    next: Atomic<usize>,
    // After the objects: they are to be back when it goes.
    cache: RawCache,
}

// SAFETY: Objects are memory of the pool's; each is handed out to one caller.
unsafe impl Sync for Pool {}
// SAFETY: As above.
unsafe impl Send for Pool {}

impl Pool {
    /// `count` objects of [`SIZE`] bytes with their field at 16.
    pub(crate) fn new(count: usize) -> Result<Self> {
        Self::with(count, SIZE, 16)
    }

    /// `count` objects of `size` bytes with their field at `at`.
    pub(crate) fn with(count: usize, size: usize, at: usize) -> Result<Self> {
        Self::with_checks(count, size, at, Checks::Poison)
    }

    /// As [`Pool::with()`], from a cache with `checks`. Without them it cannot be told whether an
    /// object is freed; that all came back shows at the end.
    pub(crate) fn with_checks(
        count: usize,
        size: usize,
        at: usize,
        checks: Checks,
    ) -> Result<Self> {
        let mut pool = Pool {
            objects: KVVec::with_capacity(count, GFP_KERNEL)?,
            kept: KVVec::with_capacity(count / KEEP + 1, GFP_KERNEL)?,
            next: Atomic::new(0),
            cache: RawCache::new("rcu_ptr_kunit_pool", size, checks)?,
        };
        for number in 0..count {
            if number % KEEP == 0 {
                let kept = pool.cache.alloc().ok_or(ENOMEM)?;
                pool.kept.push(kept, GFP_KERNEL)?;
            }
            let object = Object {
                start: pool.cache.alloc().ok_or(ENOMEM)?,
                number,
                size,
                at,
            };
            object.fill();
            pool.objects.push(object, GFP_KERNEL)?;
        }
        Ok(pool)
    }

    /// How many objects there are.
    pub(crate) fn len(&self) -> usize {
        self.objects.len()
    }

    /// How many were handed out.
    pub(crate) fn taken(&self) -> usize {
        self.next.load(Relaxed).min(self.objects.len())
    }

    /// An object that was not handed out before.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    #[inline]
    pub(crate) fn take(&self) -> Option<Object> {
        if self.next.load(Relaxed) >= self.objects.len() {
            return None;
        }
        // ORDERING: None: the objects were there before the pool was shared.
        let i = self.next.fetch_add(1, Relaxed);
        self.objects.get(i).copied()
    }

    /// Frees `n` objects that were not handed out before, or as many as there are.
    ///
    /// # Context
    ///
    /// That of the route.
    pub(crate) fn free(&self, route: Route, n: usize) {
        for object in (0..n).map_while(|_| self.take()) {
            // SAFETY: Handed out once, with a field there; with a call there is room for a head.
            unsafe { route.free(object.start, object.at) };
        }
    }

    /// All objects.
    pub(crate) fn objects(&self) -> &[Object] {
        &self.objects
    }

    /// How many of the first `n` objects, which were handed out, are not freed; 0 where this cannot be seen.
    pub(crate) fn left(&self, n: usize) -> usize {
        let queued = self.objects.iter().take(if CAN_LOOK { n } else { 0 });
        queued.filter(|object| object.is_live()).count()
    }

    /// Every object that was handed out is freed, every other one intact; where this cannot be seen,
    /// the latter only.
    pub(crate) fn all_freed(&self) -> bool {
        let (taken, rest) = self.objects.split_at(self.taken());
        rest.iter().all(Object::is_intact)
            && (!CAN_LOOK || taken.iter().all(|o| o.look() == Look::Freed))
    }

    /// Fills the pool up again with new objects in place of those handed out, which have to be
    /// freed.
    pub(crate) fn renew(&mut self) -> Result {
        let taken = self.taken();
        for object in self.objects.iter_mut().take(taken) {
            object.start = self.cache.alloc().ok_or(ENOMEM)?;
            object.fill();
        }
        self.next.store(0, Relaxed);
        Ok(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if CAN_LOOK {
            // A case that fails leaves some on their way; where they can't be seen a barrier of the case is judged
            // by the cache.
            engine::barrier();
        }
        let (_, rest) = self.objects.split_at(self.taken());
        let rest = rest.iter().map(|object| &object.start);
        for &object in Iterator::chain(rest, &self.kept) {
            // SAFETY: From this cache, and never handed out.
            unsafe { self.cache.free(object) };
        }
        // Then the cache goes, and complains if anything is left.
        self.cache.shrink();
    }
}
