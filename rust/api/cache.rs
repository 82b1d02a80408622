// SPDX-License-Identifier: GPL-2.0

//! Caches of one type, whose objects are allocated and freed in any context, NMI included, and
//! dropped in place after a grace period. `cache_slot.rs` has the places where readers find them.
//!
//! ```ignore
//! # use super::rcu_ptr::{Cache, CacheSlot};
//! # use kernel::prelude::*;
//! # struct Entry { key: u64 }
//! # fn example() -> Result {
//! let cache = Cache::<Entry>::new(c"my_entries")?;
//! cache.prefill(1000)?;
//! let slot = CacheSlot::new(&cache);
//!
//! // In NMI:
//! if let Ok(entry) = cache.alloc_nolock(Entry { key: 1 }) {
//!     // The entry that was there may be allocated again after a grace period.
//!     drop(slot.swap(Some(entry.share())));
//! }
//! # Ok(())
//! # }
//! ```

use super::sys::cache::{gfp, Args, Limits, ObjectFn, SheafCache};
use core::{
    marker::PhantomData,
    mem::{needs_drop, ManuallyDrop},
    ops::{Deref, DerefMut},
    ptr::{self, NonNull},
};
use kernel::{alloc::Flags, prelude::*};

/// Limits that may be changed while a cache is in use (`struct rcu_ptr_cache_limits`). 0 is the
/// default of each.
///
/// ```ignore
/// # use super::rcu_ptr::{Cache, CacheLimits};
/// # use kernel::prelude::*;
/// # fn example(cache: &Cache<u64>) -> Result {
/// cache.set_limits(CacheLimits { wait_limit: 1 << 20, ..CacheLimits::default() })?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Default)]
pub struct CacheLimits {
    /// Objects in a sheaf, at most 56.
    pub sheaf_capacity: u32,
    /// Full sheaves that a node keeps, at most 65536.
    pub barn_limit: u32,
    /// Bytes of objects that may wait for a grace period or a destructor. When the limit is
    /// reached, [`Cache::alloc()`] waits for a grace period, and fails if it is still reached.
    /// Other allocations fail immediately, except for [prefilled](Cache::prefill()) objects.
    pub wait_limit: usize,
}

/// A cache of `T` (`rcu_ptr_cache_create()`).
///
/// A `T` that was shared is dropped in place, once, after a grace period and before its memory is
/// allocated again. Its destructor runs in process context: in a worker, or in a caller of
/// [`barrier()`](super::barrier()), [`Cache::barrier()`] or the cache's own drop. It may sleep for
/// a short time, drop boxes of any kind, of this cache too, and not wait for any of these.
///
/// Boxes borrow the cache, so it outlives them. Its drop may sleep: it waits for the grace periods
/// of freed objects, and for their destructors.
pub struct Cache<T> {
    raw: SheafCache,
    // Invariant in `T`: what is put in later has to live as long as what `new()` asked for.
    _objects: PhantomData<fn(T) -> T>,
}

// SAFETY: Objects may be freed on other CPUs than they were allocated on.
unsafe impl<T: Send> Send for Cache<T> {}
// SAFETY: As above.
unsafe impl<T: Send> Sync for Cache<T> {}

/// Drops an object after its grace period.
///
/// # Safety
///
/// `object` is a `T` that was freed into its cache, and is the caller's alone.
unsafe extern "C" fn destroy<T>(object: *mut c_void) {
    // SAFETY: By the safety requirements of this function.
    unsafe { ptr::drop_in_place(object.cast::<T>()) };
}

impl<T: Send + 'static> Cache<T> {
    /// Creates a cache; `name` is shown in /proc/slabinfo.
    ///
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a `T` of more than 4088 bytes, `ENOMEM`.
    pub fn new(name: &CStr) -> Result<Self> {
        let args = Args {
            align: align_of::<T>().max(align_of::<u64>()) as c_uint,
            dtor: needs_drop::<T>().then_some(destroy::<T> as ObjectFn),
            ..Args::default()
        };
        Ok(Self {
            // SAFETY: Only objects that are a `T` are freed into it. A `T` is `Send` and borrows
            // nothing, so it may be dropped in another task, whenever that is.
            raw: unsafe { SheafCache::create(name, size_of::<T>().max(1), args, 0) }?,
            _objects: PhantomData,
        })
    }
}

impl<T> Cache<T> {
    /// Waits until all objects that were freed before the call have been dropped and can be
    /// allocated again (`rcu_ptr_cache_barrier()`). Takes about a grace period, independent of
    /// other caches.
    ///
    /// # Context
    ///
    /// May sleep; not in a destructor of a `T`.
    pub fn barrier(&self) {
        self.raw.barrier();
    }

    /// Changes the limits (`rcu_ptr_cache_set_limits()`).
    ///
    /// # Context
    ///
    /// Task or softirq.
    ///
    /// # Errors
    ///
    /// `EINVAL` if one is too large; then none is changed.
    pub fn set_limits(&self, limits: CacheLimits) -> Result {
        self.raw.set_limits(&Limits {
            sheaf_capacity: limits.sheaf_capacity,
            barn_limit: limits.barn_limit,
            wait_limit: limits.wait_limit,
        })
    }

