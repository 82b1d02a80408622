// SPDX-License-Identifier: GPL-2.0

//! The 8-byte link: the address of the next link, and the offset of the field in its object, in one
//! word.
//!
//! The kernel's kvfree_rcu() has the start of the object in the second word of the `rcu_head`. Here
//! the offset of the field, a multiple of 8 below 4096, needs 9 bits. A kernel address has more
//! than that to spare: the alignment bits, and the bits above the virtual address space, which are
//! all ones.
//!
//! ```text
//!   63     VA_BITS+1 VA_BITS                     0
//!  +----------------+-----------------------------+
//!  |  1 .. 1 (tag)  |     next, bits 3..=VA_BITS  |  address of the next link
//!  +----------------+-----------------------------+
//!
//!  +---------+----+-----------------------------+------+
//!  |  tag    |call| next, bits 3..=VA_BITS      |offset|  the word
//!  +---------+----+-----------------------------+------+
//! ```
//!
//! A callback is linked through its `rcu_head`: bit "call" is set, and the bits of the offset have
//! the tags of the callback (entry.rs).

/// Offsets are multiples of this, and links are aligned to it.
pub(crate) const LINK_ALIGN: usize = 8;
/// Offsets are below this.
pub(crate) const MAX_OFFSET: usize = 4096;

const ALIGN_BITS: u32 = LINK_ALIGN.trailing_zeros();
const OFFSET_BITS: u32 = (MAX_OFFSET / LINK_ALIGN).trailing_zeros();

/// The layout for kernel addresses that have all bits from `VA_BITS` upwards set, up to bit 63
/// (`TAG_BITS` == 0) or up to a tag in the topmost `TAG_BITS` bits.
///
/// Bit `VA_BITS` itself, which is always set, is kept: so no address packs to 0, which means that
/// there is no next link. It is the sign bit of a packed address: sign extension sets the bits
/// above it, and 0 stays 0.
pub(crate) struct PackedLink<const VA_BITS: u32, const TAG_BITS: u32>;

impl<const VA_BITS: u32, const TAG_BITS: u32> PackedLink<VA_BITS, TAG_BITS> {
    const ADDR_BITS: u32 = VA_BITS + 1 - ALIGN_BITS;

    const FITS: () = assert!(
        OFFSET_BITS + Self::ADDR_BITS + 1 + TAG_BITS <= u64::BITS && VA_BITS + TAG_BITS < u64::BITS,
        "rcu_ptr: kernel addresses of this configuration have too few unused bits for an 8-byte \
         link: use fewer address bits (CONFIG_ARM64_VA_BITS_48) or no KASAN tags"
    );

    /// The bits of a word above those of the address.
    const ABOVE: u32 = u64::BITS - OFFSET_BITS - Self::ADDR_BITS;
    /// From an address to one whose topmost bit that is kept is the sign of a word.
    const UP: u32 = Self::ABOVE + OFFSET_BITS - ALIGN_BITS;
    const OFFSET_MASK: u64 = (1 << OFFSET_BITS) - 1;
    /// Set in the word of a callback.
    const CALL: u64 = 1 << (OFFSET_BITS + Self::ADDR_BITS);
    /// The topmost `TAG_BITS` bits.
    const TAG_MASK: u64 = !(u64::MAX >> TAG_BITS);

    /// The word of an object whose field is at `offset`, a multiple of 8 below 4096. `next` is the
    /// address of the next link, or 0.
    #[inline]
    pub(crate) const fn pack(next: u64, offset: usize) -> u64 {
        let () = Self::FITS;
        let offset = (offset as u64) >> ALIGN_BITS;
        (next & Self::TAG_MASK) | (next << Self::UP >> Self::ABOVE) | offset
    }

    /// The word of a callback with these tags, a number below 512.
    #[inline]
    pub(crate) const fn pack_call(next: u64, tags: usize) -> u64 {
        Self::pack(next, tags << ALIGN_BITS) | Self::CALL
    }

    /// The tags, or `None` for the word of an object.
    #[inline]
    pub(crate) const fn tags(word: u64) -> Option<usize> {
        if word & Self::CALL == 0 {
            return None;
        }
        Some(Self::offset(word) >> ALIGN_BITS)
    }

    /// The address of the next link, or 0.
    #[inline]
    pub(crate) const fn next(word: u64) -> u64 {
        let () = Self::FITS;
        // An arithmetic shift, which extends the sign.
        let addr = ((word << Self::ABOVE) as i64 >> Self::UP) as u64 & !(LINK_ALIGN as u64 - 1);
        (word & Self::TAG_MASK) | (addr & !Self::TAG_MASK)
    }

    /// The offset of the field in its object.
    #[inline]
    pub(crate) const fn offset(word: u64) -> usize {
        ((word & Self::OFFSET_MASK) << ALIGN_BITS) as usize
    }
}
