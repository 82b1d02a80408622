// SPDX-License-Identifier: GPL-2.0

//! What a CPU's contexts share among themselves: words that change in one instruction, and lists and
//! places made of them.

use super::sheaf::{Chain, Closed};

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

/// Room for one pointer; 0 when there is none.
///
/// Whoever changes a value to 0 owns it. That the same value was away and back in between does no
/// harm: it is owned by the place again.
#[derive(Clone, Copy)]
pub(crate) struct Place<W>(pub(crate) W);

impl<W: LocalWord> Place<W> {
    /// Whether there is anything.
    #[inline(always)]
    pub(crate) fn is_there(self) -> bool {
        self.0.load() != 0
    }

    /// Takes what is there.
    #[inline(always)]
    pub(crate) fn take(self) -> Option<usize> {
        let mut value = self.0.load();
        while value != 0 {
            match self.0.cmpxchg(value, 0) {
                was if was == value => return Some(value),
                was => value = was,
            }
        }
        None
    }

    /// Puts `value` there if nothing is. Returns whether it did.
    #[inline(always)]
    pub(crate) fn put(self, value: usize) -> bool {
        self.0.load() == 0 && self.0.cmpxchg(0, value) == 0
    }
}

/// Closed sheaves of this CPU, newest first. Pushed one by one and taken all at once, so that a head
/// that was away and back can't fool a push.
#[derive(Clone, Copy)]
pub(crate) struct LocalList<W>(pub(crate) W);

impl<W: LocalWord> LocalList<W> {
    /// Adds `sheaf`.
    #[inline]
    pub(crate) fn push(self, sheaf: Closed) {
        let mut old = self.0.load();
        loop {
            sheaf.set_next(old);
            match self.0.cmpxchg(old, sheaf.addr()) {
                was if was == old => return,
                was => old = was,
            }
        }
    }

    /// Takes everything.
    #[inline]
    pub(crate) fn take(self) -> Chain {
        if self.0.load() == 0 {
            return Chain::new();
        }
        // SAFETY: What the word leads to was pushed here, and is this caller's from now on.
        unsafe { Chain::from_first(self.0.xchg(0)) }
    }
}
