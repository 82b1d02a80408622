// SPDX-License-Identifier: GPL-2.0

//! Lists of objects that are linked through their own 8-byte field, and of callbacks that are
//! linked through their `rcu_head`, for where there is no block. [`ObjectList`] is protected by the
//! lock of engine `rfc`. Any context can push to a [`LinkList`], which engine `lockless` uses, and
//! engine `rfc` after a failed trylock.
//!
//! An object that is pushed again while it is linked overwrites its own link. If it is still the
//! newest one the push fails. Otherwise the list becomes cyclic, or two lists share their ends: no
//! list is freed before [`LinkChain::check()`] or [`ObjectList::is_sound()`] has found its end.
//!
//! No kernel dependencies: compiled by the host tests.

use crate::{
    entry::Call,
    link::{LINK_ALIGN, MAX_OFFSET},
    packing::Packing,
    stats::Counter,
    sync::{AtomicLink, Plain},
};
use core::ptr::{with_exposed_provenance_mut, NonNull};

/// An object or callback with its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Linked {
    /// An object, linked through its field.
    Object {
        object: NonNull<u8>,
        field: NonNull<u8>,
    },
    /// A callback, linked through its head.
    Call(Call),
}

impl Linked {
    /// The word that holds the link.
    #[inline]
    pub(crate) fn link(self) -> NonNull<u8> {
        match self {
            Self::Object { field, .. } => field,
            Self::Call(call) => call.head(),
        }
    }

    /// The start of the object, or the head.
    pub(crate) fn start(self) -> NonNull<u8> {
        match self {
            Self::Object { object, .. } => object,
            Self::Call(call) => call.head(),
        }
    }

    /// The entry, as it is stored in a block.
    #[inline]
    pub(crate) fn entry(self) -> NonNull<u8> {
        match self {
            Self::Object { object, .. } => object,
            Self::Call(call) => call.as_ptr(),
        }
    }

    /// The counter of those that are linked.
    #[inline]
    pub(crate) fn counter(self) -> Counter {
        match self {
            Self::Object { .. } => Counter::QueuedList,
            Self::Call(_) => Counter::QueuedCallList,
        }
    }

    /// Writes the link, with `next` as the address of the next one. Returns its own address.
    ///
    /// # Safety
    ///
    /// The object or head is the caller's to give away. The field is aligned, valid for writes of 8
    /// bytes, and less than [`MAX_OFFSET`] bytes from the start of its object; the head is valid.
    #[inline]
    unsafe fn write(self, next: u64) -> u64 {
        let word = match self {
            Self::Object { object, field } => {
                let offset =
                    field.as_ptr().expose_provenance() - object.as_ptr().expose_provenance();
                debug_assert!(offset < MAX_OFFSET && offset % LINK_ALIGN == 0);
                Packing::pack(next, offset)
            }
            Self::Call(call) => Packing::pack_call(next, call.tags()),
        };
        let link = self.link();
        // SAFETY: By the safety requirements of this function.
        unsafe { link.cast::<Plain<u64>>().as_ref().set(word) };
        link.as_ptr().expose_provenance() as u64
    }

    /// The object or callback that is linked through the word at `link`, and the address of the
    /// next link.
    ///
    /// # Safety
    ///
    /// [`Self::write()`] has written the word, and its object has not been freed.
    unsafe fn read(link: NonNull<u8>) -> (Self, u64) {
        // SAFETY: By the safety requirements of this function.
        let word = unsafe { link.cast::<Plain<u64>>().as_ref().get() };
        let linked = match Packing::tags(word) {
            Some(tags) => Self::Call(Call::with_tags(link.as_ptr().expose_provenance(), tags)),
            None => Self::Object {
                // SAFETY: By the safety requirements of this function the offset is that of the
                // field.
                object: unsafe { link.sub(Packing::offset(word)) },
                field: link,
            },
        };
        (linked, Packing::next(word))
    }
}

/// What is known of the end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListEnd {
    /// The list has this number of objects.
    At(usize),
    /// It is further away than the limit.
    NotWithinLimit,
    /// There is none: an object was pushed again. Found after this number of steps.
    Cyclic(usize),
}

/// An owned list, newest first.
///
/// # Invariants
///
/// `first` is 0 or the address of a link that [`Linked::write()`] has written, as is the next of
/// each link. The chain owns the objects.
pub(crate) struct LinkChain {
    first: u64,
}

