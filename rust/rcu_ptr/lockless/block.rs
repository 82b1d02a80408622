// SPDX-License-Identifier: GPL-2.0

//! The block: a page of pointers to objects. Its current word, what it is when it is closed, and where it
//! is when it is unused. No kernel in here: the host tests compile it too.
//!
//! The current word of a CPU says which block is being filled, and its next free slot, so that one
//! instruction reserves a slot. A block is aligned to its size. Its lower part is a header, slots fill the
//! rest from the top downwards; the word is the address of the next free slot:
//!
//! ```text
//!  base                 base + header                            base + block
//!   | header (headroom)     | slot  slot  slot <- next | filled  filled |
//!                                                ^ word
//! ```
//!
//! To reserve is to subtract 8 from the word. A word that points into the header (all offset bits
//! above the header's are clear) means that there is no slot; no block at all is the topmost word of
//! a header at address 0. Reservations that find no slot go on subtracting, which the rest of the
//! header has room for: each such context puts the word right before it returns, so the outstanding
//! ones are those of contexts nested in each other on one CPU, and there are far fewer than
//! [`Layout::HEADROOM`] levels of those (a task, softirq, hardirq, NMI, and exceptions in them).
//!
//! # Context
//!
//! Any, NMI included, several at once.

use crate::sync::{AtomicLink, Plain};
use core::{marker::PhantomData, ptr::with_exposed_provenance_mut, slice};

/// The size of a pointer slot.
pub(crate) const SLOT: usize = 8;

/// Sizes of a block.
pub(crate) trait Layout {
    /// Bytes of a block: a power of two, and its alignment.
    const BLOCK: usize;
    /// Bytes of its header: a power of two.
    const HEADER: usize;

    /// Slots of a block.
    const CAPACITY: usize = (Self::BLOCK - Self::HEADER) / SLOT;
    /// Contexts of one CPU that may find no slot before the first of them has put the word right.
    const HEADROOM: usize = Self::HEADER / SLOT - 1;
    /// No block, no slot.
    const NONE: usize = Self::HEADER - SLOT;

    /// Whether `word` names no slot: its block is full, or there is none.
    #[inline(always)]
    fn is_full(word: usize) -> bool {
        word & (Self::BLOCK - Self::HEADER) == 0
    }

    /// The block of `word`; 0: none.
    #[inline(always)]
    fn base(word: usize) -> usize {
        word & !(Self::BLOCK - 1)
    }

    /// The word of an empty block.
    #[inline(always)]
    fn first(base: usize) -> usize {
        base + Self::BLOCK - SLOT
    }

    /// Slots of the block of `word` that are reserved, [`Layout::CAPACITY`] at most.
    #[inline(always)]
    fn filled(word: usize) -> usize {
        if Self::is_full(word) {
            Self::CAPACITY
        } else {
            (Self::first(Self::base(word)) - word) / SLOT
        }
    }
}

/// The header of a block.
#[repr(C)]
struct Header {
    /// The next closed block, 0: none.
    next: Plain<usize>,
    /// Slots with an object.
    filled: Plain<usize>,
    /// kmemleak looks for pointers in here.
    scanned: Plain<bool>,
    /// When it was taken into use, in jiffies.
    since: Plain<u32>,
    /// The oldest block of the list that begins with this one, and the objects in that list. Atomic: the push
    /// of the next block reads both, while the context that took the list meanwhile may change them.
    last: AtomicLink,
    total: AtomicLink,
    /// Not 0: there may be a callback in a slot. Written by the context that
    /// reserved the slot, after it did.
    calls: AtomicLink,
}

