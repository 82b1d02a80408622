// SPDX-License-Identifier: GPL-2.0

//! Owning boxes whose memory outlives them by a grace period.

use super::{
    field::{raw_field, HasRcuPtr},
    sys,
};
use core::{
    convert::Infallible,
    marker::PhantomData,
    mem::{needs_drop, ManuallyDrop},
    ops::Deref,
    ptr::NonNull,
};
use kernel::{
    alloc::{
        allocator::{KVmalloc, Kmalloc, Vmalloc},
        Allocator, Flags,
    },
    prelude::*,
    sync::rcu,
};
use pin_init::raw_init;

/// An allocator whose memory kvfree() takes.
///
/// # Safety
///
/// Boxes of it point to the start of an object of kmalloc() or vmalloc().
pub(crate) unsafe trait KvFree: Allocator {}

// SAFETY: krealloc_node_align() makes its objects.
unsafe impl KvFree for Kmalloc {}
// SAFETY: vrealloc_node_align() makes its objects.
unsafe impl KvFree for Vmalloc {}
// SAFETY: kvrealloc_node_align() makes its objects, by one of the above.
unsafe impl KvFree for KVmalloc {}

/// Owns a `T` whose memory is freed after a grace period when the box is dropped
/// (`rcu_ptr_kvfree()`).
///
/// `T`'s own destructor never runs, since readers may still look at it: a `T` that needs one does
/// not compile. See [`RcuDropBox`].
///
/// # Context
///
/// May be dropped anywhere but in NMI: interrupts may be off, raw spinlocks held.
///
/// # Invariants
///
/// The pointer is a live, pinned `T` from kmalloc() or kvmalloc(), owned by the box. References to
/// it are shared ones only.
pub(crate) struct RcuBox<T: HasRcuPtr>(NonNull<T>, PhantomData<T>);

// SAFETY: The box owns its `T`, and its memory may be freed from anywhere. References that readers
// hold past that are why `T` has to be `Sync` too.
unsafe impl<T: HasRcuPtr + Send + Sync> Send for RcuBox<T> {}
// SAFETY: Only `&T` is handed out.
unsafe impl<T: HasRcuPtr + Sync> Sync for RcuBox<T> {}

impl<T: HasRcuPtr> RcuBox<T> {
    const NO_DESTRUCTOR: () = assert!(
        !needs_drop::<T>(),
        "RcuBox never runs a destructor: use RcuDropBox with DropBeforeGp, and ManuallyDrop fields"
    );

    /// Allocates a `T` with kmalloc() and initialises it.
    ///
    /// # Context
    ///
    /// As `flags` say.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or what `init` failed with.
    pub(crate) fn new<E>(init: impl PinInit<T, E>, flags: Flags) -> Result<Self>
    where
        Error: From<E>,
    {
        KBox::pin_init(init, flags).map(Self::from)
    }

    /// As [`RcuBox::new()`], from kvmalloc(): for objects that may be large.
    ///
    /// # Context
    ///
    /// As `flags` say.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or what `init` failed with.
    pub(crate) fn new_kv<E>(init: impl PinInit<T, E>, flags: Flags) -> Result<Self>
    where
        Error: From<E>,
    {
        KVBox::pin_init(init, flags).map(Self::from)
    }

    /// The object for a reader: the reference may outlive the box, not the guard.
    ///
    /// # Context
    ///
    /// Any.
    pub(crate) fn read<'rcu>(&self, _guard: &'rcu rcu::Guard) -> &'rcu T {
        // SAFETY: By the type invariants the object lives now; when the box is dropped its memory
        // is freed only after the guard's read-side critical section.
        unsafe { self.0.as_ref() }
    }

    /// Gives up ownership, for [`RcuBox::from_raw()`].
    pub(super) fn into_raw(self) -> NonNull<T> {
        ManuallyDrop::new(self).0
    }

    /// The box around what [`RcuBox::into_raw()`] gave.
    ///
    /// # Safety
    ///
    /// `object` comes from `into_raw()` and nobody else makes a box of it.
    pub(super) unsafe fn from_raw(object: NonNull<T>) -> Self {
        // INVARIANT: By the safety requirements of this function.
        Self(object, PhantomData)
    }
}

