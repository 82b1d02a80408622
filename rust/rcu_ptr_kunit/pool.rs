// SPDX-License-Identifier: GPL-2.0

//! A pool of objects whose state can be told: intact or freed.
//!
//! The objects come from a kmem_cache of the pool, which poisons freed objects at once and reports
//! double frees. Every fourth object is retained, so that no slab page is freed and freed objects
//! can be inspected; under KASAN the shadow is inspected instead. The destruction of the kmem_cache
//! reports objects that were not freed. Functions may sleep unless they say otherwise.

pub(crate) use crate::sys::alloc::Checks;
use crate::{
    callback,
    free_fn::FreeFn,
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
pub(crate) const FREES_ARE_VISIBLE: bool = cfg!(any(
    CONFIG_KASAN_GENERIC,
    all(CONFIG_SLUB_DEBUG, not(CONFIG_KASAN))
));

/// The default size of an object, in bytes.
pub(crate) const SIZE: usize = 96;

/// What the slab writes into freed objects (`POISON_FREE`, `POISON_END`).
const POISON: u8 = 0x6b;
const POISON_END: u8 = 0xa5;

/// One object is retained for each group of this many.
const RETAIN_EVERY: usize = 4;

/// The state of an object's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ObjectState {
    /// As it was allocated, apart from the field.
    Intact,
    Freed,
    /// Neither intact nor freed.
    Broken,
}

/// An object of a pool.
#[derive(Clone, Copy)]
pub(crate) struct Object {
    pub(crate) start: NonNull<u8>,
    /// Determines the contents.
    number: usize,
    size: usize,
    /// Offset of the field.
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

    /// The state of the memory. If the object may have been freed: only if [`FREES_ARE_VISIBLE`].
    pub(crate) fn state(&self) -> ObjectState {
        if cfg!(CONFIG_KASAN) {
            // The words must not be read: it may be freed concurrently.
            return if alloc::is_poisoned(self.start) {
                ObjectState::Freed
            } else {
                ObjectState::Intact
            };
        }
        if self.is_intact() {
            return ObjectState::Intact;
        }
        // SAFETY: The retained objects keep the slab page of this object.
        let byte = |i| unsafe { self.start.add(i).read_volatile() };
        if (0..self.size - 1).all(|i| byte(i) == POISON) && byte(self.size - 1) == POISON_END {
            return ObjectState::Freed;
        }
        ObjectState::Broken
    }

    /// Whether it is intact, though it may have been freed. Only if [`FREES_ARE_VISIBLE`].
    pub(crate) fn is_live(&self) -> bool {
        self.state() == ObjectState::Intact
    }

    /// Whether the words of an object that is not freed are unchanged, apart from the field; the
    /// word behind the field may be the function of a callback.
    pub(crate) fn is_intact(&self) -> bool {
        (0..self.size / 8).filter(|i| i * 8 != self.at).all(|i| {
            // SAFETY: As in `state()`; an object that was not freed is live.
            let word = unsafe { self.start.cast::<u64>().add(i).read_volatile() };
            word == self.word(i) || (i * 8 == self.at + 8 && callback::is_func(word))
        })
    }
}

/// The pool. Each object is handed out once; the rest is freed with the pool.
pub(crate) struct Pool {
    objects: KVVec<Object>,
    retained: KVVec<NonNull<u8>>,
    next: Atomic<usize>,
    // Dropped last: reports objects that were not freed.
    cache: RawCache,
}

// SAFETY: Objects are memory of the pool; each is handed out to one caller.
unsafe impl Sync for Pool {}
// SAFETY: As above.
unsafe impl Send for Pool {}

impl Pool {
    /// A pool of `count` objects of [`SIZE`] bytes with their field at offset 16.
    pub(crate) fn new(count: usize) -> Result<Self> {
        Self::with(count, SIZE, 16)
    }

