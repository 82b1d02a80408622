// SPDX-License-Identifier: GPL-2.0

//! Slots where readers find objects of a [`Cache`] under RCU while any context, NMI included,
//! replaces them: a single slot, and a table of slots with its own cache.

use super::cache::{Cache, CacheBox};
use core::ptr::{self, NonNull};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full},
        rcu,
    },
};

/// A slot; its owner knows the cache of its objects.
///
/// # Invariants
///
/// The pointer is null or that of a [`CacheBox`] of the owner's cache, owned by the slot.
struct RawSlot<T>(Atomic<*mut T>);

impl<T> RawSlot<T> {
    const fn new() -> Self {
        // INVARIANT: Null.
        Self(Atomic::new(ptr::null_mut()))
    }

    #[inline]
    fn load<'rcu>(&self, _guard: &'rcu rcu::Guard) -> Option<&'rcu T> {
        // ORDERING: Acquire pairs with the full exchanges below: the object is seen as it was when
        // it was put there.
        let object = NonNull::new(self.0.load(Acquire))?;
        // SAFETY: By the type invariants it was live when it was loaded, inside the guard's
        // read-side critical section; a context that takes it out frees it after a grace period,
        // which the destruction of the cache waits for too.
        Some(unsafe { object.as_ref() })
    }

    #[inline]
    fn swap<'a>(
        &self,
        new: Option<CacheBox<'a, T>>,
        cache: &'a Cache<T>,
    ) -> Option<CacheBox<'a, T>> {
        if new.as_ref().is_some_and(|new| !new.is_of(cache)) {
            return new;
        }
        let new = new.map_or(ptr::null_mut(), |new| new.into_raw().as_ptr());
        // ORDERING: Full: the object is initialised before readers see it (pairs with `load()`),
        // and out of their sight before it is freed.
        let old = NonNull::new(self.0.xchg(new, Full))?;
        // SAFETY: By the type invariants; the exchange has given it to this caller alone.
        Some(unsafe { CacheBox::from_raw(old, cache) })
    }

    #[inline]
    fn put<'a>(&self, new: CacheBox<'a, T>, cache: &'a Cache<T>) -> Result<(), CacheBox<'a, T>> {
        if !new.is_of(cache) {
            return Err(new);
        }
        let object = new.into_raw();
        // ORDERING: Full, as in `swap()`.
        match self.0.cmpxchg(ptr::null_mut(), object.as_ptr(), Full) {
            Ok(_) => Ok(()),
            // SAFETY: Of this cache, and the slot hasn't taken it.
            Err(_) => Err(unsafe { CacheBox::from_raw(object, cache) }),
        }
    }

    #[inline]
    fn remove<'a>(&self, seen: &T, cache: &'a Cache<T>) -> Option<CacheBox<'a, T>> {
        // ORDERING: Full, as in `swap()`.
        let old = self
            .0
            .cmpxchg(ptr::from_ref(seen).cast_mut(), ptr::null_mut(), Full)
            .ok()?;
        let old = NonNull::new(old)?;
        // SAFETY: By the type invariants; the exchange has given it to this caller alone.
        Some(unsafe { CacheBox::from_raw(old, cache) })
    }
}

/// Holds a [`CacheBox`] or nothing, for readers under RCU. Its object is freed after a grace period
/// when the slot is dropped.
///
/// # Context
///
/// All methods: any, NMI included.
pub struct CacheSlot<'a, T> {
    slot: RawSlot<T>,
    cache: &'a Cache<T>,
}

// SAFETY: A slot shares its object with readers on any CPU, and moves boxes in and out.
unsafe impl<T: Send + Sync> Sync for CacheSlot<'_, T> {}
// SAFETY: As above.
unsafe impl<T: Send + Sync> Send for CacheSlot<'_, T> {}

impl<'a, T> CacheSlot<'a, T> {
    /// An empty slot for objects of `cache`.
    pub const fn new(cache: &'a Cache<T>) -> Self {
        Self {
            slot: RawSlot::new(),
            cache,
        }
    }

