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

/// A word that only contexts of one CPU change: what the algorithms of engine `lockless` and of the caches are made
/// of. Its operations are atomic against this CPU's own interrupts and NMIs, and keep program order as these see it;
/// nothing else.
pub(crate) trait LocalWord: Copy {
    /// Reads it.
    fn load(self) -> usize;
    /// Adds `n` and returns what was there before.
    fn fetch_add(self, n: usize) -> usize;
    /// Exchanges `old` for `new` if `old` is there; returns what was.
    fn cmpxchg(self, old: usize, new: usize) -> usize;

    /// Exchanges whatever is there for `new`.
    #[inline]
    fn xchg(self, new: usize) -> usize {
        let mut old = self.load();
        loop {
            match self.cmpxchg(old, new) {
                was if was == old => return old,
                was => old = was,
            }
        }
    }
}