impl<T: HasRcuPtr, A: KvFree> From<Pin<Box<T, A>>> for RcuBox<T> {
    fn from(object: Pin<Box<T, A>>) -> Self {
        let () = Self::NO_DESTRUCTOR;
        // SAFETY: The object stays where it is.
        let raw = Box::into_raw(unsafe { Pin::into_inner_unchecked(object) });
        // INVARIANT: A box owned it, of kmalloc() or vmalloc() by the contract of `KvFree`, and no
        // size is 0, as there is a field.
        // SAFETY: Boxes are never null.
        Self(unsafe { NonNull::new_unchecked(raw) }, PhantomData)
    }
}

impl<T: HasRcuPtr> Deref for RcuBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: By the type invariants.
        unsafe { self.0.as_ref() }
    }
}

impl<T: HasRcuPtr> Drop for RcuBox<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariants the object is live and owned, and of a kind that the core
        // frees; its field is an `RcuPtr` by the contract of `HasRcuPtr`, in the first 4096 bytes.
        unsafe { sys::kvfree(self.0, raw_field(self.0)) };
    }
}

/// An [`RcuBox`] for any context: made there, and dropped there, NMI included
/// (`rcu_ptr_kfree_nolock()`).
///
/// # Context
///
/// May be dropped anywhere, in NMI too.
///
/// # Invariants
///
/// Those of the box inside, which is never dropped; the object may be one of kmalloc_nolock() too.
pub(crate) struct RcuNolockBox<T: HasRcuPtr>(ManuallyDrop<RcuBox<T>>);

impl<T: HasRcuPtr> RcuNolockBox<T> {
    /// kmalloc_nolock() gives no more.
    const ALIGNED: () = assert!(
        align_of::<T>() <= align_of::<u64>(),
        "kmalloc_nolock() aligns to 8 bytes"
    );

    /// Allocates a `T` with kmalloc_nolock() and initialises it. Where there is no memory, or the
    /// allocator's lock is not free, `init` comes back.
    ///
    /// # Context
    ///
    /// Any, NMI included; `init` has to be fit for it.
    ///
    /// # Errors
    ///
    /// `init` itself. That happens: an NMI that can't go on without the object drops what it has to
    /// tell, or keeps an object in reserve.
    #[inline]
    pub(crate) fn new<I: PinInit<T, Infallible>>(init: I) -> Result<Self, I> {
        let () = Self::ALIGNED;
        let () = RcuBox::<T>::NO_DESTRUCTOR;
        let Some(object) = NonNull::new(sys::kmalloc_nolock(size_of::<T>()).cast::<T>()) else {
            return Err(init);
        };
        // SAFETY: Fresh memory, large enough and aligned for a `T`, which stays where it is.
        unsafe { raw_init(object.as_ptr(), init) };
        // INVARIANT: A live, pinned `T`, owned by the box.
        Ok(Self(ManuallyDrop::new(RcuBox(object, PhantomData))))
    }

    /// The object for a reader: see [`RcuBox::read()`].
    ///
    /// # Context
    ///
    /// Any.
    pub(crate) fn read<'rcu>(&self, guard: &'rcu rcu::Guard) -> &'rcu T {
        self.0.read(guard)
    }
}

impl<T: HasRcuPtr> RcuNolockBox<T> {
    /// The same object in a box that must not be dropped in NMI.
    pub(crate) fn into_inner(self) -> RcuBox<T> {
        let this = ManuallyDrop::new(self);
        // INVARIANT: That of the box inside, which this one no longer owns.
        RcuBox(this.0 .0, PhantomData)
    }
}

impl<T: HasRcuPtr> From<RcuBox<T>> for RcuNolockBox<T> {
    #[inline]
    fn from(inner: RcuBox<T>) -> Self {
        // INVARIANT: That of the box.
        Self(ManuallyDrop::new(inner))
    }
}

