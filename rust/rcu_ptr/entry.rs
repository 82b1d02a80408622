// SPDX-License-Identifier: GPL-2.0

//! An entry is a tagged pointer to an object, which is freed after a grace period, or to a `struct
//! rcu_head`, whose callback is invoked. Both are aligned to 8 bytes, which leaves three bits for
//! tags.
//!
//! No kernel dependencies: compiled by the host tests.
//!
//! ```text
//!   63                                3    2        1         0
//!  +-----------------------------------+--------+--------+---------+
//!  |  address of the object, the head  | SLEEPS |  CALL  | TRACKED |
//!  +-----------------------------------+--------+--------+---------+
//! ```

use core::{
    ptr::{with_exposed_provenance_mut, NonNull},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// The object or head was registered with debugobjects when it was queued (not possible in NMI).
pub(crate) const TRACKED: usize = 1;
/// The address is that of an rcu_head, not of an object.
pub(crate) const CALL: usize = 2;
/// The callback may sleep.
const SLEEPS: usize = 4;
/// All bits of an entry that do not belong to the address.
const TAGS: usize = TRACKED | CALL | SLEEPS;

/// The topmost bit, which is set in the address of every kernel function. It is cleared in the
/// function of a head in [`ReadyCalls`], so that a head that was queued twice is not linked a
/// second time.
pub(crate) const FUNC: usize = 1 << (usize::BITS - 1);

/// The entry of an rcu_head, whose callback is in its second word.
///
/// # Invariants
///
/// A kernel address with tags, [`CALL`] among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call(usize);

impl Call {
    /// The entry of `head`, which is aligned to 8 bytes; `sleeps`: the callback may sleep.
    #[inline(always)]
    pub(crate) fn new(head: *mut u8, sleeps: bool) -> Self {
        // INVARIANT: The three bits are clear in the address.
        Self(head.expose_provenance() | CALL | if sleeps { SLEEPS } else { 0 })
    }

    /// The callback of an entry, or `None` if that is one of an object.
    #[inline]
    pub(crate) fn from_entry(entry: usize) -> Option<Self> {
        // INVARIANT: Entries of callbacks come from `new()`; in those of objects the bit is clear.
        (entry & CALL != 0).then_some(Self(entry))
    }

    /// The entry of `head` with the tags that [`Self::tags()`] has returned.
    pub(crate) fn with_tags(head: usize, tags: usize) -> Self {
        // INVARIANT: `head` is the address of an entry, and the tags are its own.
        Self(head | tags | CALL)
    }

    #[inline(always)]
    pub(crate) fn entry(self) -> usize {
        self.0
    }

    /// The entry as a pointer, for blocks.
    pub(crate) fn as_ptr(self) -> NonNull<u8> {
        // SAFETY: By the type invariants not 0.
        unsafe { NonNull::new_unchecked(with_exposed_provenance_mut(self.0)) }
    }

    pub(crate) fn tags(self) -> usize {
        self.0 & TAGS
    }

    /// The head.
    pub(crate) fn head(self) -> NonNull<u8> {
        let head = with_exposed_provenance_mut(self.0 & !TAGS);
        // SAFETY: By the type invariants a kernel address.
        unsafe { NonNull::new_unchecked(head) }
    }

    /// Whether the callback may sleep.
    pub(crate) fn sleeps(self) -> bool {
        self.0 & SLEEPS != 0
    }

    /// This entry with [`TRACKED`] set.
    pub(crate) fn tracked(self) -> Self {
        // INVARIANT: The address and `CALL` are as they were.
        Self(self.0 | TRACKED)
    }

    pub(crate) fn is_tracked(self) -> bool {
        self.0 & TRACKED != 0
    }
}

/// Calls `f` with each callback among `words`, in order. Returns the objects, in another order.
pub(crate) fn split_calls(words: &mut [*mut u8], mut f: impl FnMut(Call)) -> &mut [*mut u8] {
    let mut objects = 0;
    for i in 0..words.len() {
        match Call::from_entry(words[i].addr()) {
            Some(call) => f(call),
            None => {
                words.swap(objects, i);
                objects += 1;
            }
        }
    }
    &mut words[..objects]
}

/// Callbacks whose grace period has ended, in the order in which they are to be invoked. They are
/// linked through the first words of their heads.
///
/// # Invariants
///
/// `len` heads are linked from `first` to `last`, unless a head was queued again while it was in
/// this list. If `len` is 0, `last` is unused.
pub(crate) struct ReadyCalls {
    first: usize,
    last: usize,
    len: usize,
}

impl ReadyCalls {
    pub(crate) const fn new() -> Self {
        Self {
            first: 0,
            last: 0,
            len: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds `call` in front of the others. `false`: it is in here or in another such list already,
    /// or was called just now, as its head was queued twice; nothing was done.
    ///
    /// # Safety
    ///
    /// Its head is valid, was given away when it was queued, and its grace period has ended.
    pub(crate) unsafe fn push_front(&mut self, call: Call) -> bool {
        let head = call.head().cast::<usize>();
        // SAFETY: By the safety requirements of this function both words are valid; other accesses
        // to the second one are atomic as well.
        let func = unsafe { AtomicUsize::from_ptr(head.as_ptr().add(1)) };
        // ORDERING: None needed: it was stored before the head was queued.
        let word = func.load(Relaxed);
        if word & FUNC == 0 {
            return false;
        }
        func.store(word & !FUNC, Relaxed);
        // SAFETY: By the safety requirements of this function the first word is this list's.
        unsafe { head.write(self.first) };
        // INVARIANT: The new head is linked to the others.
        self.first = head.as_ptr().expose_provenance();
        if self.len == 0 {
            self.last = self.first;
        }
        self.len += 1;
        true
    }

    /// Appends `newer`.
    pub(crate) fn append(&mut self, newer: Self) {
        if newer.is_empty() {
            return;
        }
        if self.is_empty() {
            *self = newer;
            return;
        }
        // INVARIANT: The last head is linked to the newer ones.
        // SAFETY: By the type invariants an owned head.
        unsafe { with_exposed_provenance_mut::<usize>(self.last).write(newer.first) };
        self.last = newer.last;
        self.len += newer.len;
    }

    /// Removes the first one, for the caller to invoke. Returns `None` if there is none, or if the
    /// rest is lost because a head was queued twice.
    pub(crate) fn pop(&mut self) -> Option<NonNull<u8>> {
        if self.len == 0 {
            return None;
        }
        let head = NonNull::new(with_exposed_provenance_mut::<u8>(self.first))?;
        // INVARIANT: The next head is the first one.
        // SAFETY: By the type invariants an owned head.
        self.first = unsafe { head.cast::<usize>().read() };
        self.len -= 1;
        Some(head)
    }

    /// Removes all of them.
    pub(crate) fn take(&mut self) -> Self {
        core::mem::replace(self, Self::new())
    }
}
