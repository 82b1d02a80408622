// SPDX-License-Identifier: GPL-2.0

//! Blocks, which are pages of pointers to objects: the current word, closed blocks, spare blocks.
//! No kernel dependencies: compiled by the host tests.
//!
//! The current word of a CPU holds both the block that is being filled and its next free slot, so
//! that one instruction reserves a slot. A block is aligned to its size. Its lower part is a
//! header. The slots are filled from the top downwards, and the word is the address of the next
//! free slot:
//!
//! ```text
//!  base                 base + header                            base + block
//!   | header (headroom)     | slot  slot  slot <- next | filled  filled |
//!                                                ^ word
//! ```
//!
//! A reservation subtracts 8 from the word. If the word points into the header (all offset bits
//! above those of the header are clear) there is no free slot. [`Layout::NONE`], which is 8 below
//! [`Layout::HEADER`], means no block. Reservations subtract even if there is no slot. The
//! header has room for these: each such context resets the word before it returns, so only contexts
//! that are nested in each other on one CPU can be outstanding (a task, softirq, hardirq, NMI, and
//! exceptions in them), which are far fewer than [`Layout::HEADROOM`].
//!
//! # Context
//!
//! Any, NMI included, several at once.

use crate::sync::{AtomicLink, Plain};
use core::{marker::PhantomData, ptr::with_exposed_provenance_mut, slice};

/// The size of a pointer slot.
pub(crate) const SLOT: usize = 8;

/// The layout of a block.
pub(crate) trait Layout {
    /// Bytes of a block: a power of two, and its alignment.
    const BLOCK: usize;
    /// Bytes of its header: a power of two.
    const HEADER: usize;

    /// Slots of a block.
    const CAPACITY: usize = (Self::BLOCK - Self::HEADER) / SLOT;
    /// How many contexts of one CPU may find no slot before the first of them has reset the word.
    const HEADROOM: usize = Self::HEADER / SLOT - 1;
    /// The word of a CPU without a block.
    const NONE: usize = Self::HEADER - SLOT;

    /// Whether there is no free slot: the block is full, or there is none.
    #[inline(always)]
    fn is_full(word: usize) -> bool {
        word & (Self::BLOCK - Self::HEADER) == 0
    }

    /// The block of `word`, or 0.
    #[inline(always)]
    fn base(word: usize) -> usize {
        word & !(Self::BLOCK - 1)
    }

    /// The word of an empty block.
    #[inline(always)]
    fn first(base: usize) -> usize {
        base + Self::BLOCK - SLOT
    }

    /// The number of reserved slots in the block of `word`.
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
    /// The next closed block, or 0.
    next: Plain<usize>,
    /// Slots with an object.
    filled: Plain<usize>,
    /// Registered with kmemleak.
    scanned: Plain<bool>,
    /// When it was opened, in jiffies.
    since: Plain<u32>,
    /// The oldest block of the list that begins with this one, and the objects in that list.
    /// Atomic, as the push of the next block reads both while a context that has removed the list
    /// may change them.
    last: AtomicLink,
    total: AtomicLink,
    /// Not 0 if there may be a callback in a slot. Written by the context that has reserved the
    /// slot.
    calls: AtomicLink,
}

/// Makes an empty block of the page at `base`.
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

/// Marks the block of `slot`, which has a callback. Reclaim only searches marked blocks for
/// callbacks.
///
/// # Safety
///
/// As for `BlockFastPath::store()`, which stores the callback.
#[inline(always)]
pub(crate) unsafe fn mark_call<L: Layout>(slot: usize) {
    // ORDERING: None needed, as for the slot: preemption has been disabled since it was reserved,
    // and both are read after the grace period.
    // SAFETY: By the safety requirements of this function, which keep the block from being freed.
    unsafe { header(L::base(slot)) }.calls.store_relaxed(1);
}

/// Whether the block at `base` is registered with kmemleak. With `scan` it counts as such from now
/// on.
///
/// # Safety
///
/// The caller owns the block; or it is this CPU's current one, and preemption is disabled. Not
/// called concurrently for the same block.
pub(crate) unsafe fn is_scanned(base: usize, scan: bool) -> bool {
    // SAFETY: By the safety requirements of this function.
    unsafe {
        let scanned = &header(base).scanned;
        let was = scanned.get();
        scanned.set(was || scan);
        was
    }
}