impl<T: HasRcuPtr> Deref for RcuNolockBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: HasRcuPtr> Drop for RcuNolockBox<T> {
    #[inline]
    fn drop(&mut self) {
        let object = self.0 .0;
        // SAFETY: By the type invariants the object is live and owned, and of a kind that the core
        // frees; its field is an `RcuPtr` by the contract of `HasRcuPtr`, in the first 4096 bytes. The
        // box inside is not used any more.
        unsafe { sys::kfree_nolock(object, raw_field(object)) };
    }
}

/// What has to happen when the owner lets go of an object, while readers may still look at it.
pub(crate) trait DropBeforeGp {
    /// Runs once, before the grace period starts.
    ///
    /// # Context
    ///
    /// That of the drop of the box.
    fn drop_before_gp(self: Pin<&Self>);
}

/// An [`RcuBox`] that runs [`DropBeforeGp::drop_before_gp()`] when it is dropped, before the grace
/// period.
pub(crate) struct RcuDropBox<T: HasRcuPtr + DropBeforeGp>(RcuBox<T>);

impl<T: HasRcuPtr + DropBeforeGp> From<RcuBox<T>> for RcuDropBox<T> {
    fn from(inner: RcuBox<T>) -> Self {
        Self(inner)
    }
}

impl<T: HasRcuPtr + DropBeforeGp> RcuDropBox<T> {
    /// The object for a reader: see [`RcuBox::read()`].
    ///
    /// # Context
    ///
    /// Any.
    pub(crate) fn read<'rcu>(&self, guard: &'rcu rcu::Guard) -> &'rcu T {
        self.0.read(guard)
    }
}

impl<T: HasRcuPtr + DropBeforeGp> Deref for RcuDropBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: HasRcuPtr + DropBeforeGp> Drop for RcuDropBox<T> {
    fn drop(&mut self) {
        // SAFETY: Objects of an `RcuBox` are pinned by its type invariants.
        unsafe { Pin::new_unchecked(&*self.0) }.drop_before_gp();
    }
}

/// Frees the memory of a box after a grace period, with no field in the object
/// (`rcu_ptr_kvfree_mightsleep()`). A `T` that needs a destructor does not compile.
///
/// # Context
///
/// May sleep.
pub(crate) fn free_mightsleep<T, A: KvFree>(object: Pin<Box<T, A>>) {
    const { assert!(!needs_drop::<T>() && size_of::<T>() != 0) };
    // SAFETY: The object stays where it is.
    let raw = Box::into_raw(unsafe { Pin::into_inner_unchecked(object) });
    // SAFETY: The box owned a live object that kvfree() takes (the contract of `KvFree`); boxes are
    // never null.
    unsafe { sys::kvfree_mightsleep(NonNull::new_unchecked(raw)) };
}

/// Frees the memory of a box after a grace period, with no field in the object and from anywhere
/// (`rcu_ptr_try_kfree_nolock()`). A `T` that needs a destructor does not compile.
///
/// # Context
///
/// Any, NMI included.
///
/// # Errors
///
/// The box, where there is no room: in NMI it can't be dropped, so it has to go somewhere.
pub(crate) fn try_free_nolock<T, A: KvFree>(object: Pin<Box<T, A>>) -> Result<(), Pin<Box<T, A>>> {
    const { assert!(!needs_drop::<T>() && size_of::<T>() != 0) };
    // SAFETY: The object stays where it is.
    let raw = Box::into_raw(unsafe { Pin::into_inner_unchecked(object) });
    // SAFETY: The box owned a live object that kvfree() takes (the contract of `KvFree`); boxes are
    // never null.
    if unsafe { sys::try_kfree_nolock(NonNull::new_unchecked(raw)) } {
        return Ok(());
    }
    // SAFETY: From `into_raw()` above, not taken, and pinned all the time.
    Err(unsafe { Pin::new_unchecked(Box::from_raw(raw)) })
}