/// Begins the life of the page at `base` as a block.
///
/// # Safety
///
/// `L::BLOCK` bytes, aligned to that, owned by the caller.
pub(crate) unsafe fn begin<L: Layout>(base: usize, scanned: bool) {
    const { assert!(size_of::<Header>() <= L::HEADER) };
    let header = Header {
        next: Plain::new(0),
        filled: Plain::new(0),
        scanned: Plain::new(scanned),
        since: Plain::new(0),
        last: AtomicLink::new(0),
        total: AtomicLink::new(0),
        calls: AtomicLink::new(0),
    };
    // SAFETY: By the safety requirements of this function.
    unsafe { with_exposed_provenance_mut::<Header>(base).write(header) };
}

/// Marks the block of `slot` as one with a callback: reclaim looks for callbacks in these only.
///
/// # Safety
///
/// As for `BlockFastPath::store()`, which stores the callback.
#[inline(always)]
pub(crate) unsafe fn mark_call<L: Layout>(slot: usize) {
    // ORDERING: None is needed, as for the slot: preemption has been off since it was reserved, and both are
    // read after the grace period.
    // SAFETY: By the safety requirements of this function the block can't be freed meanwhile.
    unsafe { header(L::base(slot)) }.calls.store_relaxed(1);
}

/// Whether kmemleak looks for pointers in the block at `base`; it does from now on if `scan`.
///
/// # Safety
///
/// The block can't be freed meanwhile: its owner asks, or it is this CPU's current one and
/// preemption is off. It is not called concurrently.
pub(crate) unsafe fn is_scanned(base: usize, scan: bool) -> bool {
    // SAFETY: By the safety requirements of this function.
    unsafe {
        let scanned = &header(base).scanned;
        let was = scanned.get();
        scanned.set(was || scan);
        was
    }
}

/// The block at `base` is taken into use at `now`, in jiffies.
///
/// # Safety
///
/// The caller owns it.
pub(crate) unsafe fn stamp(base: usize, now: u32) {
    // SAFETY: By the safety requirements of this function.
    unsafe { header(base).since.set(now) };
}

/// # Safety
///
/// A block is at `base`, begun by [`begin()`], and stays one while the reference lives.
unsafe fn header<'a>(base: usize) -> &'a Header {
    // SAFETY: By the safety requirements of this function.
    unsafe { &*with_exposed_provenance_mut(base) }
}

/// An owned block, with objects in its topmost slots.
///
/// # Invariants
///
/// `base` is the address of `L::BLOCK` bytes, aligned to that, owned by this value, with a header;
/// `filled` of its slots are reserved.
#[must_use = "a block and its objects are lost"]
pub(crate) struct Block<L: Layout>(usize, PhantomData<L>);

impl<L: Layout> Block<L> {
    fn header(&self) -> &Header {
        // SAFETY: By the type invariants.
        unsafe { header(self.0) }
    }

    /// Its address.
    pub(crate) fn base(&self) -> usize {
        self.0
    }

    /// Objects in it.
    pub(crate) fn len(&self) -> usize {
        // SAFETY: By the type invariants this is the only owner.
        unsafe { self.header().filled.get() }
    }

    /// When it was taken into use, in jiffies.
    pub(crate) fn since(&self) -> u32 {
        // SAFETY: By the type invariants this is the only owner.
        unsafe { self.header().since.get() }
    }

    /// Whether there may be callbacks among the objects. Clears the mark: what is stored later sets it again.
    ///
    /// # Safety
    ///
    /// As for [`Self::objects()`].
    pub(crate) unsafe fn take_calls(&mut self) -> bool {
        // ORDERING: As for the slots.
        let calls = self.header().calls.load_relaxed() != 0;
        if calls {
            self.header().calls.store_relaxed(0);
        }
        calls
    }

    /// The objects, and the callbacks: the words of entry.rs, the last that was taken first.
    ///
    /// # Safety
    ///
    /// A grace period has passed since the block was closed: until then slots may be reserved but
    /// not yet stored to.
    pub(crate) unsafe fn objects(&mut self) -> &mut [*mut u8] {
        let filled = self.len();
        let start = self.0 + L::BLOCK - filled * SLOT;
        // ORDERING: The stores were made with preemption disabled before the grace period ended.
        // SAFETY: By the type invariants the slots are inside the block and reserved, and by the
        // safety requirements of this function stored to.
        unsafe { slice::from_raw_parts_mut(with_exposed_provenance_mut(start), filled) }
    }
}

