// SPDX-License-Identifier: GPL-2.0

//! Caches of one type, whose objects are allocated and freed in any context, NMI included.
//!
//! ```ignore
//! let cache = Cache::<Entry>::new(c"my_entries")?;
//! cache.prefill(1000)?;
//! let slot = CacheSlot::new(&cache);
//!
//! // In NMI:
//! if let Ok(entry) = cache.alloc_nolock(Entry { key: 1 }) {
//!     // The entry that was there is given out again when no reader can have it any more.
//!     drop(slot.swap(Some(entry.share())));
//! }
//! ```

use super::sys::cache::RawCache;
use core::{
    marker::PhantomData,
    mem::{needs_drop, ManuallyDrop},
    ops::{Deref, DerefMut},
    ptr::{self, NonNull},
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full},
        rcu,
    },
};

/// A cache of `T` (`rcu_ptr_cache_create()`). A `T` that needs a destructor does not compile.
///
/// Boxes borrow it, so it outlives them. Its drop may sleep, and waits for objects on their way
/// through a grace period.
pub(crate) struct Cache<T> {
    raw: RawCache,
    _objects: PhantomData<T>,
}

// SAFETY: Objects move between CPUs through it.
unsafe impl<T: Send> Send for Cache<T> {}
// SAFETY: As above.
unsafe impl<T: Send> Sync for Cache<T> {}

impl<T> Cache<T> {
    const PLAIN: () = assert!(
        !needs_drop::<T>() && size_of::<T>() != 0,
        "objects of a Cache are given out again without a destructor"
    );

    /// A cache called `name`, as /proc/slabinfo shows it.
    ///
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a `T` of more than 4088 bytes, `ENOMEM`.
    pub(crate) fn new(name: &CStr) -> Result<Self> {
        let () = Self::PLAIN;
        let align = align_of::<T>().max(align_of::<u64>());
        Ok(Self {
            raw: RawCache::new(name, size_of::<T>(), align)?,
            _objects: PhantomData,
        })
    }

    /// Has `objects` more at hand from now on (`rcu_ptr_cache_prefill()`), for
    /// [`Cache::alloc_nolock()`].
    ///
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`
    pub(crate) fn prefill(&self, objects: u32) -> Result {
        self.raw.prefill(objects)
    }

    /// Puts `value` into a new object.
    ///
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`
    #[inline]
    pub(crate) fn alloc(&self, value: T) -> Result<NewBox<'_, T>> {
        // SAFETY: A fresh object of this cache, or null.
        unsafe { self.fill(self.raw.alloc(), value) }.map_err(|_| ENOMEM)
    }

    /// Puts `value` into a new object, or gives it back where there is no memory.
    ///
    /// # Context
    ///
    /// That of `GFP_ATOMIC`: softirq and hardirq too, but on PREEMPT_RT.
    #[inline]
    pub(crate) fn alloc_atomic(&self, value: T) -> Result<NewBox<'_, T>, T> {
        // SAFETY: A fresh object of this cache, or null.
        unsafe { self.fill(self.raw.alloc_atomic(), value) }
    }

    /// Puts `value` into a new object, or gives it back where none is at hand.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    #[inline]
    pub(crate) fn alloc_nolock(&self, value: T) -> Result<NewBox<'_, T>, T> {
        // SAFETY: A fresh object of this cache, or null.
        unsafe { self.fill(self.raw.alloc_nolock(), value) }
    }

    /// # Safety
    ///
    /// `object` is null, or a fresh object of this cache.
    #[inline]
    unsafe fn fill(&self, object: *mut u8, value: T) -> Result<NewBox<'_, T>, T> {
        let Some(object) = NonNull::new(object.cast::<T>()) else {
            return Err(value);
        };
        // SAFETY: By the safety requirements of this function, large enough and aligned for a `T`.
        unsafe { object.write(value) };
        // INVARIANT: Initialised just now, and nobody else knows it.
        Ok(NewBox {
            object,
            cache: self,
        })
    }
}

/// Owns an object that nobody else has seen: given back at once when it is dropped.
///
/// # Context
///
/// May be dropped anywhere, in NMI too.
///
/// # Invariants
///
/// `object` is a live `T` of `cache`, owned, and reached through this box only.
pub(crate) struct NewBox<'a, T> {
    object: NonNull<T>,
    cache: &'a Cache<T>,
}

