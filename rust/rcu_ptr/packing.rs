// SPDX-License-Identifier: GPL-2.0

//! The layout of a link in this kernel's configuration.

use crate::link::PackedLink;

/// Both x86_64 paging depths: with 5 levels bits 56..63 of a kernel address are ones, with 4 levels
/// bits 47..63.
#[cfg(CONFIG_X86_64)]
pub(crate) type Packing = PackedLink<56, 0>;

#[cfg(all(CONFIG_ARM64, any(CONFIG_KASAN_SW_TAGS, CONFIG_KASAN_HW_TAGS)))]
const TAG_BITS: u32 = 8;
#[cfg(all(CONFIG_ARM64, not(any(CONFIG_KASAN_SW_TAGS, CONFIG_KASAN_HW_TAGS))))]
const TAG_BITS: u32 = 0;

/// arm64: the top byte of an address is a tag under KASAN's tag-based modes.
#[cfg(all(CONFIG_ARM64, CONFIG_ARM64_VA_BITS_52))]
pub(crate) type Packing = PackedLink<52, TAG_BITS>;
/// arm64: the top byte of an address is a tag under KASAN's tag-based modes.
#[cfg(all(CONFIG_ARM64, not(CONFIG_ARM64_VA_BITS_52)))]
pub(crate) type Packing = PackedLink<48, TAG_BITS>;

/// A bit that is set in every kernel address and in no user address.
#[cfg(CONFIG_X86_64)]
pub(crate) const KERNEL_BIT: u32 = 63;
/// A bit that is set in every kernel address and in no user address: above it there may be a tag.
#[cfg(CONFIG_ARM64)]
pub(crate) const KERNEL_BIT: u32 = 55;
