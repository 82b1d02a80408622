// SPDX-License-Identifier: GPL-2.0

//! Bnodes, which are pages of pointers to objects that share a grace period (`struct
//! kvfree_rcu_bulk_data`), and queues of them. No kernel dependencies: compiled by the host tests.

use crate::platform::Platform;
use core::{marker::PhantomData, ptr::NonNull, slice};

/// The start of the page; the pointers follow.
#[repr(C)]
struct Header<S> {
    next: Option<NonNull<Header<S>>>,
    nr: u32,
    /// When the first pointer was added, in jiffies.
    since: u32,
    snap: S,
}

/// An owned page of up to [`Bnode::CAPACITY`] object pointers.
///
/// It has no destructor, as pages can't be freed under the raw spinlock: see
/// [`Bnode::into_page()`].
///
/// # Invariants
///
/// The pointer is a page of `P::BLOCK_BYTES` bytes with an initialised header, owned by this value;
/// the first `nr` pointers after the header are initialised and `nr <= CAPACITY`.
#[must_use = "a page is lost"]
pub(crate) struct Bnode<P: Platform>(NonNull<Header<P::Snap>>, PhantomData<P>);

impl<P: Platform> Bnode<P> {
    pub(crate) const CAPACITY: usize =
        (P::BLOCK_BYTES - size_of::<Header<P::Snap>>()) / size_of::<*mut u8>();

    /// Makes an empty block of `page`.
    ///
    /// # Safety
    ///
    /// `page` is aligned, `P::BLOCK_BYTES` long, and the caller's to give away.
    pub(crate) unsafe fn from_page(page: NonNull<u8>) -> Self {
        let header = page.cast::<Header<P::Snap>>();
        // SAFETY: By the safety requirements of this function.
        unsafe {
            header.write(Header {
                next: None,
                nr: 0,
                since: 0,
                snap: P::snapshot(),
            })
        };
        // INVARIANT: Just initialised, with no pointers.
        Self(header, PhantomData)
    }

    /// The page, which the caller frees or uses again.
    pub(crate) fn into_page(self) -> NonNull<u8> {
        self.0.cast()
    }

    fn header(&self) -> &Header<P::Snap> {
        // SAFETY: By the type invariants.
        unsafe { self.0.as_ref() }
    }

    fn header_mut(&mut self) -> &mut Header<P::Snap> {
        // SAFETY: By the type invariants; the page is owned.
        unsafe { self.0.as_mut() }
    }

    fn slots(&self) -> *mut *mut u8 {
        // SAFETY: The pointers follow the header inside the page.
        unsafe { self.0.add(1).as_ptr().cast() }
    }

    /// The number of pointers.
    pub(crate) fn len(&self) -> usize {
        self.header().nr as usize
    }

    /// When the first pointer was added, in jiffies.
    pub(crate) fn since(&self) -> u32 {
        self.header().since
    }

    /// Adds `object`, and a snapshot that covers it. Returns `false` if the block is full.
    #[inline]
    pub(crate) fn push(&mut self, object: NonNull<u8>) -> bool {
        let nr = self.len();
        if nr == Self::CAPACITY {
            return false;
        }
        // SAFETY: `nr < CAPACITY`, so the slot is inside the page.
        unsafe { self.slots().add(nr).write(object.as_ptr()) };
        let header = self.header_mut();
        // INVARIANT: Slot `nr` was written above.
        header.nr = nr as u32 + 1;
        if nr == 0 {
            header.since = P::now();
        }
        header.snap = P::snapshot();
        true
    }

    /// The pointer that was added last.
    fn newest(&self) -> Option<NonNull<u8>> {
        // SAFETY: By the type invariants the slots before `nr` are initialised.
        NonNull::new(unsafe { self.slots().add(self.len().checked_sub(1)?).read() })
    }

    /// The snapshot of the object that was added last, which covers all.
    pub(crate) fn snap(&self) -> P::Snap {
        self.header().snap
    }

    /// Whether the grace period of all objects has ended.
    pub(crate) fn is_ready(&self) -> bool {
        P::is_over(&self.header().snap)
    }

    pub(crate) fn objects(&mut self) -> &mut [*mut u8] {
        // SAFETY: By the type invariants `nr` pointers are initialised; the page is owned.
        unsafe { slice::from_raw_parts_mut(self.slots(), self.len()) }
    }

    /// Empties the block.
    pub(crate) fn clear(&mut self) {
        self.header_mut().nr = 0;
    }
}

/// A queue of blocks, oldest first, with the number of their objects.
///
/// # Invariants
///
/// `first` to `last` are linked through `next`, and owned; both are `None` or neither is; `objects`
/// is the sum of their lengths.
pub(crate) struct BnodeQueue<P: Platform> {
    first: Option<NonNull<Header<P::Snap>>>,
    last: Option<NonNull<Header<P::Snap>>>,
    objects: usize,
    _owns: PhantomData<P>,
}

// SAFETY: The queue owns its blocks; nothing in them belongs to a task or CPU.
unsafe impl<P: Platform> Send for BnodeQueue<P> {}

impl<P: Platform> BnodeQueue<P> {
    pub(crate) const fn new() -> Self {
        Self {
            first: None,
            last: None,
            objects: 0,
            _owns: PhantomData,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(crate) fn objects(&self) -> usize {
        self.objects
    }

    /// Whether `object` was added last.
    #[inline]
    pub(crate) fn is_newest(&self, object: NonNull<u8>) -> bool {
        // The queue keeps the block: `Bnode` has no destructor.
        self.last
            .is_some_and(|last| Bnode::<P>(last, PhantomData).newest() == Some(object))
    }

    /// Adds a pointer to the newest block. Returns `false` if there is none, or if it is full.
    #[inline]
    pub(crate) fn push_object(&mut self, object: NonNull<u8>) -> bool {
        let Some(last) = self.last else {
            return false;
        };
        // The queue keeps the block: `Bnode` has no destructor.
        let pushed = Bnode::<P>(last, PhantomData).push(object);
        // INVARIANT: Counts the pointer if it was added.
        self.objects += usize::from(pushed);
        pushed
    }

    /// Appends a block.
    pub(crate) fn push(&mut self, mut bnode: Bnode<P>) {
        bnode.header_mut().next = None;
        // INVARIANT: `bnode` is owned and becomes the last one.
        self.objects += bnode.len();
        match self.last {
            // SAFETY: By the type invariants `last` is owned by the queue.
            Some(mut last) => unsafe { last.as_mut().next = Some(bnode.0) },
            None => self.first = Some(bnode.0),
        }
        self.last = Some(bnode.0);
    }

    /// Removes the oldest block.
    pub(crate) fn pop(&mut self) -> Option<Bnode<P>> {
        let bnode = Bnode::<P>(self.first?, PhantomData);
        // INVARIANT: The next block becomes the first one; `bnode` is owned by itself.
        self.first = bnode.header().next;
        if self.first.is_none() {
            self.last = None;
        }
        self.objects -= bnode.len();
        Some(bnode)
    }

    /// Removes the oldest block if its grace period has ended.
    pub(crate) fn pop_ready(&mut self) -> Option<Bnode<P>> {
        if Bnode::<P>(self.first?, PhantomData).is_ready() {
            self.pop()
        } else {
            None
        }
    }

    /// Removes all blocks.
    pub(crate) fn take(&mut self) -> Self {
        core::mem::replace(self, Self::new())
    }
}