/// Stamps the block at `base` as opened at `now`, in jiffies.
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
/// There is a block at `base`, by [`begin()`], as long as the reference lives.
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

    pub(crate) fn base(&self) -> usize {
        self.0
    }

    /// Objects and callbacks in the block.
    pub(crate) fn len(&self) -> usize {
        // SAFETY: By the type invariants this is the only owner.
        unsafe { self.header().filled.get() }
    }

    /// When it was opened, in jiffies.
    pub(crate) fn since(&self) -> u32 {
        // SAFETY: By the type invariants this is the only owner.
        unsafe { self.header().since.get() }
    }

    /// Returns the mark of [`mark_call()`], and clears it for the next use of the block.
    ///
    /// # Safety
    ///
    /// As for [`Self::objects()`].
    pub(crate) unsafe fn take_call_mark(&mut self) -> bool {
        // ORDERING: None needed, as for the slots.
        let calls = self.header().calls.load_relaxed() != 0;
        if calls {
            self.header().calls.store_relaxed(0);
        }
        calls
    }

    /// The entries of the objects and callbacks, newest first.
    ///
    /// # Safety
    ///
    /// A grace period has passed since the block was closed: before that, slots may be reserved and
    /// not yet written.
    pub(crate) unsafe fn objects(&mut self) -> &mut [*mut u8] {
        let filled = self.len();
        let start = self.0 + L::BLOCK - filled * SLOT;
        // ORDERING: By the grace period: preemption was disabled until after the stores.
        // SAFETY: By the type invariants the slots are inside the block and reserved, and by the
        // safety requirements of this function they are written.
        unsafe { slice::from_raw_parts_mut(with_exposed_provenance_mut(start), filled) }
    }
}

/// Closed blocks, newest first.
///
/// # Invariants
///
/// The address is 0 or that of a block; `next` of each block is 0 or another one; the value owns
/// them. `total` and `last` of the first one are those of the list.
pub(crate) struct Blocks<L: Layout>(usize, PhantomData<L>);

impl<L: Layout> Blocks<L> {
    pub(crate) const fn new() -> Self {
        Self(0, PhantomData)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0 == 0
    }

    /// The header of the first block, which holds the totals.
    fn first(&self) -> Option<&Header> {
        // SAFETY: By the type invariants.
        (self.0 != 0).then(|| unsafe { header(self.0) })
    }

    /// Objects and callbacks in all blocks.
    pub(crate) fn objects(&self) -> usize {
        self.first().map_or(0, |h| h.total.load_relaxed() as usize)
    }

    /// The oldest block.
    fn last(&self) -> Option<usize> {
        self.first().map(|h| h.last.load_relaxed() as usize)
    }

    /// Puts `newer` in front, in constant time.
    pub(crate) fn append(&mut self, newer: Self) {
        let Some(last) = newer.last() else {
            return;
        };
        if let Some(oldest) = self.last() {
            // INVARIANT: The first block holds the totals of both.
            // SAFETY: By the type invariants of both.
            unsafe {
                header(last).next.set(self.0);
                let (first, total) = (header(newer.0), newer.objects() + self.objects());
                first.last.store_relaxed(oldest as u64);
                first.total.store_relaxed(total as u64);
            }
        }
        // INVARIANT: The blocks of `newer` are linked to those of `self`.
        self.0 = newer.0;
    }

    /// Calls `f` for each block.
    pub(crate) fn for_each(&mut self, mut f: impl FnMut(&mut Block<L>)) {
        let mut next = self.0;
        while next != 0 {
            let mut block = Block(next, PhantomData);
            f(&mut block);
            // SAFETY: By the type invariants this is the only owner.
            next = unsafe { block.header().next.get() };
        }
    }

