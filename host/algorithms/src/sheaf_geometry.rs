// SPDX-License-Identifier: GPL-2.0

//! Small sheaves, whose slots report every access: loom tracks them, and otherwise an interrupt may
//! occur before each. Accesses to heads are counted.

use crate::{hook::step, sync::UnsafeCell};
use std::cell::{self, Cell};

thread_local! {
    static VISITS: Cell<usize> = const { Cell::new(0) };
}

/// Number of accesses of this thread to heads of sheaves.
pub(crate) fn visits() -> usize {
    VISITS.get()
}

/// Owner-private state in the head of a sheaf.
#[repr(transparent)]
pub(crate) struct HeadCell<T>(cell::UnsafeCell<T>);

impl<T> HeadCell<T> {
    pub(crate) fn get(&self) -> *mut T {
        VISITS.set(VISITS.get() + 1);
        self.0.get()
    }
}

/// A constant: the model has no time.
pub(crate) fn now() -> std::num::NonZeroU32 {
    std::num::NonZeroU32::MIN
}

/// Bytes of a sheaf; loom's slots are larger.
pub(crate) const SHEAF_BYTES: usize = if cfg!(loom) { 512 } else { 128 };
/// Object pointers in a sheaf.
pub(crate) const SLOTS: usize = 4;
/// Cleared slots would hide stale contents.
pub(crate) const CLEARS_SLOTS: bool = false;

#[repr(transparent)]
pub(crate) struct Slot(UnsafeCell<usize>);

impl Slot {
    pub(crate) fn new() -> Self {
        Self(UnsafeCell::new(0))
    }

    pub(crate) fn load(&self) -> usize {
        step();
        // SAFETY: One thread, or loom reports the race.
        self.0.with(|p| unsafe { p.read() })
    }

    pub(crate) fn low_bits(&self) -> u16 {
        self.load() as u16
    }

    pub(crate) fn store(&self, object: usize) {
        step();
        // SAFETY: As above.
        self.0.with_mut(|p| unsafe { p.write(object) });
    }
}
