// SPDX-License-Identifier: GPL-2.0

//! Objects linked through their own 8-byte field, where no block is to be had: the list channel
//! under the lock, and the list that a failed trylock pushes to.

use crate::{
    link::{LINK_ALIGN, MAX_OFFSET},
    packing::Packing,
    sync::AtomicLink,
};
use core::ptr::{with_exposed_provenance_mut, NonNull};

/// Writes the link of `object` into its `field`, followed by the link at address `next`. Returns
/// the address of the new one.
///
/// # Safety
///
/// `object` is the caller's to give away; `field` lies in it, is valid for writes of 8 bytes,
/// aligned, and less than [`MAX_OFFSET`] from its start.
#[inline]
unsafe fn link(object: NonNull<u8>, field: NonNull<u8>, next: u64) -> u64 {
    let offset = field.as_ptr().expose_provenance() - object.as_ptr().expose_provenance();
    debug_assert!(offset < MAX_OFFSET && offset % LINK_ALIGN == 0);
    // SAFETY: By the safety requirements of this function.
    unsafe { field.cast::<u64>().write(Packing::pack(next, offset)) };
    field.as_ptr() as u64
}

/// Objects linked through their fields, newest first.
///
/// # Invariants
///
/// `first` is 0 or the address of a link word; from each word [`Packing::next()`] gives the next
/// one, and [`Packing::offset()`] the distance from the start of its object. The chain owns the
/// objects.
pub(crate) struct Chain {
    first: u64,
}

impl Chain {
    /// No objects.
    pub(crate) const fn new() -> Self {
        Self { first: 0 }
    }

    /// Whether there is no object.
    pub(crate) fn is_empty(&self) -> bool {
        self.first == 0
    }

    /// Adds `object` through its `field`.
    ///
    /// # Safety
    ///
    /// As for [`link()`].
    #[inline]
    pub(crate) unsafe fn push(&mut self, object: NonNull<u8>, field: NonNull<u8>) {
        // INVARIANT: The new word leads to the old chain and tells its own offset.
        // SAFETY: By the safety requirements of this function.
        self.first = unsafe { link(object, field, self.first) };
    }

    /// Takes the newest object, and tells where its field is.
    pub(crate) fn pop(&mut self) -> Option<(NonNull<u8>, NonNull<u8>)> {
        let field = NonNull::new(with_exposed_provenance_mut::<u8>(self.first as usize))?;
        // SAFETY: By the type invariants `field` is the link word of an owned object.
        let word = unsafe { field.cast::<u64>().read() };
        // INVARIANT: The rest of the chain.
        self.first = Packing::next(word);
        // SAFETY: By the type invariants the object starts that far before its field.
        Some((unsafe { field.sub(Packing::offset(word)) }, field))
    }
}

/// The list channel: a [`Chain`] of a known length.
///
/// # Invariants
///
/// `count` is the length of `chain`.
pub(crate) struct ObjectList {
    chain: Chain,
    count: usize,
}

impl ObjectList {
    /// An empty list.
    pub(crate) const fn new() -> Self {
        Self {
            chain: Chain::new(),
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

    /// Adds `object` through its `field`.
    ///
    /// # Safety
    ///
    /// `object` is the caller's to give away; `field` lies in it, is valid for writes of 8 bytes,
    /// aligned, and less than [`MAX_OFFSET`] from its start.
    #[inline]
    pub(crate) unsafe fn push(&mut self, object: NonNull<u8>, field: NonNull<u8>) {
        // SAFETY: By the safety requirements of this function.
        unsafe { self.chain.push(object, field) };
        self.count += 1;
    }

    /// Where the word is that leads to the newest object.
    pub(crate) fn word(&self) -> usize {
        core::ptr::from_ref(&self.chain.first).addr()
    }

    /// Takes the newest object.
    pub(crate) fn pop(&mut self) -> Option<NonNull<u8>> {
        let (object, _) = self.chain.pop()?;
        self.count -= 1;
        Some(object)
    }

    /// Takes everything.
    pub(crate) fn take(&mut self) -> Self {
        core::mem::replace(self, Self::new())
    }
}

/// Objects that came when the lock was held: pushed in any context, taken by whoever holds it
/// (`struct llist_head` with packed links).
///
/// # Invariants
///
/// `head` is the `first` of a [`Chain`].
pub(crate) struct DeferredList {
    head: AtomicLink,
}

impl DeferredList {
    /// An empty list.
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self {
            head: AtomicLink::new(0),
        }
    }

    /// An empty list.
    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self {
            head: AtomicLink::new(0),
        }
    }

    /// Whether there is no object.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    pub(crate) fn is_empty(&self) -> bool {
        self.head.load_relaxed() == 0
    }

    /// Adds `object` through its `field`. Returns whether the list was empty before.
    ///
    /// # Context
    ///
    /// Any, NMI included; several at once.
    ///
    /// # Safety
    ///
    /// As for [`ObjectList::push()`].
    #[inline]
    pub(crate) unsafe fn push(&self, object: NonNull<u8>, field: NonNull<u8>) -> bool {
        let mut old = self.head.load_relaxed();
        loop {
            // SAFETY: By the safety requirements of this function; nobody sees the object before
            // the exchange below.
            let new = unsafe { link(object, field, old) };
            // ORDERING: Full on success: who takes the list sees the link word and all that the
            // caller did before; pairs with the exchange in `take()`.
            match self.head.cmpxchg_full(old, new) {
                Ok(_) => return old == 0,
                Err(now) => old = now,
            }
        }
    }

    /// Where the word is that leads to the newest object.
    pub(crate) fn word(&self) -> usize {
        core::ptr::from_ref(&self.head).addr()
    }

    /// Takes everything.
    ///
    /// # Context
    ///
    /// Any, NMI included; several at once.
    pub(crate) fn take(&self) -> Chain {
        // Most of the time there is nothing, and a read is cheaper. What is pushed right now has
        // its own irq_work coming.
        if self.head.load_relaxed() == 0 {
            return Chain::new();
        }
        // INVARIANT: The chain gets what the head led to.
        // ORDERING: Full; pairs with the exchange in `push()`.
        Chain {
            first: self.head.xchg_full(0),
        }
    }
}
