// SPDX-License-Identifier: GPL-2.0

//! A tagged pointer to what waits for a grace period: an object that is to be freed, or a `struct rcu_head`
//! whose callback is to be called. Both are aligned to 8 bytes, so the address leaves three bits. No kernel in
//! here: the host tests compile it too.
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

/// debugobjects tracks the object or head as queued: it was registered when it was queued, not in NMI.
pub(crate) const TRACKED: usize = 1;
/// The address is that of an rcu_head whose callback is to be called, not of an object.
pub(crate) const CALL: usize = 2;
/// Its callback may sleep.
const SLEEPS: usize = 4;
/// The bits of an entry that are not of the address.
const TAGS: usize = TRACKED | CALL | SLEEPS;

/// The topmost bit, which is set in the address of every function of the kernel. It is cleared in the function of
/// a head while that is on a list of [`Ready`], so that a head that was queued twice is not linked a second time.
pub(crate) const FUNC: usize = 1 << (usize::BITS - 1);

/// An rcu_head that waits, with its callback in its second word.
///
/// # Invariants
///
/// The word of a kernel address, with [`CALL`] set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call(usize);

impl Call {
    /// The head at `head`, which is aligned to 8 bytes; `sleeps`: its callback may.
    #[inline(always)]
    pub(crate) fn new(head: *mut u8, sleeps: bool) -> Self {
        // INVARIANT: The three bits are clear in the address.
        Self(head.expose_provenance() | CALL | if sleeps { SLEEPS } else { 0 })
    }

    /// The callback of a word; `None`: it is an object's.
    #[inline]
    pub(crate) fn from_word(word: usize) -> Option<Self> {
        // INVARIANT: Words are made here, or are those of objects, which have the bit clear.
        (word & CALL != 0).then_some(Self(word))
    }

    /// The callback of the head at `head` with the tags of [`Self::tags()`].
    pub(crate) fn with_tags(head: usize, tags: usize) -> Self {
        // INVARIANT: As they were.
        Self(head | tags | CALL)
    }

    /// The word.
    #[inline(always)]
    pub(crate) fn word(self) -> usize {
        self.0
    }

    /// The word as a pointer, for blocks.
    pub(crate) fn as_ptr(self) -> NonNull<u8> {
        // SAFETY: By the type invariants not 0.
        unsafe { NonNull::new_unchecked(with_exposed_provenance_mut(self.0)) }
    }

    /// The bits that are not the address.
    pub(crate) fn tags(self) -> usize {
        self.0 & TAGS
    }

    /// Where the head is.
    pub(crate) fn head(self) -> NonNull<u8> {
        let head = with_exposed_provenance_mut(self.0 & !TAGS);
        // SAFETY: By the type invariants a kernel address.
        unsafe { NonNull::new_unchecked(head) }
    }

    /// Whether its callback may sleep.
    pub(crate) fn sleeps(self) -> bool {
        self.0 & SLEEPS != 0
    }

    /// The same, tracked by debugobjects.
    pub(crate) fn tracked(self) -> Self {
        // INVARIANT: The address and `CALL` are as they were.
        Self(self.0 | TRACKED)
    }

    /// Whether debugobjects tracks it.
    pub(crate) fn is_tracked(self) -> bool {
        self.0 & TRACKED != 0
    }
}

/// Hands each callback among `words`, in their order, to `f`. Returns the objects, whose order changes.
pub(crate) fn split_calls(words: &mut [*mut u8], mut f: impl FnMut(Call)) -> &mut [*mut u8] {
    let mut objects = 0;
    for i in 0..words.len() {
        match Call::from_word(words[i].addr()) {
            Some(call) => f(call),
            None => {
                words.swap(objects, i);
                objects += 1;
            }
        }
    }
    &mut words[..objects]
}

/// Callbacks whose grace period is over, in the order in which they are called: linked through the first
/// words of their heads, which are ours until then.
///
/// # Invariants
///
/// `first` and `last` are 0 if `len` is; otherwise the heads from `first` to `last`, `len` of them, lead to
/// each other, unless a head was queued again while it was in here.
pub(crate) struct ReadyCalls {
    first: usize,
    last: usize,
    len: usize,
}

impl ReadyCalls {
    /// No callbacks.
    pub(crate) const fn new() -> Self {
        Self {
            first: 0,
            last: 0,
            len: 0,
        }
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of callbacks.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds `call` in front of the others. `false`: it is in here or in another such list already, or was
    /// called just now, as its head was queued twice; nothing was done.
    ///
    /// # Safety
    ///
    /// Its head is valid and was given away when it was queued; its grace period is over.
    pub(crate) unsafe fn push_front(&mut self, call: Call) -> bool {
        let head = call.head().cast::<usize>();
        // SAFETY: By the safety requirements of this function both words are there; others that look at the
        // second one do so by atomic accesses as well.
        let func = unsafe { AtomicUsize::from_ptr(head.as_ptr().add(1)) };
        // ORDERING: None: it was stored before the head was queued.
        let word = func.load(Relaxed);
        if word & FUNC == 0 {
            return false;
        }
        func.store(word & !FUNC, Relaxed);
        // SAFETY: By the safety requirements of this function the first word is ours.
        unsafe { head.write(self.first) };
        // INVARIANT: The new first one leads to the others.
        self.first = head.as_ptr().expose_provenance();
        if self.len == 0 {
            self.last = self.first;
        }
        self.len += 1;
        true
    }

    /// Adds `newer` behind.
    pub(crate) fn append(&mut self, newer: Self) {
        if newer.is_empty() {
            return;
        }
        if self.is_empty() {
            *self = newer;
            return;
        }
        // INVARIANT: The last one leads to the newer ones.
        // SAFETY: By the type invariants an owned head.
        unsafe { with_exposed_provenance_mut::<usize>(self.last).write(newer.first) };
        self.last = newer.last;
        self.len += newer.len;
    }

    /// Takes the first one; it is the caller's to call. `None`: there is none, or the rest is lost, as a
    /// head was queued again.
    pub(crate) fn pop(&mut self) -> Option<NonNull<u8>> {
        if self.len == 0 {
            return None;
        }
        let head = NonNull::new(with_exposed_provenance_mut::<u8>(self.first))?;
        // INVARIANT: The rest.
        // SAFETY: By the type invariants an owned head.
        self.first = unsafe { head.cast::<usize>().read() };
        self.len -= 1;
        Some(head)
    }

    /// Takes all of them.
    pub(crate) fn take(&mut self) -> Self {
        core::mem::replace(self, Self::new())
    }
}
