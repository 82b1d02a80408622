// SPDX-License-Identifier: GPL-2.0

//! What the algorithm files need from outside, so that the module and the host tests compile the
//! same text.

/// Grace periods and the size of a block.
pub(crate) trait Platform {
    /// A grace period that was not over when it was taken.
    type Snap: Copy;

    /// Bytes of a block, header included: a page in the kernel.
    const BLOCK_BYTES: usize;

    /// Names the grace period that covers everything done before the call.
    fn snapshot() -> Self::Snap;

    /// Now, in jiffies.
    fn now() -> u32;

    /// Whether that grace period is over.
    fn is_over(snap: &Self::Snap) -> bool;
}
