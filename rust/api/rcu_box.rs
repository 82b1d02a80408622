// SPDX-License-Identifier: GPL-2.0

//! A box whose object is dropped after a grace period, wherever the box itself is dropped.

use super::{
    foreign::ForeignOwnableRcu,
    storage::{KvFree, Storage},
    sys,
};
use core::{
    convert::Infallible,
    marker::PhantomData,
    mem::{needs_drop, ManuallyDrop},
    ops::Deref,
    ptr::{self, NonNull},
};
use kernel::{
    alloc::{
        allocator::{KVmalloc, Kmalloc, Vmalloc},
        Flags,
    },
    prelude::*,
    sync::rcu,
    types::ForeignOwnable,
};
use pin_init::{raw_init, raw_try_init};

/// The context of destructors and closures after the grace period: [`BhOff`] or [`MaySleep`].
///
/// ```ignore
/// # use super::rcu_ptr::{BhOff, CallbackContext, KvFree, MaySleep, RcuBox};
/// # use kernel::{alloc::allocator::{Kmalloc, Vmalloc}, prelude::*};
/// fn boxed<A: KvFree, C: CallbackContext>(key: u64) -> Result<RcuBox<u64, A, C>> {
///     RcuBox::new(key, GFP_KERNEL)
/// }
///
/// # fn example() -> Result {
/// drop(boxed::<Kmalloc, BhOff>(1)?);
/// drop(boxed::<Vmalloc, MaySleep>(2)?);
/// # Ok(())
/// # }
/// ```
pub trait CallbackContext: sealed::CallbackContext {}
impl<C: sealed::CallbackContext> CallbackContext for C {}

mod sealed {
    pub trait CallbackContext: 'static {
        const MAY_SLEEP: bool;
    }
}

/// With BH disabled and interrupts on, as callbacks of call_rcu() run (`rcu_ptr_call()`): no
/// sleeping, but memory of any kind may be freed, references put, and spinlocks taken that
/// interrupts don't take.
pub struct BhOff;

impl sealed::CallbackContext for BhOff {
    const MAY_SLEEP: bool = false;
}

/// In process context, where sleeping is allowed (`rcu_ptr_call_sleepable()`).
pub struct MaySleep;

impl sealed::CallbackContext for MaySleep {
    const MAY_SLEEP: bool = true;
}

/// Owns a pinned `T`, which is dropped after a grace period when the box is dropped.
///
/// `T`'s destructor runs in a worker, as `C` says. It may drop other boxes, which then wait for a
/// grace period of their own. A `T` without a destructor takes 8 bytes and no callback, one with a
/// destructor 16 bytes.
///
/// A module is unloaded when the destructors of its boxes have returned. A box that is forgotten is
/// leaked.
///
/// ```ignore
/// # use super::rcu_ptr::RcuKBox;
/// # use kernel::{prelude::*, sync::rcu};
/// struct Entry {
///     key: u64,
///     path: KVec<u8>,
/// }
///
/// # fn example(path: KVec<u8>) -> Result {
/// let entry = RcuKBox::<Entry>::new(Entry { key: 1, path }, GFP_KERNEL)?;
/// let guard = rcu::read_lock();
/// let seen = entry.with_rcu(&guard);
/// // In any context, NMI too. `path` is freed after the grace period.
/// drop(entry);
/// pr_info!("{}\n", seen.path.len());
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
/// The pointer is a live, pinned `T` in a `Storage`, owned by the box. References to it are shared
/// ones only.
pub struct RcuBox<T: Send + 'static, A: KvFree = Kmalloc, C: CallbackContext = BhOff>(
    NonNull<T>,
    PhantomData<(T, A, C)>,
);

