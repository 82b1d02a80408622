// SPDX-License-Identifier: GPL-2.0

//! A box that drops its contents immediately, and frees its memory after a grace period.

use super::{
    foreign::ForeignOwnableRcu,
    storage::{KvFree, Storage},
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

/// What an [`RcuFreeBox`] owns: `Self`, which readers never see, and a view, which they do.
///
/// ```ignore
/// # use super::rcu_ptr::{RcuFreeKBox, RcuFreeSafe};
/// # use kernel::{prelude::*, sync::atomic::{Atomic, Relaxed}};
/// # type Request = u64;
/// struct Queue {
///     waiting: KVec<Request>,
/// }
///
/// struct QueueView {
///     id: u32,
///     closed: Atomic<u32>,
/// }
///
/// impl RcuFreeSafe for Queue {
///     type View = QueueView;
///
///     fn drop_before_gp(self: Pin<&mut Self>, view: Pin<&QueueView>) {
///         view.closed.store(1, Relaxed);
///     }
/// }
///
/// # fn example(waiting: KVec<Request>) -> Result {
/// let queue = RcuFreeKBox::new(
///     QueueView { id: 1, closed: Atomic::new(0) },
///     Queue { waiting },
///     GFP_KERNEL,
/// )?;
/// // `closed` is set, `waiting` dropped; readers that still have the view find it intact.
/// drop(queue);
/// # Ok(())
/// # }
/// ```
pub trait RcuFreeSafe: Sized {
    /// The part that readers may access until the grace period ends. It is never dropped: a type
    /// that needs a destructor does not compile.
    type View;

    /// Called once, when the box is dropped, before the grace period. Then `self` is dropped.
    ///
    /// # Context
    ///
    /// That of the drop of the box, in which this and the destructor of `Self` must be safe.
    fn drop_before_gp(self: Pin<&mut Self>, view: Pin<&Self::View>);
}

/// The contents of an [`RcuFreeBox`]: it derefs to the part of the owner, and has the view.
#[repr(C)]
pub struct RcuFree<T: RcuFreeSafe> {
    // First: its address is that of the object.
    view: T::View,
    owned: ManuallyDrop<T>,
}

impl<T: RcuFreeSafe> RcuFree<T> {
    /// The part that readers see.
    #[inline]
    pub fn view(&self) -> &T::View {
        &self.view
    }
}

impl<T: RcuFreeSafe> Deref for RcuFree<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.owned
    }
}

/// Owns a `T` and its view, both pinned. When it is dropped, [`RcuFreeSafe::drop_before_gp()`] and
/// the destructor of `T` run at once; the view stays for readers, and the memory is freed after a
/// grace period (`rcu_ptr_kfree_nolock()`). Takes 8 bytes; no code of the module runs after the
/// drop.
///
/// # Context
///
/// May be dropped anywhere, in NMI too, if `T` may.
///
/// # Invariants
///
/// The pointer is a live, pinned `RcuFree<T>` in a `Storage`, owned by the box. References that
/// others have are shared ones to its view.
pub struct RcuFreeBox<T: RcuFreeSafe, A: KvFree = Kmalloc>(
    NonNull<RcuFree<T>>,
    PhantomData<(T, A)>,
);

/// An [`RcuFreeBox`] of kmalloc().
pub type RcuFreeKBox<T> = RcuFreeBox<T, Kmalloc>;
/// An [`RcuFreeBox`] of vmalloc().
pub type RcuFreeVBox<T> = RcuFreeBox<T, Vmalloc>;
/// An [`RcuFreeBox`] of kvmalloc(): for objects that may be large, by an initializer if the stack
/// can't hold them.
pub type RcuFreeKVBox<T> = RcuFreeBox<T, KVmalloc>;

// SAFETY: The box owns both, and memory may be freed from anywhere. References that readers hold
// past that are why the view has to be `Sync` too.
unsafe impl<T: RcuFreeSafe + Send, A: KvFree> Send for RcuFreeBox<T, A> where T::View: Send + Sync {}
// SAFETY: Only shared references are handed out by a shared box.
unsafe impl<T: RcuFreeSafe + Sync, A: KvFree> Sync for RcuFreeBox<T, A> where T::View: Send + Sync {}

impl<T: RcuFreeSafe, A: KvFree> RcuFreeBox<T, A> {
    const PLAIN_VIEW: () = assert!(
        !needs_drop::<T::View>(),
        "the view of an RcuFreeBox is never dropped: what owns something belongs to what readers don't see, or into an RcuBox"
    );

    /// Allocates memory and initialises the view, then the part of the owner.
    ///
    /// # Context
    ///
    /// As `flags` say.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or what an initializer failed with.
    pub fn new<E, F>(
        view: impl PinInit<T::View, E>,
        owned: impl PinInit<T, F>,
        flags: Flags,
    ) -> Result<Self>
    where
        Error: From<E> + From<F>,
    {
        let () = Self::PLAIN_VIEW;
        let object = Storage::<RcuFree<T>, A>::alloc(flags)?;
        let parts = object.as_ptr();
        // SAFETY: Fresh memory, large enough and aligned for both, which stay where they are.
        let done = unsafe { raw_try_init(&raw mut (*parts).view, view) }
            .map_err(Error::from)
            // SAFETY: As above; `ManuallyDrop<T>` is laid out as `T` is.
            .and_then(|()| unsafe {
                raw_try_init((&raw mut (*parts).owned).cast::<T>(), owned).map_err(Error::from)
            });
        if let Err(error) = done {
            // SAFETY: Allocated above; a view has no destructor.
            unsafe { Storage::<RcuFree<T>, A>::free(object) };
            return Err(error);
        }
        // INVARIANT: Both live and pinned, owned by the box.
        Ok(Self(object, PhantomData))
    }

