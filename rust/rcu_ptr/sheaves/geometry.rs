// SPDX-License-Identifier: GPL-2.0

//! The size of a sheaf, and what it consists of. The host tests have a file of their own instead,
//! with smaller sheaves.

use crate::sys::pinned_timer::jiffies;
use core::{cell::UnsafeCell, num::NonZeroU32};

/// Bytes of a sheaf, and its alignment.
pub(crate) const SHEAF_BYTES: usize = 512;
/// Object pointers in a sheaf; the head takes the rest.
pub(crate) const SLOTS: usize = 56;
/// Whether slots are cleared when their objects are gone.
pub(crate) const CLEARS_SLOTS: bool = cfg!(CONFIG_DEBUG_KMEMLEAK);

/// The time in jiffies, but never 0.
///
/// # Context
///
/// Any, NMI included.
#[inline]
pub(crate) fn now() -> NonZeroU32 {
    NonZeroU32::new(jiffies() as u32).unwrap_or(NonZeroU32::MIN)
}

/// Owner-private state in the head of a sheaf: a wrapper, so that host tests can count accesses.
pub(crate) type HeadCell<T> = UnsafeCell<T>;

/// One object pointer of a sheaf. Contexts of one CPU write and read different slots; all others
/// wait for a grace period, so no access needs memory ordering.
#[repr(transparent)]
pub(crate) struct Slot(UnsafeCell<usize>);

// SAFETY: By the protocol of `cursor.rs` a slot is written by one context and read by another that
// is ordered after it, or interrupted by it.
unsafe impl Sync for Slot {}

impl Slot {
    /// The object (`READ_ONCE()`).
    #[inline(always)]
    pub(crate) fn load(&self) -> usize {
        // SAFETY: Valid and aligned; see above.
        unsafe { self.0.get().read_volatile() }
    }

    /// The low 16 bits of the object's address: its first two bytes, as both architectures are
    /// little-endian.
    #[inline(always)]
    pub(crate) fn low_bits(&self) -> u16 {
        // SAFETY: As above.
        unsafe { self.0.get().cast::<u16>().read_volatile() }
    }

    /// Stores `object` (`WRITE_ONCE()`).
    #[inline(always)]
    pub(crate) fn store(&self, object: usize) {
        // SAFETY: As above.
        unsafe { self.0.get().write_volatile(object) };
    }
}
