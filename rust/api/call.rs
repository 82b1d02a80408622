// SPDX-License-Identifier: GPL-2.0

//! Closures that run after a grace period, stored in the object that they are about: nothing is
//! allocated, so they can be queued in any context.

use super::{
    rcu_box::{reclaim, CallbackContext, RcuBox},
    storage::{KvFree, Storage},
    sys,
};
use core::{cell::UnsafeCell, mem::MaybeUninit, ops::Deref, ptr};
use kernel::prelude::*;

/// A `T`, and room for a closure of up to `WORDS` words (of 8 bytes).
///
/// ```ignore
/// # use super::rcu_ptr::{RcuKBox, WithRoom};
/// # use kernel::{prelude::*, sync::Arc};
/// # struct Entry { key: u64 }
/// # struct Stats;
/// # impl Stats { fn retire(&self, _key: u64) {} }
/// # fn example(stats: &Arc<Stats>) -> Result {
/// let entry = RcuKBox::new(WithRoom::<_, 2>::new(Entry { key: 1 }), GFP_KERNEL)?;
///
/// // In any context, NMI too; runs in a worker when no reader has the entry any more. Then it is
/// // dropped and freed.
/// let stats = stats.clone();
/// entry.call(move |entry| stats.retire(entry.key));
/// # Ok(())
/// # }
/// ```
#[pin_data]
pub struct WithRoom<T, const WORDS: usize> {
    #[pin]
    object: T,
    room: Room<WORDS>,
}

/// Room for a closure. It is written only by the context that has taken the object over to queue
/// it, and only its callback reads that.
struct Room<const WORDS: usize>(UnsafeCell<MaybeUninit<[u64; WORDS]>>);

impl<const WORDS: usize> Room<WORDS> {
    const fn new() -> Self {
        Self(UnsafeCell::new(MaybeUninit::uninit()))
    }
}

// SAFETY: A shared reference gives access to nothing.
unsafe impl<const WORDS: usize> Sync for Room<WORDS> {}

impl<const WORDS: usize> Drop for Room<WORDS> {
    /// Does nothing, but has the object wait by a callback (see [`Storage`]): a closure needs one.
    fn drop(&mut self) {}
}

impl<T, const WORDS: usize> WithRoom<T, WORDS> {
    /// `object` with room.
    ///
    /// # Context
    ///
    /// Any.
    pub const fn new(object: T) -> Self {
        Self {
            object,
            room: Room::new(),
        }
    }

    /// What `init` makes, with room.
    ///
    /// # Context
    ///
    /// That of `init`.
    ///
    /// # Errors
    ///
    /// What `init` failed with.
    pub fn pin_init<E>(init: impl PinInit<T, E>) -> impl PinInit<Self, E> {
        pin_init!(Self {
            object <- init,
            room: Room::new(),
        }? E)
    }
}

impl<T, const WORDS: usize> Deref for WithRoom<T, WORDS> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.object
    }
}

impl<T, const WORDS: usize, A, C> RcuBox<WithRoom<T, WORDS>, A, C>
where
    T: Send + 'static,
    A: KvFree,
    C: CallbackContext,
{
    /// Calls `f` with the object after a grace period, in context `C`; then drops and frees it. A
    /// closure that is too large does not compile.
    ///
    /// `f` runs once. It may drop boxes and queue other closures. rcu_ptr.ko keeps its code: a
    /// module is unloaded only after its closures have run.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    #[inline]
    pub fn call<F>(self, f: F)
    where
        F: FnOnce(Pin<&mut T>) + Send + 'static,
    {
        const {
            assert!(
                size_of::<F>() <= WORDS * size_of::<u64>() && align_of::<F>() <= align_of::<u64>(),
                "the object has no room for this closure"
            );
        }
        let object = self.into_raw();
        // SAFETY: Live, and this caller's, without a box any more; the closure fits.
        unsafe {
            UnsafeCell::raw_get(&raw const (*object.as_ptr()).room.0)
                .cast::<F>()
                .write(f)
        };
        // SAFETY: As above; the room has a destructor. Object and closure are `Send` and borrow
        // nothing, so they may be used in the worker, whenever that is.
        unsafe { Storage::<_, A>::call(object, C::MAY_SLEEP, run::<T, WORDS, F, A>) };
    }
}

/// Calls the closure after the grace period.
///
/// # Safety
///
/// As `func` of [`Storage::call()`] is called; an `F` is in the room.
unsafe extern "C" fn run<T, const WORDS: usize, F, A>(head: *mut sys::core::Head)
where
    F: FnOnce(Pin<&mut T>),
    A: KvFree,
{
    // SAFETY: By the safety requirements of this function.
    let object = unsafe { Storage::<WithRoom<T, WORDS>, A>::of_head(head) }.as_ptr();
    // SAFETY: As above; it is read this once.
    let f = unsafe { ptr::read((&raw const (*object).room.0).cast::<F>()) };
    // SAFETY: Live and pinned, and this callback's alone: the box is gone, and all readers that
    // found the object under RCU.
    f(unsafe { Pin::new_unchecked(&mut (*object).object) });
    // SAFETY: As above.
    unsafe { reclaim::<WithRoom<T, WORDS>, A>(head) };
}
