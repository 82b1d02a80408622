// SPDX-License-Identifier: GPL-2.0

//! The packed link, exhaustively: every offset, both paging depths of x86_64, arm64 with and
//! without tags, addresses that differ in one bit, and both ends of the kernel's half.

use crate::link::{PackedLink, LINK_ALIGN, MAX_OFFSET};

/// Kernel addresses of a configuration: those that differ from the lowest or the highest one in a
/// single bit, and a run from both ends.
fn addresses(va_bits: u32, tags: &[u64]) -> Vec<u64> {
    let low = u64::MAX << va_bits;
    let high = u64::MAX - (LINK_ALIGN as u64 - 1);
    let mut all = vec![low, high];
    for bit in LINK_ALIGN.trailing_zeros()..va_bits {
        all.push(low | 1 << bit);
        all.push(high & !(1 << bit));
    }
    for i in 0..1000 {
        all.push(low + i * LINK_ALIGN as u64);
        all.push(high - i * LINK_ALIGN as u64);
    }
    all.iter()
        .flat_map(|a| tags.iter().map(move |t| (a & (u64::MAX >> 8)) | t << 56))
        .collect()
}

fn check<const VA_BITS: u32, const TAG_BITS: u32>(depth: u32, tags: &[u64]) {
    type P<const V: u32, const T: u32> = PackedLink<V, T>;
    let addresses = addresses(depth, tags);
    for offset in (0..MAX_OFFSET).step_by(LINK_ALIGN) {
        let word = P::<VA_BITS, TAG_BITS>::pack(0, offset);
        assert_eq!(P::<VA_BITS, TAG_BITS>::next(word), 0);
        assert_eq!(P::<VA_BITS, TAG_BITS>::offset(word), offset);
        for &addr in &addresses {
            let word = P::<VA_BITS, TAG_BITS>::pack(addr, offset);
            assert_eq!(
                P::<VA_BITS, TAG_BITS>::next(word),
                addr,
                "address {addr:#x}, offset {offset}"
            );
            assert_eq!(P::<VA_BITS, TAG_BITS>::offset(word), offset);
            assert_eq!(P::<VA_BITS, TAG_BITS>::tags(word), None);
            let tags = offset / LINK_ALIGN;
            let word = P::<VA_BITS, TAG_BITS>::pack_call(addr, tags);
            assert_eq!(P::<VA_BITS, TAG_BITS>::next(word), addr);
            assert_eq!(P::<VA_BITS, TAG_BITS>::tags(word), Some(tags));
        }
    }
}

const UNTAGGED: &[u64] = &[0xff];

tests! {
    x86_64_five_levels: check::<56, 0>(56, UNTAGGED);
    // The module uses one packing for both depths.
    x86_64_four_levels: check::<56, 0>(47, UNTAGGED);
    arm64_52_bits: [52, 48].iter().for_each(|&depth| check::<52, 0>(depth, UNTAGGED));
    arm64_48_bits_with_every_tag: check::<48, 8>(48, &Vec::from_iter((0..=0xff).step_by(5)));
}
