// SPDX-License-Identifier: GPL-2.0

//! Packing of links on the host: as on x86_64, with addresses of the host mapped to the kernel's
//! half and back.

use crate::link::PackedLink;

pub(crate) struct Packing;

type Kernel = PackedLink<56, 0>;
const KERNEL_HALF: u64 = u64::MAX << 56;

fn kernel(next: u64) -> u64 {
    if next == 0 {
        0
    } else {
        next | KERNEL_HALF
    }
}

impl Packing {
    pub(crate) fn pack(next: u64, offset: usize) -> u64 {
        Kernel::pack(kernel(next), offset)
    }

    pub(crate) fn pack_call(next: u64, tags: usize) -> u64 {
        Kernel::pack_call(kernel(next), tags)
    }

    pub(crate) fn tags(word: u64) -> Option<usize> {
        Kernel::tags(word)
    }

    pub(crate) fn next(word: u64) -> u64 {
        Kernel::next(word) & !KERNEL_HALF
    }

    pub(crate) fn offset(word: u64) -> usize {
        Kernel::offset(word)
    }
}