/// Closed blocks, newest first.
///
/// # Invariants
///
/// `first` is 0 or a block; the `next` of each is 0 or another; the chain owns them. `total` and
/// `last` of the first are right.
pub(crate) struct Blocks<L: Layout>(usize, PhantomData<L>);

impl<L: Layout> Blocks<L> {
    /// No blocks.
    pub(crate) const fn new() -> Self {
        Self(0, PhantomData)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0 == 0
    }

    /// The header of the first, which knows the sums.
    fn first(&self) -> Option<&Header> {
        // SAFETY: By the type invariants.
        (self.0 != 0).then(|| unsafe { header(self.0) })
    }

    /// Objects in all of them.
    pub(crate) fn objects(&self) -> usize {
        self.first().map_or(0, |h| h.total.load_relaxed() as usize)
    }

    /// The oldest block.
    fn last(&self) -> Option<usize> {
        self.first().map(|h| h.last.load_relaxed() as usize)
    }

    /// Takes `newer` in, in a few steps however many they are.
    pub(crate) fn append(&mut self, newer: Self) {
        let Some(last) = newer.last() else {
            return;
        };
        if let Some(oldest) = self.last() {
            // INVARIANT: The first one knows the sums of both.
            // SAFETY: By the type invariants of both.
            unsafe {
                header(last).next.set(self.0);
                let (first, total) = (header(newer.0), newer.objects() + self.objects());
                first.last.store_relaxed(oldest as u64);
                first.total.store_relaxed(total as u64);
            }
        }
        // INVARIANT: The chain of `newer` leads to that of `self` now.
        self.0 = newer.0;
    }

    /// Calls `f` for each.
    pub(crate) fn for_each(&mut self, mut f: impl FnMut(&mut Block<L>)) {
        let mut next = self.0;
        while next != 0 {
            let mut block = Block(next, PhantomData);
            f(&mut block);
            // SAFETY: By the type invariants this is the only owner.
            next = unsafe { block.header().next.get() };
        }
    }

    /// Takes the newest.
    pub(crate) fn pop(&mut self) -> Option<Block<L>> {
        if self.0 == 0 {
            return None;
        }
        let block = Block(self.0, PhantomData);
        let (last, total) = (block.header().last.load_relaxed(), self.objects());
        // INVARIANT: The rest stays, and its first block knows the sums; `block` owns the first from
        // now on.
        // SAFETY: By the type invariants this is the only owner.
        unsafe {
            self.0 = block.header().next.get();
            if self.0 != 0 {
                let next = header(self.0);
                next.last.store_relaxed(last);
                next.total.store_relaxed((total - block.len()) as u64);
            }
        }
        Some(block)
    }
}

/// Closed blocks that wait for a batch: pushed in any context, taken all at once on any CPU.
///
/// # Invariants
///
/// `head` is the `first` of [`Blocks`].
pub(crate) struct ClosedList<L: Layout> {
    head: AtomicLink,
    _layout: PhantomData<L>,
}

impl<L: Layout> ClosedList<L> {
    /// No blocks.
    pub(crate) fn new() -> Self {
        Self {
            head: AtomicLink::new(0),
            _layout: PhantomData,
        }
    }