    /// What is there, for a reader.
    #[inline]
    pub fn load<'rcu>(&self, guard: &'rcu rcu::Guard) -> Option<&'rcu T> {
        self.slot.load(guard)
    }

    /// Stores `new` and returns the previous object. Returns `new` if it belongs to another cache.
    #[inline]
    pub fn swap(&self, new: Option<CacheBox<'a, T>>) -> Option<CacheBox<'a, T>> {
        self.slot.swap(new, self.cache)
    }

    /// Stores `new` if the slot is empty. Otherwise, or if it belongs to another cache, returns it.
    #[inline]
    pub fn put(&self, new: CacheBox<'a, T>) -> Result<(), CacheBox<'a, T>> {
        self.slot.put(new, self.cache)
    }

    /// Removes the object that [`Self::load()`] found, if it is still there.
    ///
    /// As long as the guard of `seen` lives no other can have its address.
    #[inline]
    pub fn remove(&self, seen: &T) -> Option<CacheBox<'a, T>> {
        self.slot.remove(seen, self.cache)
    }
}

impl<T> Drop for CacheSlot<'_, T> {
    fn drop(&mut self) {
        drop(self.swap(None));
    }
}

/// A cache, and slots for its objects, to build a hash table. It borrows nothing, so it can be in
/// an `Arc` or a static.
///
/// ```ignore
/// # use super::rcu_ptr::{Cache, CacheTable};
/// # use kernel::{prelude::*, sync::rcu};
/// # fn example() -> Result {
/// let table = CacheTable::new(Cache::<u64>::new(c"my_keys")?, 64)?;
/// let key = table.cache().alloc(7, GFP_KERNEL)?.share();
/// // The object that was there is freed after a grace period.
/// drop(table.swap(7 % table.len(), Some(key)));
///
/// let guard = rcu::read_lock();
/// if let Some(key) = table.load(7, &guard) {
///     pr_info!("{}\n", *key);
///     drop(table.remove(7, key));
/// }
/// # Ok(())
/// # }
/// ```
///
/// When it is dropped its objects are freed after a grace period, and then the cache goes.
///
/// # Context
///
/// All methods but [`Self::new()`]: any, NMI included. The drop may sleep.
pub struct CacheTable<T> {
    // INVARIANT: (of the slots) only boxes of `cache` are put there.
    slots: KVVec<RawSlot<T>>,
    cache: Cache<T>,
}

// SAFETY: A table shares its objects with readers on any CPU, and moves boxes in and out.
unsafe impl<T: Send + Sync> Sync for CacheTable<T> {}
// SAFETY: As above.
unsafe impl<T: Send + Sync> Send for CacheTable<T> {}

impl<T> CacheTable<T> {
    /// `len` empty slots over `cache`.
    ///
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`
    pub fn new(cache: Cache<T>, len: usize) -> Result<Self> {
        let mut slots = KVVec::with_capacity(len, GFP_KERNEL)?;
        for _ in 0..len {
            slots.push(RawSlot::new(), GFP_KERNEL)?;
        }
        Ok(Self { slots, cache })
    }

    /// The cache, for allocations.
    #[inline]
    pub fn cache(&self) -> &Cache<T> {
        &self.cache
    }

    /// The number of slots.
    #[inline]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are no slots.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The object in slot `i`, for a reader. `None` also if there is no such slot.
    #[inline]
    pub fn load<'rcu>(&self, i: usize, guard: &'rcu rcu::Guard) -> Option<&'rcu T> {
        self.slots.get(i)?.load(guard)
    }

    /// Stores `new` in slot `i` and returns the previous object. Returns `new` if it belongs to
    /// another cache, or there is no such slot.
    #[inline]
    pub fn swap<'a>(&'a self, i: usize, new: Option<CacheBox<'a, T>>) -> Option<CacheBox<'a, T>> {
        match self.slots.get(i) {
            Some(slot) => slot.swap(new, &self.cache),
            None => new,
        }
    }

    /// Stores `new` in slot `i` if that is empty. Otherwise, or if it belongs to another cache or
    /// there is no such slot, returns it.
    #[inline]
    pub fn put<'a>(&'a self, i: usize, new: CacheBox<'a, T>) -> Result<(), CacheBox<'a, T>> {
        match self.slots.get(i) {
            Some(slot) => slot.put(new, &self.cache),
            None => Err(new),
        }
    }

    /// Removes the object that [`Self::load()`] found in slot `i`, if it is still there.
    #[inline]
    pub fn remove(&self, i: usize, seen: &T) -> Option<CacheBox<'_, T>> {
        self.slots.get(i)?.remove(seen, &self.cache)
    }
}

impl<T> Drop for CacheTable<T> {
    fn drop(&mut self) {
        for i in 0..self.len() {
            drop(self.swap(i, None));
        }
    }
}