impl LinkChain {
    pub(crate) const fn new() -> Self {
        Self { first: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first == 0
    }

    /// Adds `linked`. Returns `false` if it is the newest one already; nothing is done then.
    ///
    /// # Safety
    ///
    /// As for [`Linked::write()`].
    #[inline]
    pub(crate) unsafe fn push(&mut self, linked: Linked) -> bool {
        if linked.link().as_ptr() as u64 == self.first {
            return false;
        }
        // INVARIANT: The new word leads to the old chain.
        // SAFETY: By the safety requirements of this function.
        self.first = unsafe { linked.write(self.first) };
        true
    }

    /// Finds the end, if it is within `limit` objects; calls `step` after each of them.
    pub(crate) fn check(&self, limit: usize, step: impl FnMut()) -> ListEnd {
        // SAFETY: By the type invariants `at` is the link of an owned object.
        find_end(self.first, limit, |at| unsafe { next_of(at) }, step)
    }

    /// Removes the newest.
    pub(crate) fn pop(&mut self) -> Option<Linked> {
        let link = NonNull::new(with_exposed_provenance_mut::<u8>(self.first as usize))?;
        // SAFETY: By the type invariants `link` is the link of something owned.
        let (linked, next) = unsafe { Linked::read(link) };
        // INVARIANT: The rest of the chain.
        self.first = next;
        Some(linked)
    }
}

/// Finds the end of a list whose first link is `at` and where `next` follows a link, if it is
/// within `limit` links; calls `step` after each of them.
pub(crate) fn find_end(
    mut at: u64,
    limit: usize,
    next: impl Fn(u64) -> u64,
    mut step: impl FnMut(),
) -> ListEnd {
    // Brent's algorithm: keeps the link after each power of two steps. In a cycle, that link comes
    // again before the next power of two.
    let (mut kept, mut n) = (0, 0usize);
    while at != 0 {
        if at == kept {
            return ListEnd::Cyclic(n);
        }
        if n == limit {
            return ListEnd::NotWithinLimit;
        }
        if n & n.wrapping_sub(1) == 0 {
            kept = at;
        }
        n += 1;
        at = next(at);
        step();
    }
    ListEnd::At(n)
}

/// The address of the link after the one at `at`.
///
/// # Safety
///
/// `at` is the link of an object that the caller owns.
#[inline]
unsafe fn next_of(at: u64) -> u64 {
    let link = with_exposed_provenance_mut::<Plain<u64>>(at as usize);
    // SAFETY: By the safety requirements of this function.
    Packing::next(unsafe { (*link).get() })
}

/// Objects of a list that are checked or freed between two calls of cond_resched().
pub(crate) const RESCHED_EVERY: usize = 32;

/// A [`LinkChain`] of known length.
///
/// # Invariants
///
/// `count` is the length of `chain`.
pub(crate) struct ObjectList {
    chain: LinkChain,
    count: usize,
}

impl ObjectList {
    pub(crate) const fn new() -> Self {
        Self {
            chain: LinkChain::new(),
            count: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chain.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Adds `linked`. Returns `false` if it is the newest one already; nothing is done then.
    ///
    /// # Safety
    ///
    /// As for [`Linked::write()`].
    #[inline]
    pub(crate) unsafe fn push(&mut self, linked: Linked) -> bool {
        // SAFETY: By the safety requirements of this function.
        let pushed = unsafe { self.chain.push(linked) };
        self.count += usize::from(pushed);
        pushed
    }

    /// Whether the list ends after as many objects as were pushed. Otherwise one of them was pushed
    /// again, to this list or another, while it was linked. Calls `pause` after every
    /// [`RESCHED_EVERY`] objects.
    pub(crate) fn is_sound(&self, mut pause: impl FnMut()) -> bool {
        // That finds a cycle, too.
        let (mut at, mut left) = (self.chain.first, self.count);
        while left > 0 {
            let piece = left.min(RESCHED_EVERY);
            for _ in 0..piece {
                if at == 0 {
                    return false;
                }
                // SAFETY: It was pushed to a list and has not been freed: objects are only freed
                // from lists that were found sound.
                at = unsafe { next_of(at) };
            }
            left -= piece;
            pause();
        }
        at == 0
    }

    /// The address of the head, for watchpoints.
    pub(crate) fn head_address(&self) -> usize {
        core::ptr::from_ref(&self.chain.first).addr()
    }

    /// Removes the newest.
    pub(crate) fn pop(&mut self) -> Option<Linked> {
        let linked = self.chain.pop()?;
        self.count -= 1;
        Some(linked)
    }

    /// Removes everything.
    pub(crate) fn take(&mut self) -> Self {
        core::mem::replace(self, Self::new())
    }
}

/// The result of [`LinkList::push()`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// The list was empty.
    First,
    /// The list was not empty.
    Another,
    /// It is the newest one already; nothing was done.
    Twice,
}

/// A list that any context pushes to, and that is removed as a whole: an llist with packed links.
///
/// # Context
///
/// Any, NMI included; several at once.
///
/// # Invariants
///
/// `head` is the `first` of a [`LinkChain`].
pub(crate) struct LinkList {
    head: AtomicLink,
}

impl LinkList {
    pub(crate) fn new() -> Self {
        Self {
            head: AtomicLink::new(0),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head.load_relaxed() == 0
    }

    /// Adds `linked`.
    ///
    /// # Safety
    ///
    /// As for [`Linked::write()`].
    #[inline]
    pub(crate) unsafe fn push(&self, linked: Linked) -> Pushed {
        let mut old = self.head.load_relaxed();
        loop {
            if old == linked.link().as_ptr() as u64 {
                return Pushed::Twice;
            }
            // SAFETY: By the safety requirements of this function; not shared before the cmpxchg
            // below.
            let new = unsafe { linked.write(old) };
            // ORDERING: Full on success: the context that removes the list sees the link, and all
            // that the caller did before. Pairs with the xchg in `take()`.
            match self.head.cmpxchg_full(old, new) {
                Ok(0) => return Pushed::First,
                Ok(_) => return Pushed::Another,
                Err(now) => old = now,
            }
        }
    }

    /// The address of the head, for watchpoints.
    pub(crate) fn head_address(&self) -> usize {
        core::ptr::from_ref(&self.head).addr()
    }

    /// Removes everything.
    pub(crate) fn take(&self) -> LinkChain {
        // The list is mostly empty, and a load is cheaper. A concurrent push is followed by an
        // irq_work of its own.
        if self.head.load_relaxed() == 0 {
            return LinkChain::new();
        }
        // INVARIANT: The chain owns what was in the list.
        // ORDERING: Full; pairs with the cmpxchg in `push()`.
        LinkChain {
            first: self.head.xchg_full(0),
        }
    }
}
