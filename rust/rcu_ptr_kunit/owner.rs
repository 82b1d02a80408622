// SPDX-License-Identifier: GPL-2.0

//! Objects that own memory, and a book of what became of them: each has to be dropped once, and not
//! while a reader has it.

use crate::{
    rcu_ptr::{Cache, RcuKBox},
    sys::cpu,
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
    },
};

/// What became of the objects of a test.
pub(crate) struct Book {
    made: Atomic<usize>,
    dropped: Atomic<usize>,
    /// Dropped with BH off; in a task that may sleep.
    pub(crate) bh_off: Atomic<usize>,
    pub(crate) in_task: Atomic<usize>,
    /// Dropped though they had been already; found to be broken when they were dropped.
    pub(crate) twice: Atomic<usize>,
    pub(crate) broken: Atomic<usize>,
    /// Looks of readers; and those that saw an object dropped, or broken.
    pub(crate) looks: Atomic<usize>,
    pub(crate) early: Atomic<usize>,
}

fn count(n: &Atomic<usize>, what: bool) {
    n.fetch_add(usize::from(what), Relaxed);
}

impl Book {
    pub(crate) const fn new() -> Self {
        Self {
            made: Atomic::new(0),
            dropped: Atomic::new(0),
            bh_off: Atomic::new(0),
            in_task: Atomic::new(0),
            twice: Atomic::new(0),
            broken: Atomic::new(0),
            looks: Atomic::new(0),
            early: Atomic::new(0),
        }
    }

    pub(crate) fn made(&self) -> usize {
        self.made.load(Relaxed)
    }

    pub(crate) fn dropped(&self) -> usize {
        self.dropped.load(Relaxed)
    }

    /// Every object has been dropped once, intact, and no reader saw it.
    pub(crate) fn is_even(&self) -> bool {
        let [twice, broken, early] =
            [&self.twice, &self.broken, &self.early].map(|n| n.load(Relaxed));
        let (made, dropped) = (self.made(), self.dropped());
        let even = made == dropped && twice == 0 && broken == 0 && early == 0;
        if !even {
            pr_info!(
                "{made} made, {dropped} dropped: {twice} twice, {broken} broken, {early} early\n"
            );
        }
        even
    }
}

const LIVE: u64 = 0x11fe_11fe_11fe_11fe;
const DROPPED: u64 = 0xdead_0000_0000_dead;

/// Owns a word of its own, and a reference if it is given one.
pub(crate) struct Owner {
    book: &'static Book,
    pub(crate) key: u64,
    state: Atomic<u64>,
    owned: RcuKBox<u64>,
    _shared: Option<Arc<u64>>,
}

impl Owner {
    fn around(
        book: &'static Book,
        key: u64,
        owned: RcuKBox<u64>,
        shared: Option<Arc<u64>>,
    ) -> Self {
        count(&book.made, true);
        Self {
            book,
            key,
            state: Atomic::new(LIVE),
            owned,
            _shared: shared,
        }
    }

    /// # Context
    ///
    /// May sleep.
    pub(crate) fn new(book: &'static Book, key: u64) -> Result<Self> {
        Ok(Self::around(
            book,
            key,
            RcuKBox::new(!key, GFP_KERNEL)?,
            None,
        ))
    }

    /// As [`Self::new()`], with a reference to `shared`.
    pub(crate) fn sharing(book: &'static Book, key: u64, shared: &Arc<u64>) -> Result<Self> {
        let owned = RcuKBox::new(!key, GFP_KERNEL)?;
        Ok(Self::around(book, key, owned, Some(shared.clone())))
    }

    /// # Context
    ///
    /// Any, NMI included.
    pub(crate) fn new_nolock(book: &'static Book, key: u64) -> Option<Self> {
        let owned = RcuKBox::new_nolock(!key).ok()?;
        Some(Self::around(book, key, owned, None))
    }

    fn is_intact(&self) -> bool {
        self.state.load(Relaxed) == LIVE && *self.owned == !self.key
    }

    /// A reader's look: it takes a while, and must not see the object go.
    pub(crate) fn look(&self) {
        let intact = (0..20).all(|_| self.is_intact());
        count(&self.book.looks, true);
        count(&self.book.early, !intact);
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let state = self.state.xchg(DROPPED, Relaxed);
        count(&self.book.twice, state == DROPPED);
        count(
            &self.book.broken,
            state != LIVE && state != DROPPED || *self.owned != !self.key,
        );
        count(&self.book.bh_off, cpu::is_bh_off());
        count(&self.book.in_task, cpu::may_sleep());
        count(&self.book.dropped, true);
    }
}

/// Owns the next one: the drop of each starts the wait of the next.
#[pin_data]
pub(crate) struct Link {
    pub(crate) owner: Owner,
    pub(crate) next: Option<RcuKBox<Link>>,
}

/// Links in a chain.
pub(crate) const CHAIN: u64 = 8;

/// A chain, by its first link.
///
/// # Context
///
/// May sleep.
pub(crate) fn chain(book: &'static Book) -> Result<Option<RcuKBox<Link>>> {
    let mut next = None;
    for key in 0..CHAIN {
        let owner = Owner::new(book, key)?;
        next = Some(RcuKBox::new(Link { owner, next }, GFP_KERNEL)?);
    }
    Ok(next)
}

/// Drops a chain, and doesn't wait for it.
///
/// # Context
///
/// May sleep.
pub(crate) fn leave_chain() -> Result {
    static BOOK: Book = Book::new();
    chain(&BOOK).map(drop)
}

/// Frees objects of a cache that is never destroyed, and doesn't wait for their destructors.
///
/// # Context
///
/// May sleep.
pub(crate) fn forget_cache(objects: usize) -> Result {
    static BOOK: Book = Book::new();
    let cache = Cache::new(c"rcu_ptr_forgotten_rs")?;
    for key in 0..objects as u64 {
        drop(cache.alloc(Owner::new(&BOOK, key)?, GFP_KERNEL)?.share());
    }
    core::mem::forget(cache);
    Ok(())
}