    /// A pool of `count` objects of `size` bytes with their field at offset `at`.
    pub(crate) fn with(count: usize, size: usize, at: usize) -> Result<Self> {
        Self::with_checks(count, size, at, Checks::Poison)
    }

    /// As [`Pool::with()`], from a kmem_cache with `checks`. Without checks the state of objects
    /// cannot be told; those that were not freed are reported when the pool is dropped.
    pub(crate) fn with_checks(
        count: usize,
        size: usize,
        at: usize,
        checks: Checks,
    ) -> Result<Self> {
        let mut pool = Pool {
            objects: KVVec::with_capacity(count, GFP_KERNEL)?,
            retained: KVVec::with_capacity(count / RETAIN_EVERY + 1, GFP_KERNEL)?,
            next: Atomic::new(0),
            cache: RawCache::new("rcu_ptr_kunit_pool", size, checks)?,
        };
        for number in 0..count {
            if number % RETAIN_EVERY == 0 {
                let retained = pool.cache.alloc().ok_or(ENOMEM)?;
                pool.retained.push(retained, GFP_KERNEL)?;
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

    /// The number of objects.
    pub(crate) fn len(&self) -> usize {
        self.objects.len()
    }

    /// The number of objects that were handed out.
    pub(crate) fn taken(&self) -> usize {
        self.next.load(Relaxed).min(self.objects.len())
    }

    /// Hands out an object.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    #[inline]
    pub(crate) fn take(&self) -> Option<Object> {
        if self.next.load(Relaxed) >= self.objects.len() {
            return None;
        }
        // ORDERING: None: the objects were written before the pool was shared.
        let i = self.next.fetch_add(1, Relaxed);
        self.objects.get(i).copied()
    }

    /// Takes up to `n` objects and frees them.
    ///
    /// # Context
    ///
    /// That of `free_fn`.
    pub(crate) fn free(&self, free_fn: FreeFn, n: usize) {
        self.free_counted(free_fn, n);
    }

    /// As [`Self::free()`]. Returns how many objects there were.
    ///
    /// # Context
    ///
    /// That of `free_fn`.
    pub(crate) fn free_counted(&self, free_fn: FreeFn, n: usize) -> usize {
        (0..n)
            .map_while(|_| self.take())
            // SAFETY: Handed out once, with a field at `at`, behind which there is room for a head.
            .map(|object| unsafe { free_fn.free(object.start, object.at) })
            .count()
    }

    pub(crate) fn objects(&self) -> &[Object] {
        &self.objects
    }

    /// How many of the first `n` objects, which were handed out, are not freed; 0 unless
    /// [`FREES_ARE_VISIBLE`].
    pub(crate) fn unfreed(&self, n: usize) -> usize {
        let queued = self
            .objects
            .iter()
            .take(if FREES_ARE_VISIBLE { n } else { 0 });
        queued.filter(|object| object.is_live()).count()
    }

    /// Whether every object that was handed out is freed, and every other one intact; without
    /// [`FREES_ARE_VISIBLE`] only the latter.
    pub(crate) fn all_freed(&self) -> bool {
        let (taken, rest) = self.objects.split_at(self.taken());
        rest.iter().all(Object::is_intact)
            && (!FREES_ARE_VISIBLE || taken.iter().all(|o| o.state() == ObjectState::Freed))
    }

    /// Replaces the objects that were handed out, which must have been freed, by new ones.
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
        if FREES_ARE_VISIBLE {
            // A failed case may leave objects queued. Where frees are not visible it is the
            // kmem_cache that checks the barrier of the case, so there is no other one here.
            engine::barrier();
        }
        let (_, rest) = self.objects.split_at(self.taken());
        let rest = rest.iter().map(|object| &object.start);
        for &object in Iterator::chain(rest, &self.retained) {
            // SAFETY: Objects of this kmem_cache that were never handed out.
            unsafe { self.cache.free(object) };
        }
        // The kmem_cache is destroyed next, and reports objects that are left.
        self.cache.shrink();
    }
}
