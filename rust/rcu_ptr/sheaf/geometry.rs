// SPDX-License-Identifier: GPL-2.0

//! The size of a sheaf, which the host tests replace by a smaller one.

use kernel::sync::atomic::{Atomic, Relaxed};

/// Bytes of a sheaf, and its alignment.
pub(crate) const SHEAF_BYTES: usize = 512;
/// Object pointers in a sheaf; the head takes the rest.
pub(crate) const SLOTS: usize = 56;

/// One object pointer of a sheaf. Contexts of one CPU write and read different slots; everybody
/// else comes a grace period later. So no access needs an order.
#[repr(transparent)]
pub(crate) struct Slot(Atomic<usize>);

impl Slot {
    /// The object.
    #[inline(always)]
    pub(crate) fn load(&self) -> usize {
        self.0.load(Relaxed)
    }

    /// Puts `object` here.
    #[inline(always)]
    pub(crate) fn store(&self, object: usize) {
        self.0.store(object, Relaxed);
    }
}