    /// Adds the block at `base` with `filled` objects. Preemption is off, so that a block that is taken
    /// meanwhile can't be freed, nor come back, before this is done.
    ///
    /// # Safety
    ///
    /// The block, begun by [`begin()`], is the caller's to give away: `L::BLOCK` bytes aligned to that, its topmost
    /// `filled` slots reserved, closed.
    pub(crate) unsafe fn push(&self, base: usize, filled: usize) {
        // ORDERING: Pairs with the exchange below that pushed the block: its header is read.
        let mut old = self.head.load_acquire();
        loop {
            // The list may have been taken by now, and its new owner change what is read here. Then
            // the exchange fails: a block does not come back while preemption is off.
            let before = Blocks::<L>(old as usize, PhantomData);
            // SAFETY: By the safety requirements of this function; the block is not shared before the
            // exchange below.
            unsafe {
                let header = header(base);
                let (last, total) = (before.last().unwrap_or(base), filled + before.objects());
                header.next.set(old as usize);
                header.filled.set(filled);
                header.last.store_relaxed(last as u64);
                header.total.store_relaxed(total as u64);
            }
            // ORDERING: Full on success. The context that takes the list and starts a grace period then starts it
            // after every unlink of an object in the block: those were before the close in the
            // program order of this CPU. Pairs with the exchange in `take()`.
            match self.head.cmpxchg_full(old, base as u64) {
                Ok(_) => return,
                Err(_) => old = self.head.load_acquire(),
            }
        }
    }

    /// Takes everything.
    pub(crate) fn take(&self) -> Blocks<L> {
        if self.head.load_relaxed() == 0 {
            return Blocks::new();
        }
        // ORDERING: Full; pairs with the exchange in `push()`.
        // INVARIANT: The chain gets what the head led to.
        Blocks(self.head.xchg_full(0) as usize, PhantomData)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.head.load_relaxed() == 0
    }

    /// The address of the head, for watchpoints.
    pub(crate) fn word(&self) -> usize {
        (&raw const self.head).addr()
    }
}

// Spare blocks.

/// The most spare blocks per CPU; few where loom tries every order.
pub(crate) const MAX_SPARES: usize = if cfg!(loom) { 4 } else { 64 };

/// Addresses of unused blocks; 0: none.
pub(crate) struct Spares([AtomicLink; MAX_SPARES]);

impl Spares {
    /// No blocks.
    pub(crate) fn new() -> Self {
        Self(core::array::from_fn(|_| AtomicLink::new(0)))
    }

    /// Takes one.
    pub(crate) fn take(&self) -> Option<usize> {
        self.0.iter().find_map(|slot| {
            if slot.load_relaxed() == 0 {
                return None;
            }
            // ORDERING: Full; pairs with the exchange in `put()`: the block is as it was left.
            match slot.xchg_full(0) {
                0 => None,
                base => Some(base as usize),
            }
        })
    }

    /// Keeps a block if one of the first `limit()` slots is free. Otherwise, and if the limit has been
    /// lowered meanwhile, `excess` gets what is too much.
    pub(crate) fn put(
        &self,
        base: usize,
        limit: impl Fn() -> usize,
        mut excess: impl FnMut(usize),
    ) {
        let before = limit();
        if !self.try_put(base, before) {
            return excess(base);
        }
        // ORDERING: The exchange in `put()` came before that in `trim()`, which then found the block; or
        // it read what that left, and the limit that was stored before that is seen here.
        let now = limit();
        if now < before {
            self.trim(now, excess);
        }
    }

    fn try_put(&self, base: usize, limit: usize) -> bool {
        self.0[..limit.min(MAX_SPARES)]
            .iter()
            .any(|slot| slot.load_relaxed() == 0 && slot.cmpxchg_full(0, base as u64).is_ok())
    }

    /// Gives all blocks beyond the first `limit` slots to `excess`, now that no more are to be kept.
    pub(crate) fn trim(&self, limit: usize, mut excess: impl FnMut(usize)) {
        for slot in &self.0[limit.min(MAX_SPARES)..] {
            // ORDERING: Full, whether there is a block or not; see `put()`.
            let base = slot.xchg_full(0);
            if base != 0 {
                excess(base as usize);
            }
        }
    }

    /// The number of spare blocks.
    pub(crate) fn len(&self) -> usize {
        self.0
            .iter()
            .filter(|slot| slot.load_relaxed() != 0)
            .count()
    }
}