// SAFETY: The box owns its `T`.
unsafe impl<T: Send> Send for NewBox<'_, T> {}
// SAFETY: Only `&T` is handed out by a shared box.
unsafe impl<T: Send + Sync> Sync for NewBox<'_, T> {}

impl<'a, T> NewBox<'a, T> {
    /// From now on readers may see it: it is freed after a grace period.
    #[inline]
    pub(crate) fn share(self) -> CacheBox<'a, T> {
        let this = ManuallyDrop::new(self);
        // INVARIANT: By the type invariants.
        CacheBox {
            object: this.object,
            cache: this.cache,
        }
    }
}

impl<T> Deref for NewBox<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: By the type invariants.
        unsafe { self.object.as_ref() }
    }
}

impl<T> DerefMut for NewBox<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: By the type invariants; nobody else has it.
        unsafe { self.object.as_mut() }
    }
}

impl<T> Drop for NewBox<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { self.cache.raw.free(self.object.as_ptr().cast()) };
    }
}

/// Owns an object that readers may look at: given back after a grace period when it is dropped.
///
/// # Context
///
/// May be dropped anywhere, in NMI too.
///
/// # Invariants
///
/// `object` is a live `T` of `cache`, owned. References to it are shared ones only.
pub(crate) struct CacheBox<'a, T> {
    object: NonNull<T>,
    cache: &'a Cache<T>,
}

// SAFETY: The box owns its `T`. References that readers hold past that are why `T` has to be `Sync`
// too.
unsafe impl<T: Send + Sync> Send for CacheBox<'_, T> {}
// SAFETY: Only `&T` is handed out.
unsafe impl<T: Send + Sync> Sync for CacheBox<'_, T> {}

impl<T> Deref for CacheBox<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: By the type invariants.
        unsafe { self.object.as_ref() }
    }
}

impl<T> Drop for CacheBox<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { self.cache.raw.free_rcu(self.object.as_ptr().cast()) };
    }
}

/// Holds a [`CacheBox`] or nothing; readers look into it under RCU.
///
/// # Invariants
///
/// The pointer is null or that of a [`CacheBox`] of `cache`, owned by the slot.
pub(crate) struct CacheSlot<'a, T> {
    object: Atomic<*mut T>,
    cache: &'a Cache<T>,
}

// SAFETY: A slot shares its object with readers on any CPU, and moves boxes in and out.
unsafe impl<T: Send + Sync> Sync for CacheSlot<'_, T> {}
// SAFETY: As above.
unsafe impl<T: Send + Sync> Send for CacheSlot<'_, T> {}

impl<'a, T> CacheSlot<'a, T> {
    /// An empty slot for objects of `cache`.
    pub(crate) const fn new(cache: &'a Cache<T>) -> Self {
        Self {
            object: Atomic::new(ptr::null_mut()),
            cache,
        }
    }

    /// What is there, for a reader.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    #[inline]
    pub(crate) fn load<'rcu>(&self, _guard: &'rcu rcu::Guard) -> Option<&'rcu T> {
        // ORDERING: Acquire pairs with the full exchange in `swap()`: the object is seen as it was
        // when it was put there.
        let object = NonNull::new(self.object.load(Acquire))?;
        // SAFETY: By the type invariants it was live when it was loaded, inside the guard's
        // read-side critical section; who takes it out frees it after a grace period, which the
        // end of the cache waits for too.
        Some(unsafe { object.as_ref() })
    }

    /// Puts `new` there and takes out what was. Gives `new` back if it is of another cache.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    #[inline]
    pub(crate) fn swap(&self, new: Option<CacheBox<'a, T>>) -> Option<CacheBox<'a, T>> {
        if let Some(other) = &new {
            if !ptr::eq(other.cache, self.cache) {
                return new;
            }
        }
        let new = new.map_or(ptr::null_mut(), |b| ManuallyDrop::new(b).object.as_ptr());
        // ORDERING: Full: the object is initialised before readers see it (pairs with `load()`),
        // and out of their sight before it is freed.
        let object = NonNull::new(self.object.xchg(new, Full))?;
        // INVARIANT: By the type invariants; the exchange has given it to this caller alone.
        Some(CacheBox {
            object,
            cache: self.cache,
        })
    }
}

impl<T> Drop for CacheSlot<'_, T> {
    fn drop(&mut self) {
        drop(self.swap(None));
    }
}
