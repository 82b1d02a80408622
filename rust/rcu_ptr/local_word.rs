// SPDX-License-Identifier: GPL-2.0

//! A word that only contexts of one CPU change: what the algorithms of engine `lockless` and of the caches
//! are made of. sync.rs has the kernel's, the host tests have their own.

/// A word of this CPU. Its operations are atomic against this CPU's own interrupts and NMIs, and
/// keep program order as these see it; nothing else.
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