/// An [`RcuBox`] of kmalloc().
pub type RcuKBox<T> = RcuBox<T, Kmalloc>;
/// An [`RcuBox`] of vmalloc(), as [`RcuKBox`] otherwise.
pub type RcuVBox<T> = RcuBox<T, Vmalloc>;
/// An [`RcuBox`] of kvmalloc(): for objects that may be large, by an initializer if the stack can't
/// hold them.
///
/// ```ignore
/// # use super::rcu_ptr::{RcuKVBox, RcuVBox};
/// # use kernel::prelude::*;
/// # fn example() -> Result {
/// let init = pin_init::init_array_from_fn(|i| i as u64);
/// let large = RcuKVBox::<[u64; 20_000]>::new(init, GFP_KERNEL)?;
/// let init = pin_init::init_array_from_fn(|i| i as u64);
/// let pages = RcuVBox::<[u64; 1000]>::new(init, GFP_KERNEL)?;
/// pr_info!("{}\n", large[7] + pages[8]);
/// # Ok(())
/// # }
/// ```
pub type RcuKVBox<T> = RcuBox<T, KVmalloc>;
/// An [`RcuBox`] whose object is dropped in process context, where its destructor may sleep.
///
/// ```ignore
/// # use super::rcu_ptr::{RcuBox, RcuSleepBox};
/// # use kernel::{prelude::*, time::{delay::fsleep, Delta}};
/// struct Device;
///
/// impl Drop for Device {
///     fn drop(&mut self) {
///         fsleep(Delta::from_millis(1));
///     }
/// }
///
/// # fn example() -> Result {
/// let device: RcuSleepBox<Device> = RcuBox::new(Device, GFP_KERNEL)?;
/// // In any context.
/// drop(device);
/// # Ok(())
/// # }
/// ```
pub type RcuSleepBox<T, A = Kmalloc> = RcuBox<T, A, MaySleep>;

// SAFETY: The box owns its `T`, and may be dropped anywhere. References that readers hold past that
// are why `T` has to be `Sync` too.
unsafe impl<T: Send + Sync, A: KvFree, C: CallbackContext> Send for RcuBox<T, A, C> {}
// SAFETY: Only `&T` is handed out.
unsafe impl<T: Send + Sync, A: KvFree, C: CallbackContext> Sync for RcuBox<T, A, C> {}

impl<T: Send, A: KvFree, C: CallbackContext> RcuBox<T, A, C> {
    /// Allocates a `T` and initialises it: `init` is a value or an initializer.
    ///
    /// # Context
    ///
    /// As `flags` say.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or what `init` failed with.
    pub fn new<E>(init: impl PinInit<T, E>, flags: Flags) -> Result<Self>
    where
        Error: From<E>,
    {
        let object = Storage::<T, A>::alloc(flags)?;
        // SAFETY: Fresh memory, large enough and aligned for a `T`, which stays where it is.
        if let Err(error) = unsafe { raw_try_init(object.as_ptr(), init) } {
            // SAFETY: Allocated above, and what was initialised of it has been dropped by `init`.
            unsafe { Storage::<T, A>::free(object) };
            return Err(error.into());
        }
        // INVARIANT: A live, pinned `T`, owned by the box.
        Ok(Self(object, PhantomData))
    }

    /// The object, for a reader: the reference may outlive the box, but not the guard.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    #[inline]
    pub fn with_rcu<'rcu>(&self, _guard: &'rcu rcu::Guard) -> &'rcu T {
        // SAFETY: By the type invariants the object lives now; when the box is dropped it goes only
        // after the guard's read-side critical section.
        unsafe { self.0.as_ref() }
    }

    /// Gives up ownership. The pointer is that of the object.
    #[inline]
    pub(super) fn into_raw(self) -> NonNull<T> {
        ManuallyDrop::new(self).0
    }
}

impl<T: Send, C: CallbackContext> RcuBox<T, Kmalloc, C> {
    /// Allocates a `T` with kmalloc_nolock() and initialises it. Where there is no memory, or the
    /// allocator's lock is not free, `init` is returned.
    ///
    /// # Context
    ///
    /// Any, NMI included; `init` must be safe there. On PREEMPT_RT there never is memory in
    /// hardirq and NMI, and neither the lock of a run queue nor a `pi_lock` may be held: a
    /// [`Cache`](super::Cache) has memory in all of these.
    ///
    /// # Errors
    ///
    /// `init` itself. An NMI handler that cannot do without the object drops the event, or keeps a
    /// spare object.
    #[inline]
    pub fn new_nolock<I: PinInit<T, Infallible>>(init: I) -> Result<Self, I> {
        let Some(object) = Storage::<T, Kmalloc>::alloc_nolock() else {
            return Err(init);
        };
        // SAFETY: Fresh memory, large enough and aligned for a `T`, which stays where it is.
        unsafe { raw_init(object.as_ptr(), init) };
        // INVARIANT: A live, pinned `T`, owned by the box.
        Ok(Self(object, PhantomData))
    }
}

