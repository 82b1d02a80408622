// SPDX-License-Identifier: GPL-2.0

//! The list channel: objects linked through their own 8-byte field, where no block was to be had.

use crate::{
    link::{LINK_ALIGN, MAX_OFFSET},
    packing::Packing,
};
use core::ptr::{with_exposed_provenance_mut, NonNull};

/// Objects linked through their fields, newest first.
///
/// # Invariants
///
/// `first` is 0 or the address of a link word; from each word [`Packing::next()`] gives the next
/// one, `count` in all, and [`Packing::offset()`] the distance from the start of its object. The
/// list owns the objects.
pub(crate) struct ObjectList {
    first: u64,
    count: usize,
}

impl ObjectList {
    /// An empty list.
    pub(crate) const fn new() -> Self {
        Self { first: 0, count: 0 }
    }

    /// Whether there is no object.
    pub(crate) fn is_empty(&self) -> bool {
        self.first == 0
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
    pub(crate) unsafe fn push(&mut self, object: NonNull<u8>, field: NonNull<u8>) {
        let offset = field.as_ptr().expose_provenance() - object.as_ptr().expose_provenance();
        debug_assert!(offset < MAX_OFFSET && offset % LINK_ALIGN == 0);
        let link = field.cast::<u64>();
        // SAFETY: By the safety requirements of this function.
        unsafe { link.write(Packing::pack(self.first, offset)) };
        // INVARIANT: The new word leads to the old list and tells its own offset.
        self.first = field.as_ptr() as u64;
        self.count += 1;
    }

    /// Takes the newest object.
    pub(crate) fn pop(&mut self) -> Option<NonNull<u8>> {
        let field = NonNull::new(with_exposed_provenance_mut::<u8>(self.first as usize))?;
        // SAFETY: By the type invariants `field` is the link word of an owned object.
        let word = unsafe { field.cast::<u64>().read() };
        // INVARIANT: The rest of the list.
        self.first = Packing::next(word);
        self.count -= 1;
        // SAFETY: By the type invariants the object starts that far before its field.
        Some(unsafe { field.sub(Packing::offset(word)) })
    }

    /// Takes everything.
    pub(crate) fn take(&mut self) -> Self {
        core::mem::replace(self, Self::new())
    }
}
