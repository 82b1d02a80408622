// SPDX-License-Identifier: GPL-2.0

//! Objects linked through their own 8-byte field, and callbacks through their `rcu_head`, where there is no
//! block: the list that engine `rfc` has under its lock, and the one that any context pushes to (engine
//! `lockless`; `rfc` after a failed trylock).
//!
//! An object that is pushed again while it is linked overwrites its own link. Right after the first time
//! that is refused. Later it closes a cycle, or makes two lists share their ends; no list is freed before
//! [`LinkChain::check()`] or [`ObjectList::is_sound()`] has found its end.

use crate::{
    entry::Call,
    link::{LINK_ALIGN, MAX_OFFSET},
    packing::Packing,
    stats::Counter,
    sync::{AtomicLink, Plain},
};
use core::ptr::{with_exposed_provenance_mut, NonNull};

/// What is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Linked {
    /// An object through its field.
    Object {
        object: NonNull<u8>,
        field: NonNull<u8>,
    },
    /// A callback through its head.
    Call(Call),
}

impl Linked {
    /// Where its link is.
    #[inline]
    pub(crate) fn link(self) -> NonNull<u8> {
        match self {
            Self::Object { field, .. } => field,
            Self::Call(call) => call.head(),
        }
    }

    /// Where it starts.
    pub(crate) fn start(self) -> NonNull<u8> {
        match self {
            Self::Object { object, .. } => object,
            Self::Call(call) => call.head(),
        }
    }

    /// What stands for it in a block.
    #[inline]
    pub(crate) fn word(self) -> NonNull<u8> {
        match self {
            Self::Object { object, .. } => object,
            Self::Call(call) => call.as_ptr(),
        }
    }

    /// What it counts as when it is linked.
    #[inline]
    pub(crate) fn counter(self) -> Counter {
        match self {
            Self::Object { .. } => Counter::QueuedList,
            Self::Call(_) => Counter::QueuedCallList,
        }
    }

    /// Writes the link, followed by the one at address `next`. Returns the address of the new one.
    ///
    /// # Safety
    ///
    /// What is linked is the caller's to give away. The field lies in its object, is valid for writes of 8
    /// bytes, aligned, and less than [`MAX_OFFSET`] from its start; or the head is valid.
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

    /// What is linked through the word at `link`, and the address of the next one.
    ///
    /// # Safety
    ///
    /// [`Self::write()`] wrote it, and whose it is has not been given back.
    unsafe fn read(link: NonNull<u8>) -> (Self, u64) {
        // SAFETY: By the safety requirements of this function.
        let word = unsafe { link.cast::<Plain<u64>>().as_ref().get() };
        let linked = match Packing::tags(word) {
            Some(tags) => Self::Call(Call::with_tags(link.as_ptr().expose_provenance(), tags)),
            None => Self::Object {
                // SAFETY: By the safety requirements of this function the object starts that far before.
                object: unsafe { link.sub(Packing::offset(word)) },
                field: link,
            },
        };
        (linked, Packing::next(word))
    }
}

/// Where a [`Chain`] ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListEnd {
    /// After so many objects, each of them another.
    At(usize),
    /// Further away than it was looked for.
    NotWithinLimit,
    /// Nowhere: an object of the chain was pushed again. So many steps showed it.
    Cyclic(usize),
}

/// What is linked, newest first.
///
/// # Invariants
///
/// `first` is 0 or the address of a link word, as [`Linked::write()`] writes it; each leads to the next one.
/// The chain owns what is linked.
pub(crate) struct LinkChain {
    first: u64,
}

impl LinkChain {
    /// No objects.
    pub(crate) const fn new() -> Self {
        Self { first: 0 }
    }

    /// Whether there is no object.
    pub(crate) fn is_empty(&self) -> bool {
        self.first == 0
    }

    /// Adds `linked`. `false`: it is the newest already, and nothing was done.
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

    /// Looks for the end, at most `limit` objects away; `step` runs at each of them.
    pub(crate) fn check(&self, limit: usize, step: impl FnMut()) -> ListEnd {
        // SAFETY: By the type invariants `at` is the link word of an owned object.
        find_end(self.first, limit, |at| unsafe { next_of(at) }, step)
    }

    /// Takes the newest.
    pub(crate) fn pop(&mut self) -> Option<Linked> {
        let link = NonNull::new(with_exposed_provenance_mut::<u8>(self.first as usize))?;
        // SAFETY: By the type invariants `link` is the link word of something owned.
        let (linked, next) = unsafe { Linked::read(link) };
        // INVARIANT: The rest of the chain.
        self.first = next;
        Some(linked)
    }
}

