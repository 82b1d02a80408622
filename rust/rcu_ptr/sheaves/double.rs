// SPDX-License-Identifier: GPL-2.0

//! Detects an object that was freed twice into one sheaf, before it is allocated again. No kernel
//! dependencies: compiled by the host tests.
//!
//! A small table of marks, indexed by a hash of the address, limits the objects that have to be
//! compared. Each sheaf uses another mark, so that the table is not cleared in between.

use super::{
    geometry::{Slot, SLOTS},
    sheaf::FullSheaf,
};

/// Adjacent objects map to different marks: one for each 16 bytes of 64 KiB.
const MARKS: usize = 1 << (u16::BITS - SHIFT);
const SHIFT: u32 = 4;
/// Slots per unrolled step.
const STEP: usize = 8;

/// The table, for one user at a time. Starts zeroed.
#[repr(C)]
pub(crate) struct Marks {
    marks: [u8; MARKS],
    mark: u8,
}

impl Marks {
    /// Returns a slot of `sheaf` whose object is also in an earlier slot.
    pub(crate) fn find_double(&mut self, sheaf: &FullSheaf) -> Option<usize> {
        if self.mark == u8::MAX {
            self.marks.fill(0);
            self.mark = 0;
        }
        self.mark += 1;
        let mark = self.mark;
        let slots = sheaf.slots();
        let marks = &mut self.marks;
        let mut check = |slot: &Slot| {
            let entry = &mut marks[usize::from(slot.low_bits() >> SHIFT)];
            let marked = *entry == mark;
            *entry = mark;
            marked && is_double(slots, slot)
        };
        let steps = slots.chunks_exact(STEP);
        let rest = steps.remainder();
        let found = 'found: {
            for step in steps {
                for slot in step {
                    if check(slot) {
                        break 'found slot;
                    }
                }
            }
            rest.iter().find(|slot| check(slot))?
        };
        Some(SLOTS - slots.len() + index(slots, found))
    }
}

/// The index of `slot` in `slots`.
fn index(slots: &[Slot], slot: &Slot) -> usize {
    (core::ptr::from_ref(slot).addr() - slots.as_ptr().addr()) / size_of::<Slot>()
}

#[cold]
#[inline(never)]
fn is_double(slots: &[Slot], slot: &Slot) -> bool {
    let object = slot.load();
    slots
        .iter()
        .take(index(slots, slot))
        .any(|before| before.load() == object)
}