    /// Removes the newest block.
    pub(crate) fn pop(&mut self) -> Option<Block<L>> {
        if self.0 == 0 {
            return None;
        }
        let block = Block(self.0, PhantomData);
        let (last, total) = (block.header().last.load_relaxed(), self.objects());
        // INVARIANT: The next block becomes the first one, and holds the totals; `block` is owned
        // by itself.
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

/// Closed blocks that wait for a batch: pushed in any context, removed all at once on any CPU.
///
/// # Invariants
///
/// `head` is the `first` of [`Blocks`].
pub(crate) struct ClosedList<L: Layout> {
    head: AtomicLink,
    _layout: PhantomData<L>,
}

impl<L: Layout> ClosedList<L> {
    pub(crate) fn new() -> Self {
        Self {
            head: AtomicLink::new(0),
            _layout: PhantomData,
        }
    }

    /// Adds the block at `base` with `filled` objects. Preemption is disabled, so that a block that
    /// is removed concurrently is neither freed nor pushed again before this returns.
    ///
    /// # Safety
    ///
    /// A closed block is at `base`, by [`begin()`], and is the caller's to give away; its topmost
    /// `filled` slots are reserved.
    pub(crate) unsafe fn push(&self, base: usize, filled: usize) {
        // ORDERING: Acquire, as the header of that block is read: pairs with the cmpxchg below that
        // pushed it.
        let mut old = self.head.load_acquire();
        loop {
            // A concurrent `take()` may remove the list, and its caller change what is read here.
            // Then the cmpxchg fails, as no block is pushed again while preemption is disabled.
            let before = Blocks::<L>(old as usize, PhantomData);
            // SAFETY: By the safety requirements of this function; not shared before the cmpxchg
            // below.
            unsafe {
                let header = header(base);
                let (last, total) = (before.last().unwrap_or(base), filled + before.objects());
                header.next.set(old as usize);
                header.filled.set(filled);
                header.last.store_relaxed(last as u64);
                header.total.store_relaxed(total as u64);
            }
            // ORDERING: Full on success; pairs with the xchg in `take()`. A grace period that
            // starts after that starts after every unlink of an object in the block, all of which
            // are before the close in the program order of this CPU.
            match self.head.cmpxchg_full(old, base as u64) {
                Ok(_) => return,
                Err(_) => old = self.head.load_acquire(),
            }
        }
    }

    /// Removes everything.
    pub(crate) fn take(&self) -> Blocks<L> {
        if self.head.load_relaxed() == 0 {
            return Blocks::new();
        }
        // ORDERING: Full; pairs with the cmpxchg in `push()`.
        // INVARIANT: The value owns what was in the list.
        Blocks(self.head.xchg_full(0) as usize, PhantomData)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head.load_relaxed() == 0
    }

    /// The address of the head, for watchpoints.
    pub(crate) fn head_address(&self) -> usize {
        (&raw const self.head).addr()
    }
}

// Spare blocks.

/// The maximum of spare blocks per CPU; few under loom, which tries every order.
pub(crate) const MAX_SPARES: usize = if cfg!(loom) { 4 } else { 64 };

/// Unused blocks, a slot each: an address, or 0.
pub(crate) struct Spares([AtomicLink; MAX_SPARES]);

impl Spares {
    pub(crate) fn new() -> Self {
        Self(core::array::from_fn(|_| AtomicLink::new(0)))
    }

    /// Removes a block.
    pub(crate) fn take(&self) -> Option<usize> {
        self.0.iter().find_map(|slot| {
            if slot.load_relaxed() == 0 {
                return None;
            }
            // ORDERING: Full; pairs with the cmpxchg in `try_put()`, which publishes the block.
            match slot.xchg_full(0) {
                0 => None,
                base => Some(base as usize),
            }
        })
    }

    /// Adds a block if one of the first `limit()` slots is free; otherwise calls `excess` with it.
    /// If the limit was lowered meanwhile, `excess` is also called for each block beyond it.
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
        // ORDERING: Either `trim()` has found this block, or the cmpxchg in `try_put()` came after
        // the xchg of `trim()`, and the limit that was stored before that is seen here.
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

    /// Calls `excess` with all blocks beyond the first `limit` slots, after the limit has been
    /// lowered.
    pub(crate) fn trim(&self, limit: usize, mut excess: impl FnMut(usize)) {
        for slot in &self.0[limit.min(MAX_SPARES)..] {
            // ORDERING: Full, whether there is a block or not; see `put()`.
            let base = slot.xchg_full(0);
            if base != 0 {
                excess(base as usize);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0
            .iter()
            .filter(|slot| slot.load_relaxed() != 0)
            .count()
    }
}