/// Looks for the end of what is linked from `at` on, where `next` goes on, at most `limit` links away; `step` runs at
/// each of them.
pub(crate) fn find_end(
    mut at: u64,
    limit: usize,
    next: impl Fn(u64) -> u64,
    mut step: impl FnMut(),
) -> ListEnd {
    // Brent's algorithm: of the links that are met, the one after a power of two is kept, and in a
    // cycle it comes again before the next power of two is reached.
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

/// The address in the link word at address `at`.
///
/// # Safety
///
/// It is that of an object of a [`Chain`] that the caller owns.
#[inline]
unsafe fn next_of(at: u64) -> u64 {
    let link = with_exposed_provenance_mut::<Plain<u64>>(at as usize);
    // SAFETY: By the safety requirements of this function.
    Packing::next(unsafe { (*link).get() })
}

/// Objects of a list that are looked at, or freed, before others get the CPU.
pub(crate) const RESCHED_EVERY: usize = 32;

/// The list channel: a [`Chain`] of a known length.
///
/// # Invariants
///
/// `count` is the length of `chain`.
pub(crate) struct ObjectList {
    chain: LinkChain,
    count: usize,
}

impl ObjectList {
    /// An empty list.
    pub(crate) const fn new() -> Self {
        Self {
            chain: LinkChain::new(),
            count: 0,
        }
    }

    /// Whether there is no object.
    pub(crate) fn is_empty(&self) -> bool {
        self.chain.is_empty()
    }

    /// Objects in the list.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Adds `linked`. `false`: it is the newest already, and nothing was done.
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

    /// Whether the list ends after as many objects as were pushed. If not, one of them was pushed again
    /// while it was linked, here or elsewhere. `pause` runs after every [`RESCHED_EVERY`] objects.
    pub(crate) fn is_sound(&self, mut pause: impl FnMut()) -> bool {
        // A cycle has no end after that many, either.
        let (mut at, mut left) = (self.chain.first, self.count);
        while left > 0 {
            let piece = left.min(RESCHED_EVERY);
            for _ in 0..piece {
                if at == 0 {
                    return false;
                }
                // SAFETY: It was pushed to a list and is not freed yet: what is freed was taken from a list
                // that was found sound.
                at = unsafe { next_of(at) };
            }
            left -= piece;
            pause();
        }
        at == 0
    }

    /// Where the word is that leads to the newest object.
    pub(crate) fn word(&self) -> usize {
        core::ptr::from_ref(&self.chain.first).addr()
    }

    /// Takes the newest.
    pub(crate) fn pop(&mut self) -> Option<Linked> {
        let linked = self.chain.pop()?;
        self.count -= 1;
        Some(linked)
    }

    /// Takes everything.
    pub(crate) fn take(&mut self) -> Self {
        core::mem::replace(self, Self::new())
    }
}

/// What became of an object that was pushed to a [`DeferredList`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It is the only one.
    First,
    /// There are others.
    Another,
    /// It is the newest already, and nothing was done.
    Twice,
}

/// A list that any context pushes to, and that is taken as a whole (`struct llist_head` with packed links):
/// in engine lockless what found no block, in engine rfc what found the lock held.
///
/// # Context
///
/// Any, NMI included; several at once.
///
/// # Invariants
///
/// `head` is the `first` of a [`Chain`].
pub(crate) struct DeferredList {
    head: AtomicLink,
}

impl DeferredList {
    /// An empty list.
    pub(crate) fn new() -> Self {
        Self {
            head: AtomicLink::new(0),
        }
    }

    /// Whether there is no object.
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
            // SAFETY: By the safety requirements of this function; it is not published before the
            // exchange below.
            let new = unsafe { linked.write(old) };
            // ORDERING: Full on success: the context that takes the list sees the link word and all that the
            // caller did before; pairs with the exchange in `take()`.
            match self.head.cmpxchg_full(old, new) {
                Ok(0) => return Pushed::First,
                Ok(_) => return Pushed::Another,
                Err(now) => old = now,
            }
        }
    }

    /// Where the word is that leads to the newest object.
    pub(crate) fn word(&self) -> usize {
        core::ptr::from_ref(&self.head).addr()
    }

    /// Takes everything.
    pub(crate) fn take(&self) -> LinkChain {
        // Most of the time there is nothing, and a read is cheaper. What is pushed right now has
        // its own irq_work coming.
        if self.head.load_relaxed() == 0 {
            return LinkChain::new();
        }
        // INVARIANT: The chain gets what the head led to.
        // ORDERING: Full; pairs with the exchange in `push()`.
        LinkChain {
            first: self.head.xchg_full(0),
        }
    }
}
