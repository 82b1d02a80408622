// SPDX-License-Identifier: GPL-2.0

//! Detects an object that was freed twice into one sheaf, before it is allocated again.
//!
//! A small table of marks, found by a hash of the address, tells which objects have to be compared. A mark is good for one sheaf, so that nothing has to be
//! cleared between two.

use super::{
    geometry::{Slot, SLOTS},
    sheaf::FullSheaf,
};

/// One for each 16 bytes of 64 KiB, so that neighbours have one each.
const MARKS: usize = 1 << (u16::BITS - SHIFT);
const SHIFT: u32 = 4;
/// Slots that are looked at in one go.
const STEP: usize = 8;

/// The marks, of one user at a time. All zeroes: nothing was seen.
#[repr(C)]
pub(crate) struct Marks {
    marks: [u8; MARKS],
    /// The mark of the last sheaf.
    mark: u8,
}

impl Marks {
    /// A slot of `sheaf` whose object is in a slot before it as well.
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

/// Which of `slots` it is.
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
