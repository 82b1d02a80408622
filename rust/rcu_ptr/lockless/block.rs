// SPDX-License-Identifier: GPL-2.0

//! Blocks with objects in them: a closed block, and the list of closed blocks that wait for a batch.

use super::word::{Layout, SLOT};
use crate::sync::{AtomicLink, Plain};
use core::{marker::PhantomData, ptr::with_exposed_provenance_mut, slice};

/// Start of a block.
#[repr(C)]
struct Header {
    /// The next closed block, 0: none.
    next: Plain<u64>,
    /// Slots with an object.
    filled: Plain<usize>,
    /// kmemleak looks for pointers in here.
    scanned: Plain<bool>,
    /// The oldest of this block and those after it, and objects in all of them. The push of the next
    /// block reads both, while the new owner of a list that was taken meanwhile may change them.
    last: AtomicLink,
    total: AtomicLink,
}

/// Begins the life of the page at `base` as a block.
///
/// # Safety
///
/// `L::BLOCK` bytes, aligned to that, owned by the caller.
pub(crate) unsafe fn begin<L: Layout>(base: u64, scanned: bool) {
    const { assert!(size_of::<Header>() as u64 <= L::HEADER) };
    // SAFETY: By the safety requirements of this function.
    unsafe {
        with_exposed_provenance_mut::<Header>(base as usize).write(Header {
            next: Plain::new(0),
            filled: Plain::new(0),
            scanned: Plain::new(scanned),
            last: AtomicLink::new(0),
            total: AtomicLink::new(0),
        })
    };
}

/// Whether kmemleak looks for pointers in the block at `base`; it does from now on if `scan`.
///
/// # Safety
///
/// The block can't be freed meanwhile: its owner asks, or it is this CPU's current one and
/// preemption is off. Nobody else asks at the same time.
pub(crate) unsafe fn is_scanned(base: u64, scan: bool) -> bool {
    // SAFETY: By the safety requirements of this function.
    unsafe {
        let header = header(base);
        let was = header.scanned.get();
        if scan {
            header.scanned.set(true);
        }
        was
    }
}

/// # Safety
///
/// A block is at `base`, begun by [`begin()`], and stays one while the reference lives.
unsafe fn header<'a>(base: u64) -> &'a Header {
    // SAFETY: By the safety requirements of this function.
    unsafe { &*with_exposed_provenance_mut(base as usize) }
}

/// An owned block, with objects in its topmost slots.
///
/// # Invariants
///
/// `base` is the address of `L::BLOCK` bytes, aligned to that, owned by this value, with a header;
/// `filled` of its slots are reserved.
#[must_use = "a block and its objects are lost"]
pub(crate) struct Block<L: Layout>(u64, PhantomData<L>);

impl<L: Layout> Block<L> {
    fn header(&self) -> &Header {
        // SAFETY: By the type invariants.
        unsafe { header(self.0) }
    }

    /// Where it is.
    pub(crate) fn base(&self) -> u64 {
        self.0
    }

    /// Objects in it.
    pub(crate) fn len(&self) -> usize {
        // SAFETY: By the type invariants this is the only owner.
        unsafe { self.header().filled.get() }
    }

    /// The objects.
    ///
    /// # Safety
    ///
    /// A grace period has passed since the block was closed: until then slots may be reserved but
    /// not yet stored to.
    pub(crate) unsafe fn objects(&mut self) -> &mut [*mut u8] {
        let filled = self.len();
        let start = self.0 + L::BLOCK - filled as u64 * SLOT;
        // ORDERING: The stores were made with preemption off before the grace period ended.
        // SAFETY: By the type invariants the slots are inside the block and reserved, and by the
        // safety requirements of this function stored to.
        unsafe { slice::from_raw_parts_mut(with_exposed_provenance_mut(start as usize), filled) }
    }
}

/// Closed blocks, newest first.
///
/// # Invariants
///
/// `first` is 0 or a block; the `next` of each is 0 or another; the chain owns them. `total` and
/// `last` of the first are right.
pub(crate) struct Blocks<L: Layout>(u64, PhantomData<L>);

impl<L: Layout> Blocks<L> {
    /// None.
    pub(crate) const fn new() -> Self {
        Self(0, PhantomData)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0 == 0
    }

    /// Objects in all of them.
    pub(crate) fn objects(&self) -> usize {
        if self.0 == 0 {
            0
        } else {
            // SAFETY: By the type invariants.
            unsafe { header(self.0) }.total.load_relaxed() as usize
        }
    }

    /// The oldest block.
    fn last(&self) -> Option<u64> {
        if self.0 == 0 {
            return None;
        }
        // SAFETY: By the type invariants.
        Some(unsafe { header(self.0) }.last.load_relaxed())
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
                let first = header(newer.0);
                first.last.store_relaxed(oldest);
                first
                    .total
                    .store_relaxed((newer.objects() + self.objects()) as u64);
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
    /// None.
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self {
            head: AtomicLink::new(0),
            _layout: PhantomData,
        }
    }

    /// None.
    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self {
            head: AtomicLink::new(0),
            _layout: PhantomData,
        }
    }

    /// Adds the block at `base` with `filled` objects.
    ///
    /// # Context
    ///
    /// Any, NMI included; several at once. Preemption is off, so that a block that is taken
    /// meanwhile can't be freed, nor come back, before this is done.
    ///
    /// # Safety
    ///
    /// The block, begun by [`begin()`], is the caller's to give away: `L::BLOCK` bytes aligned to that, its topmost
    /// `filled` slots reserved, closed.
    pub(crate) unsafe fn push(&self, base: u64, filled: usize) {
        // ORDERING: Pairs with the exchange below of who pushed the block: its header is read.
        let mut old = self.head.load_acquire();
        loop {
            // The list may have been taken by now, and its new owner change what is read here. Then
            // the exchange fails: a block does not come back while preemption is off.
            let before = Blocks::<L>(old, PhantomData);
            // SAFETY: By the safety requirements of this function; the block is not shared before the
            // exchange below.
            unsafe {
                let header = header(base);
                header.next.set(old);
                header.filled.set(filled);
                header.last.store_relaxed(before.last().unwrap_or(base));
                header
                    .total
                    .store_relaxed((filled + before.objects()) as u64);
            }
            // ORDERING: Full on success. Who takes the list and starts a grace period then starts it
            // after every unlink of an object in the block: those were before the close in the
            // program order of this CPU. Pairs with the exchange in `take()`.
            match self.head.cmpxchg_full(old, base) {
                Ok(_) => return,
                Err(_) => old = self.head.load_acquire(),
            }
        }
    }

    /// Takes everything.
    ///
    /// # Context
    ///
    /// Any; several at once.
    pub(crate) fn take(&self) -> Blocks<L> {
        if self.head.load_relaxed() == 0 {
            return Blocks::new();
        }
        // ORDERING: Full; pairs with the exchange in `push()`.
        // INVARIANT: The chain gets what the head led to.
        Blocks(self.head.xchg_full(0), PhantomData)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.head.load_relaxed() == 0
    }

    /// The address of the head, for those who watch it.
    pub(crate) fn word(&self) -> usize {
        (&raw const self.head).addr()
    }
}