impl<T: Send, A: KvFree, C: CallbackContext> Deref for RcuBox<T, A, C> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: By the type invariants.
        unsafe { self.0.as_ref() }
    }
}

impl<T: Send, A: KvFree, C: CallbackContext> Drop for RcuBox<T, A, C> {
    #[inline]
    fn drop(&mut self) {
        if needs_drop::<T>() {
            // SAFETY: By the type invariants; it has a destructor. A `T` is `Send` and borrows
            // nothing, so it may be dropped in the worker at any later time.
            unsafe { Storage::<T, A>::call(self.0, C::MAY_SLEEP, reclaim::<T, A>) };
        } else {
            // SAFETY: By the type invariants.
            unsafe { Storage::<T, A>::free_after_gp(self.0) };
        }
    }
}

/// Drops an object after its grace period, and frees its memory.
///
/// # Safety
///
/// As `func` of [`Storage::call()`] is called; the object has no readers.
pub(super) unsafe extern "C" fn reclaim<T, A: KvFree>(head: *mut sys::core::Head) {
    // SAFETY: By the safety requirements of this function.
    let object = unsafe { Storage::<T, A>::of_head(head) };
    // SAFETY: Live, and only the caller has access: the box is gone, and all readers that found the
    // object under RCU have left their critical sections.
    unsafe { ptr::drop_in_place(object.as_ptr()) };
    // SAFETY: As above.
    unsafe { Storage::<T, A>::free(object) };
}

// SAFETY: The pointer is that of the object, which is so aligned and never null.
unsafe impl<T: Send, A: KvFree, C: CallbackContext> ForeignOwnable for RcuBox<T, A, C> {
    const FOREIGN_ALIGN: usize = Storage::<T, A>::ALIGN;

    type Borrowed<'a> = &'a T;
    // Readers may have references to it at any time.
    type BorrowedMut<'a> = &'a T;

    #[inline]
    fn into_foreign(self) -> *mut c_void {
        self.into_raw().as_ptr().cast()
    }

    #[inline]
    unsafe fn from_foreign(ptr: *mut c_void) -> Self {
        // INVARIANT: From `into_foreign()`, used once, by the safety requirements of this function.
        // SAFETY: As above: never null.
        Self(unsafe { NonNull::new_unchecked(ptr.cast()) }, PhantomData)
    }

    #[inline]
    unsafe fn borrow<'a>(ptr: *mut c_void) -> &'a T {
        // SAFETY: By the safety requirements of this function it is live, and only shared
        // references to it are handed out.
        unsafe { &*ptr.cast() }
    }

    #[inline]
    unsafe fn borrow_mut<'a>(ptr: *mut c_void) -> &'a T {
        // SAFETY: As above.
        unsafe { &*ptr.cast() }
    }
}

// SAFETY: A box that is dropped keeps its object for a grace period.
unsafe impl<T: Send, A: KvFree, C: CallbackContext> ForeignOwnableRcu for RcuBox<T, A, C> {
    type RcuBorrowed<'rcu> = &'rcu T;

    #[inline]
    unsafe fn rcu_borrow<'rcu>(ptr: *mut c_void, _guard: &'rcu rcu::Guard) -> &'rcu T
    where
        Self: 'rcu,
    {
        // SAFETY: By the safety requirements of this function it lives as long as the guard.
        unsafe { &*ptr.cast() }
    }

    #[inline]
    fn address(seen: &&T) -> *mut c_void {
        ptr::from_ref(*seen).cast_mut().cast()
    }
}
