// SPDX-License-Identifier: GPL-2.0

//! What a CPU's contexts share among themselves: words that change in one instruction, and lists and
//! slots made of them.

use super::sheaf::{Chain, Closed};
use crate::platform::LocalWord;

/// The value of a [`LocalSlot`] that is disabled for good.
pub(crate) const BARRED: usize = 1;

/// A slot for one pointer; 0: empty.
///
/// The context that changes a value to 0 owns it. ABA does no harm: a value that was taken and put back in
/// between is owned by the slot again.
#[derive(Clone, Copy)]
pub(crate) struct LocalSlot<W>(pub(crate) W);

impl<W: LocalWord> LocalSlot<W> {
    /// Returns whether it holds a pointer, or is disabled ([`BARRED`]).
    #[inline(always)]
    pub(crate) fn is_there(self) -> bool {
        self.0.load() != 0
    }

    /// Takes what is there.
    #[inline(always)]
    pub(crate) fn take(self) -> Option<usize> {
        let mut value = self.0.load();
        while value > BARRED {
            match self.0.cmpxchg(value, 0) {
                was if was == value => return Some(value),
                was => value = was,
            }
        }
        None
    }

    /// Whether `value` is there.
    #[inline(always)]
    pub(crate) fn is(self, value: usize) -> bool {
        self.0.load() == value
    }

    /// Takes `value` if it is there. Returns whether it was.
    #[inline]
    pub(crate) fn remove(self, value: usize) -> bool {
        self.0.load() == value && self.0.cmpxchg(value, 0) == value
    }

    /// Puts `value` there if nothing is. Returns whether it did.
    #[inline(always)]
    pub(crate) fn put(self, value: usize) -> bool {
        self.0.load() == 0 && self.0.cmpxchg(0, value) == 0
    }
}

/// Closed sheaves of this CPU, newest first. Pushed one by one and taken all at once, so that ABA does
/// no harm to a push.
#[derive(Clone, Copy)]
pub(crate) struct LocalList<W> {
    pub(crate) head: W,
    /// The count, for other CPUs to read.
    pub(crate) len: W,
}

impl<W: LocalWord> LocalList<W> {
    /// Adds `sheaf`. Returns how many there are.
    #[inline]
    pub(crate) fn push(self, sheaf: Closed) -> usize {
        self.len.fetch_add(1);
        let mut old = self.head.load();
        loop {
            // SAFETY: A sheaf that was pushed here. If a context that came in between has taken it, it
            // waits for a grace period, and this one for that context: preemption is off.
            let len = unsafe { sheaf.link(old) };
            match self.head.cmpxchg(old, sheaf.addr()) {
                was if was == old => return len,
                was => old = was,
            }
        }
    }

    /// Takes everything.
    #[inline]
    pub(crate) fn take(self) -> Chain {
        if self.head.load() == 0 {
            return Chain::new();
        }
        // SAFETY: What the word leads to was pushed here, and is this caller's from now on.
        let chain = unsafe { Chain::from_first(self.head.xchg(0)) };
        self.len.fetch_add(chain.len().wrapping_neg());
        chain
    }
}