    /// The view, for a reader: the reference may outlive the box, but not the guard.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    #[inline]
    pub fn with_rcu<'rcu>(&self, _guard: &'rcu rcu::Guard) -> &'rcu T::View {
        // SAFETY: By the type invariants it lives now; when the box is dropped its memory is freed
        // only after the guard's read-side critical section.
        unsafe { &(*self.0.as_ptr()).view }
    }

    /// The part of the owner, mutable.
    #[inline]
    pub fn owned_mut(&mut self) -> Pin<&mut T> {
        // SAFETY: By the type invariants it is live and pinned, and there is no other reference to
        // this part.
        unsafe { Pin::new_unchecked(&mut *(&raw mut (*self.0.as_ptr()).owned).cast::<T>()) }
    }
}

impl<T: RcuFreeSafe> RcuFreeBox<T, Kmalloc> {
    /// As [`RcuFreeBox::new()`], with kmalloc_nolock(). Where there is no memory, or the
    /// allocator's lock is not free, the initializers are returned.
    ///
    /// # Context
    ///
    /// Any, NMI included; the initializers must be safe there. On PREEMPT_RT there never is
    /// memory in hardirq and NMI, and neither the lock of a run queue nor a `pi_lock` may be held.
    ///
    /// # Errors
    ///
    /// The initializers.
    #[inline]
    pub fn new_nolock<V, I>(view: V, owned: I) -> Result<Self, (V, I)>
    where
        V: PinInit<T::View, Infallible>,
        I: PinInit<T, Infallible>,
    {
        let () = Self::PLAIN_VIEW;
        let Some(object) = Storage::<RcuFree<T>, Kmalloc>::alloc_nolock() else {
            return Err((view, owned));
        };
        let parts = object.as_ptr();
        // SAFETY: Fresh memory, large enough and aligned for both, which stay where they are.
        unsafe { raw_init(&raw mut (*parts).view, view) };
        // SAFETY: As above; `ManuallyDrop<T>` is laid out as `T` is.
        unsafe { raw_init((&raw mut (*parts).owned).cast::<T>(), owned) };
        // INVARIANT: Both live and pinned, owned by the box.
        Ok(Self(object, PhantomData))
    }
}

impl<T: RcuFreeSafe, A: KvFree> Deref for RcuFreeBox<T, A> {
    type Target = RcuFree<T>;

    #[inline]
    fn deref(&self) -> &RcuFree<T> {
        // SAFETY: By the type invariants.
        unsafe { self.0.as_ref() }
    }
}

impl<T: RcuFreeSafe, A: KvFree> Drop for RcuFreeBox<T, A> {
    #[inline]
    fn drop(&mut self) {
        let parts = self.0.as_ptr();
        // SAFETY: By the type invariants it is live and pinned; of this part there are shared
        // references only.
        let view = unsafe { Pin::new_unchecked(&(*parts).view) };
        self.owned_mut().drop_before_gp(view);
        // SAFETY: Live, pinned up to here, and not used any more: readers have the view only.
        unsafe { ptr::drop_in_place((&raw mut (*parts).owned).cast::<T>()) };
        // SAFETY: By the type invariants.
        unsafe { Storage::<RcuFree<T>, A>::free_after_gp(self.0) };
    }
}

// SAFETY: The pointer is that of the view, which is so aligned and never null.
unsafe impl<T: RcuFreeSafe, A: KvFree> ForeignOwnable for RcuFreeBox<T, A> {
    const FOREIGN_ALIGN: usize = Storage::<RcuFree<T>, A>::ALIGN;

    type Borrowed<'a>
        = &'a RcuFree<T>
    where
        Self: 'a;
    type BorrowedMut<'a>
        = Pin<&'a mut T>
    where
        Self: 'a;

    #[inline]
    fn into_foreign(self) -> *mut c_void {
        ManuallyDrop::new(self).0.as_ptr().cast()
    }

    #[inline]
    unsafe fn from_foreign(ptr: *mut c_void) -> Self {
        // INVARIANT: From `into_foreign()`, used once, by the safety requirements of this function.
        // SAFETY: As above: never null.
        Self(unsafe { NonNull::new_unchecked(ptr.cast()) }, PhantomData)
    }

    #[inline]
    unsafe fn borrow<'a>(ptr: *mut c_void) -> &'a RcuFree<T> {
        // SAFETY: By the safety requirements of this function it is live, and not borrowed mutably.
        unsafe { &*ptr.cast() }
    }

    #[inline]
    unsafe fn borrow_mut<'a>(ptr: *mut c_void) -> Pin<&'a mut T> {
        let parts: *mut RcuFree<T> = ptr.cast();
        // SAFETY: By the safety requirements of this function it is live, and there is no other
        // borrow of this part: readers have the view only. It is pinned by the type invariants.
        unsafe { Pin::new_unchecked(&mut *(&raw mut (*parts).owned).cast::<T>()) }
    }
}

// SAFETY: A box that is dropped keeps its view for a grace period.
unsafe impl<T: RcuFreeSafe, A: KvFree> ForeignOwnableRcu for RcuFreeBox<T, A> {
    type RcuBorrowed<'rcu>
        = &'rcu T::View
    where
        Self: 'rcu;

    #[inline]
    unsafe fn rcu_borrow<'rcu>(ptr: *mut c_void, _guard: &'rcu rcu::Guard) -> &'rcu T::View
    where
        Self: 'rcu,
    {
        // SAFETY: By the safety requirements of this function it lives as long as the guard.
        unsafe { &(*ptr.cast::<RcuFree<T>>()).view }
    }

    #[inline]
    fn address(seen: &&T::View) -> *mut c_void {
        ptr::from_ref(*seen).cast_mut().cast()
    }
}
