// SPDX-License-Identifier: GPL-2.0

//! Traits for what algorithm files need of the kernel, so that the host tests can compile these
//! files.

/// Grace periods and the size of a block.
pub(crate) trait Platform {
    /// A grace-period snapshot.
    type Snap: Copy;

    /// Bytes of a block, header included: a page in the kernel.
    const BLOCK_BYTES: usize;

    /// A snapshot of the grace period that covers everything done before the call.
    fn snapshot() -> Self::Snap;

    /// Now, in jiffies.
    fn now() -> u32;

    /// Whether that grace period has ended.
    fn is_over(snap: &Self::Snap) -> bool;
}

/// Contexts of a CPU that allocate blocks or sheaves at a time: a task, a softirq, an interrupt and
/// an NMI. If more are nested, a probe of the allocator's tracepoints frees an object for each
/// allocation, and that object would need the next one.
pub(crate) const MAX_ALLOCATING: usize = 4;

/// A word that only one CPU changes, as this_cpu operations do: atomic, and in program order, for
/// the interrupts and NMIs of that CPU only. Engine `lockless` and the caches are built on such
/// words.
pub(crate) trait LocalWord: Copy {
    fn load(self) -> usize;
    /// Adds `n`. Returns the old value.
    fn fetch_add(self, n: usize) -> usize;
    /// Stores `new` if the value is `old`. Returns the value before.
    fn cmpxchg(self, old: usize, new: usize) -> usize;

    /// Whether the value is 0.
    #[inline]
    fn is_zero(self) -> bool {
        self.load() == 0
    }

    /// Stores `new`. Returns the old value.
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
