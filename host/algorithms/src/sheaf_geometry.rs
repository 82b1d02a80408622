// SPDX-License-Identifier: GPL-2.0

//! Small sheaves, whose slots tell the tests of every access: loom tracks them, and otherwise an
//! interrupt may come before each. Accesses to heads are counted.

use std::{cell::UnsafeCell as Plain, thread_local};

thread_local! {
    static VISITS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// How often this thread has looked at the head of a sheaf.
pub(crate) fn visits() -> usize {
    VISITS.get()
}

/// What the owner of a sheaf notes in its head.
#[repr(transparent)]
pub(crate) struct Note<T>(Plain<T>);

impl<T> Note<T> {
    pub(crate) fn get(&self) -> *mut T {
        VISITS.set(VISITS.get() + 1);
        self.0.get()
    }
}

/// There is no time here.
pub(crate) fn now() -> std::num::NonZeroU32 {
    std::num::NonZeroU32::MIN
}

/// Object pointers in a sheaf.
pub(crate) const SLOTS: usize = 4;
/// Slots that are cleared would hide what is still in them.
pub(crate) const CLEARS_SLOTS: bool = false;

#[cfg(not(loom))]
pub(crate) use plain::*;
#[cfg(loom)]
pub(crate) use tracked::*;

#[cfg(not(loom))]
mod plain {
    use crate::sheaf_model::step;
    use std::cell::UnsafeCell;

    pub(crate) const SHEAF_BYTES: usize = 128;

    #[repr(transparent)]
    pub(crate) struct Slot(UnsafeCell<usize>);

    impl Slot {
        pub(crate) const fn new() -> Self {
            Self(UnsafeCell::new(0))
        }

        pub(crate) fn load(&self) -> usize {
            step();
            // SAFETY: One thread.
            unsafe { self.0.get().read() }
        }

        pub(crate) fn low_bits(&self) -> u16 {
            self.load() as u16
        }

        pub(crate) fn store(&self, object: usize) {
            step();
            // SAFETY: One thread.
            unsafe { self.0.get().write(object) };
        }
    }
}

#[cfg(loom)]
mod tracked {
    use loom::cell::UnsafeCell;

    pub(crate) const SHEAF_BYTES: usize = 512;

    pub(crate) struct Slot(UnsafeCell<usize>);

    impl Slot {
        pub(crate) fn new() -> Self {
            Self(UnsafeCell::new(0))
        }

        pub(crate) fn load(&self) -> usize {
            // SAFETY: loom says if not.
            self.0.with(|p| unsafe { p.read() })
        }

        pub(crate) fn low_bits(&self) -> u16 {
            self.load() as u16
        }

        pub(crate) fn store(&self, object: usize) {
            // SAFETY: loom says if not.
            self.0.with_mut(|p| unsafe { p.write(object) });
        }
    }
}