    /// Adds `objects` to the reserve of [`Cache::alloc_nolock()`] (`rcu_ptr_cache_prefill()`).
    ///
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`
    pub fn prefill(&self, objects: u32) -> Result {
        self.raw.prefill(objects as usize)
    }

    /// Allocates an object and moves `value` there; without memory `value` is dropped.
    ///
    /// # Context
    ///
    /// As `flags` say; never NMI. `GFP_ATOMIC`: not in hardirq on PREEMPT_RT.
    ///
    /// # Errors
    ///
    /// `ENOMEM`
    #[inline]
    pub fn alloc(&self, value: T, flags: Flags) -> Result<UniqueCacheBox<'_, T>> {
        let object = self.raw.alloc_with(gfp(flags));
        // SAFETY: A fresh object of this cache, or none.
        unsafe { self.fill(object, value) }.map_err(|_| ENOMEM)
    }

    /// Allocates an object and moves `value` there, or returns `value` if no object is available.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    #[inline]
    pub fn alloc_nolock(&self, value: T) -> Result<UniqueCacheBox<'_, T>, T> {
        // SAFETY: A fresh object of this cache, or none.
        unsafe { self.fill(self.raw.alloc_nolock(), value) }
    }

    /// # Safety
    ///
    /// `object` is a fresh object of this cache.
    #[inline]
    unsafe fn fill(
        &self,
        object: Option<NonNull<u8>>,
        value: T,
    ) -> Result<UniqueCacheBox<'_, T>, T> {
        let Some(object) = object.map(NonNull::cast::<T>) else {
            return Err(value);
        };
        // SAFETY: By the safety requirements of this function, large enough and aligned for a `T`.
        unsafe { object.write(value) };
        // INVARIANT: Initialised just now, and not shared.
        Ok(UniqueCacheBox {
            object,
            cache: self,
        })
    }
}

/// Owns an object that has not been published. When it is dropped the object is freed: immediately,
/// unless a `T` has a destructor, which runs later in process context.
///
/// ```ignore
/// # use super::rcu_ptr::{Cache, CacheBox, UniqueCacheBox};
/// # use kernel::prelude::*;
/// # fn example(cache: &Cache<u64>) -> Result {
/// let mut key: UniqueCacheBox<'_, u64> = cache.alloc(1, GFP_KERNEL)?;
/// *key += 1;
/// let key: CacheBox<'_, u64> = key.share();
/// // For readers from here on: freed after a grace period.
/// drop(key);
/// # Ok(())
/// # }
/// ```
///
/// # Context
///
/// May be dropped anywhere, in NMI too.
///
/// # Invariants
///
/// `object` is a live `T` of `cache`, owned, and reached through this box only.
pub struct UniqueCacheBox<'a, T> {
    object: NonNull<T>,
    cache: &'a Cache<T>,
}

// SAFETY: The box owns its `T`.
unsafe impl<T: Send> Send for UniqueCacheBox<'_, T> {}
// SAFETY: Only `&T` is handed out by a shared box.
unsafe impl<T: Send + Sync> Sync for UniqueCacheBox<'_, T> {}

impl<'a, T> UniqueCacheBox<'a, T> {
    /// Allows readers to see it: it is freed after a grace period.
    #[inline]
    pub fn share(self) -> CacheBox<'a, T> {
        let this = ManuallyDrop::new(self);
        // INVARIANT: By the type invariants.
        CacheBox {
            object: this.object,
            cache: this.cache,
        }
    }
}

impl<T> Deref for UniqueCacheBox<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: By the type invariants.
        unsafe { self.object.as_ref() }
    }
}

impl<T> DerefMut for UniqueCacheBox<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: By the type invariants; exclusively owned.
        unsafe { self.object.as_mut() }
    }
}

impl<T> Drop for UniqueCacheBox<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { self.cache.raw.free(self.object.cast()) };
    }
}

/// Owns an object that readers may access. When the box is dropped, the object is dropped and freed
/// after a grace period.
///
/// # Context
///
/// May be dropped anywhere, in NMI too.
///
/// # Invariants
///
/// `object` is a live `T` of `cache`, owned. References to it are shared ones only.
pub struct CacheBox<'a, T> {
    object: NonNull<T>,
    cache: &'a Cache<T>,
}

// SAFETY: The box owns its `T`. References that readers hold past that are why `T` has to be `Sync`
// too.
unsafe impl<T: Send + Sync> Send for CacheBox<'_, T> {}
// SAFETY: Only `&T` is handed out.
unsafe impl<T: Send + Sync> Sync for CacheBox<'_, T> {}

impl<'a, T> CacheBox<'a, T> {
    /// Whether it belongs to `cache`.
    pub(super) fn is_of(&self, cache: &Cache<T>) -> bool {
        ptr::eq(self.cache, cache)
    }

    /// The object, for [`CacheBox::from_raw()`].
    pub(super) fn into_raw(self) -> NonNull<T> {
        ManuallyDrop::new(self).object
    }

    /// The box that [`CacheBox::into_raw()`] was called of.
    ///
    /// # Safety
    ///
    /// `object` is from there, of a box of `cache`, and used once.
    pub(super) unsafe fn from_raw(object: NonNull<T>, cache: &'a Cache<T>) -> Self {
        // INVARIANT: By the safety requirements of this function.
        Self { object, cache }
    }
}

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
        unsafe { self.cache.raw.free_rcu(self.object.cast()) };
    }
}
