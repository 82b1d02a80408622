// SPDX-License-Identifier: GPL-2.0

//! The sheaf: pointers to free objects, filled once and then emptied once (`struct slab_sheaf`).
//!
//! ```text
//!  aligned to its size
//!  | slot 0 | ... | slot SLOTS - 1 | head                          |
//!            ^ cursor: moves up    ^ here it is used up
//!                                  | room for cursors that overshoot
//! ```
//!
//! An address inside tells all: which sheaf, which slot, and whether there is one. Objects always
//! reach up to the last slot, so a cursor needs no other limit.
//!
//! What a sheaf is good for is its type: [`Empty`] and [`Full`] belong to their owner alone;
//! [`Closed`] ones were seen by contexts that may have been interrupted in the middle, and need a
//! grace period.

use super::{
    cursor::Undisturbed,
    geometry::{Slot, SHEAF_BYTES, SLOTS},
};
use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    mem::offset_of,
    ptr::{with_exposed_provenance_mut, NonNull},
};

/// Room for the kernel's `struct rcu_head`.
pub(crate) type RcuHead = UnsafeCell<[usize; 2]>;

/// A sheaf in memory.
#[repr(C)]
pub(crate) struct Sheaf {
    slots: [Slot; SLOTS],
    rcu: RcuHead,
    state: UnsafeCell<State>,
}

/// What an owner knows of its sheaf.
#[derive(Clone, Copy)]
struct State {
    next: usize,
    /// The cache, for who has the `rcu_head` only.
    owner: *const (),
    /// Objects are in slots `start..end`.
    start: u16,
    end: u16,
    /// The node of the CPU that fills it.
    node: u32,
}

/// Bytes of the slots: where the head starts.
pub(crate) const END: usize = offset_of!(Sheaf, rcu);
/// From an address to its place in a sheaf.
pub(crate) const MASK: usize = SHEAF_BYTES - 1;
/// Bytes of a slot.
pub(crate) const STRIDE: usize = size_of::<Slot>();

const _: () = assert!(
    SHEAF_BYTES.is_power_of_two() && END == SLOTS * STRIDE && size_of::<Sheaf>() <= SHEAF_BYTES,
    "a sheaf has another layout than its cursors expect"
);

/// A sheaf by its address, with the accessors that an owner may use.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Raw(NonNull<Sheaf>);

impl Raw {
    fn addr(self) -> usize {
        self.0.as_ptr().expose_provenance()
    }

    fn slot(&self, i: usize) -> &Slot {
        // SAFETY: Sheaves live until their last owner gives the memory away; slots are atomic.
        unsafe { &self.0.as_ref().slots[i] }
    }

    fn state(self) -> *mut State {
        // SAFETY: As above.
        unsafe { self.0.as_ref().state.get() }
    }

    fn get(self) -> State {
        // SAFETY: Only owners get here, one at a time.
        unsafe { self.state().read() }
    }

    fn set_range(self, start: usize, end: usize) {
        // SAFETY: As above.
        unsafe {
            (*self.state()).start = start as u16;
            (*self.state()).end = end as u16;
        }
    }
}

/// The sheaf that an address of a slot, of its head or of its `rcu_head` belongs to.
///
/// # Safety
///
/// `addr` lies in a live sheaf.
unsafe fn around(addr: usize) -> Raw {
    let base = with_exposed_provenance_mut(addr & !MASK);
    // SAFETY: By the safety requirements of this function.
    Raw(unsafe { NonNull::new_unchecked(base) })
}

/// A sheaf without objects that nobody else knows.
#[must_use = "a sheaf is lost"]
#[derive(PartialEq, Eq)]
pub(crate) struct Empty(Raw);

impl Empty {
    /// A sheaf in fresh memory, for the cache `owner`.
    ///
    /// # Safety
    ///
    /// `memory` is the caller's to give away, [`SHEAF_BYTES`] long and aligned to as much.
    pub(crate) unsafe fn from_memory(memory: NonNull<u8>, owner: *const ()) -> Self {
        let raw = Raw(memory.cast());
        // SAFETY: By the safety requirements of this function; every slot is written before it is
        // read.
        unsafe {
            raw.state().write(State {
                next: 0,
                owner,
                start: SLOTS as u16,
                end: SLOTS as u16,
                node: 0,
            })
        };
        raw.addr();
        Self(raw)
    }

    /// The memory, for another use.
    pub(crate) fn into_memory(self) -> NonNull<u8> {
        self.0 .0.cast()
    }

    /// Starts to fill it with `object`, up to `capacity` objects, on a CPU of `node`.
    pub(crate) fn start(self, capacity: usize, object: usize, node: usize) -> Filling {
        // SAFETY: The owner's.
        unsafe { (*self.0.state()).node = node as u32 };
        let start = SLOTS - capacity;
        self.0.set_range(start, SLOTS);
        self.0.slot(start).store(object);
        Filling(self.0)
    }

    /// On the way through a grace period, for want of another place.
    pub(crate) fn into_closed(self) -> Closed {
        Closed(self.0)
    }

    /// Fills it with up to [`SLOTS`] objects.
    pub(crate) fn fill(self, objects: &[*mut u8]) -> Full {
        let start = SLOTS - objects.len();
        for (i, object) in objects.iter().enumerate() {
            self.0.slot(start + i).store(object.expose_provenance());
        }
        self.0.set_range(start, SLOTS);
        Full(self.0)
    }
}

/// A sheaf with its first object, about to be installed.
pub(crate) struct Filling(Raw);

impl Filling {
    /// It is used as it is, not installed. Only for a capacity of 1 is that all that is in it.
    pub(crate) fn done(self) -> Full {
        Full(self.0)
    }

    /// Takes the object out again: the sheaf was not installed.
    pub(crate) fn undo(self) -> Empty {
        self.0.set_range(SLOTS, SLOTS);
        Empty(self.0)
    }
}

/// A sheaf with objects that nobody else knows, and that may be given out at once.
#[must_use = "objects are lost"]
pub(crate) struct Full(Raw);

impl Full {
    /// Takes one object out.
    pub(crate) fn pop(self) -> (usize, Rest) {
        let start = self.0.get().start as usize;
        let object = self.0.slot(start).load();
        self.0.set_range(start + 1, SLOTS);
        let rest = if start + 1 == SLOTS {
            Rest::Empty(Empty(self.0))
        } else {
            Rest::Full(self)
        };
        (object, rest)
    }

    /// The objects, copied out; the sheaf is empty after that.
    pub(crate) fn empty_into(self, out: &mut [*mut u8; SLOTS]) -> (usize, Empty) {
        let start = self.0.get().start as usize;
        for i in start..SLOTS {
            out[i - start] = with_exposed_provenance_mut(self.0.slot(i).load());
        }
        self.0.set_range(SLOTS, SLOTS);
        (SLOTS - start, Empty(self.0))
    }

    /// Takes the objects out that `keep` refuses. `Empty` if none is left.
    pub(crate) fn retain(self, mut keep: impl FnMut(usize) -> bool) -> Rest {
        let mut to = SLOTS;
        for i in (self.0.get().start as usize..SLOTS).rev() {
            let object = self.0.slot(i).load();
            if keep(object) {
                to -= 1;
                self.0.slot(to).store(object);
            }
        }
        self.0.set_range(to, SLOTS);
        if to == SLOTS {
            Rest::Empty(Empty(self.0))
        } else {
            Rest::Full(self)
        }
    }

    /// An object that is in it twice.
    pub(crate) fn find_double(&self) -> Option<usize> {
        let start = self.0.get().start as usize;
        (start..SLOTS)
            .map(|i| (i, self.0.slot(i).load()))
            .find(|&(i, object)| (i + 1..SLOTS).any(|j| self.0.slot(j).load() == object))
            .map(|(_, object)| object)
    }

    /// Adds `object` if there are fewer than `capacity`. Returns whether it did.
    pub(crate) fn push(&mut self, object: usize, capacity: usize) -> bool {
        let start = self.0.get().start as usize;
        if SLOTS - start >= capacity {
            return false;
        }
        self.0.slot(start - 1).store(object);
        self.0.set_range(start - 1, SLOTS);
        true
    }

    /// Lets its objects wait for another grace period, which does no harm.
    pub(crate) fn into_closed(self) -> Closed {
        Closed(self.0)
    }
}

/// What is left of a sheaf that gave objects away.
pub(crate) enum Rest {
    /// Nothing.
    Empty(Empty),
    /// Some.
    Full(Full),
}

/// A sheaf that was installed. Contexts of its CPU that were interrupted may still be about to write
/// or read slots of it, and readers to look at its objects: until a grace period is over nobody
/// touches the slots.
#[must_use = "objects are lost"]
pub(crate) struct Closed(Raw);

impl Closed {
    /// The address of the sheaf.
    pub(crate) fn addr(&self) -> usize {
        self.0.addr()
    }

    /// The node of the CPU that filled it.
    pub(crate) fn node(&self) -> usize {
        self.0.get().node as usize
    }

    /// Links it to what follows.
    pub(crate) fn set_next(&self, next: usize) {
        // SAFETY: The owner's.
        unsafe { (*self.0.state()).next = next };
    }

    /// What nobody waits for any more.
    ///
    /// # Safety
    ///
    /// A grace period has passed since the sheaf was closed; or no context of its CPU is
    /// interrupted in an operation and, where objects wait in it, no reader can have them.
    pub(crate) unsafe fn into_rest(self) -> Rest {
        let State { start, end, .. } = self.0.get();
        let (start, end) = (start as usize, end as usize);
        if start == end {
            self.0.set_range(SLOTS, SLOTS);
            return Rest::Empty(Empty(self.0));
        }
        let gap = SLOTS - end;
        if gap > 0 {
            // Closed before it was full: objects reach up to the last slot again.
            for i in (start..end).rev() {
                self.0.slot(i + gap).store(self.0.slot(i).load());
            }
        }
        self.0.set_range(start + gap, SLOTS);
        Rest::Full(Full(self.0))
    }

    /// A sheaf without objects, to wait for a grace period.
    pub(crate) fn spent(sheaf: Installed) -> Self {
        sheaf.0.set_range(SLOTS, SLOTS);
        Self(sheaf.0)
    }

    /// A sheaf with the objects up to `end`, to wait for a grace period.
    pub(crate) fn filled(sheaf: Installed, end: usize) -> Self {
        let start = sheaf.0.get().start as usize;
        sheaf.0.set_range(start, end);
        Self(sheaf.0)
    }
}

/// A sheaf that a cursor has just given up.
#[must_use = "objects are lost"]
pub(crate) struct Installed(Raw);

impl Installed {
    /// The sheaf that a cursor stood for a slot of.
    ///
    /// # Safety
    ///
    /// The cursor was exchanged for another value by the caller, and is not that of no sheaf; `slot` is
    /// in the sheaf.
    pub(crate) unsafe fn from_slot(slot: usize) -> Self {
        // SAFETY: By the safety requirements of this function: cursors stand for live sheaves.
        Self(unsafe { around(slot) })
    }

    /// The objects from `start` on, to be given out again.
    pub(crate) fn into_rest(self, start: usize, _undisturbed: &Undisturbed) -> Rest {
        self.0.set_range(start, SLOTS);
        if start == SLOTS {
            Rest::Empty(Empty(self.0))
        } else {
            Rest::Full(Full(self.0))
        }
    }
}

/// How a sheaf goes into a cursor.
pub(crate) trait Install {
    /// The address of the first slot that the cursor gives out.
    fn first_slot(&self) -> usize;
}

impl Install for Full {
    fn first_slot(&self) -> usize {
        self.0.addr() + self.0.get().start as usize * STRIDE
    }
}

impl Install for Filling {
    /// Behind the first object.
    fn first_slot(&self) -> usize {
        self.0.addr() + (self.0.get().start as usize + 1) * STRIDE
    }
}

/// A sheaf that nobody else knows, as an address.
pub(crate) trait Owned: Sized {
    /// The address, for [`Owned::from_addr()`].
    fn into_addr(self) -> usize;

    /// Back from [`Owned::into_addr()`].
    ///
    /// # Safety
    ///
    /// `addr` is from there, and used once.
    unsafe fn from_addr(addr: usize) -> Self;
}

impl Owned for Empty {
    fn into_addr(self) -> usize {
        self.0.addr()
    }

    unsafe fn from_addr(addr: usize) -> Self {
        // SAFETY: By the safety requirements of this function.
        Self(unsafe { around(addr) })
    }
}

impl Owned for Full {
    fn into_addr(self) -> usize {
        self.0.addr()
    }

    unsafe fn from_addr(addr: usize) -> Self {
        // SAFETY: By the safety requirements of this function.
        Self(unsafe { around(addr) })
    }
}

/// Sheaves that nobody else knows, newest on top, and how many.
pub(crate) struct Stack<S> {
    top: usize,
    len: usize,
    _owns: PhantomData<S>,
}

impl<S: Owned> Stack<S> {
    /// None.
    pub(crate) const fn new() -> Self {
        Self {
            top: 0,
            len: 0,
            _owns: PhantomData,
        }
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Puts `sheaf` on top.
    pub(crate) fn push(&mut self, sheaf: S) {
        let addr = sheaf.into_addr();
        // SAFETY: The address of a sheaf that this stack owns from now on.
        let raw = unsafe { around(addr) };
        // SAFETY: The owner's.
        unsafe { (*raw.state()).next = self.top };
        self.top = addr;
        self.len += 1;
    }

    /// Takes the one on top.
    pub(crate) fn pop(&mut self) -> Option<S> {
        if self.top == 0 {
            return None;
        }
        // SAFETY: The stack owns it.
        let raw = unsafe { around(self.top) };
        self.top = raw.get().next;
        self.len -= 1;
        // SAFETY: Pushed as an `S`.
        Some(unsafe { S::from_addr(raw.addr()) })
    }

    /// Takes everything.
    pub(crate) fn take(&mut self) -> Self {
        core::mem::replace(self, Self::new())
    }
}

/// Sheaves linked through their heads.
#[must_use = "objects are lost"]
pub(crate) struct Chain(usize);

impl Chain {
    /// None.
    pub(crate) const fn new() -> Self {
        Self(0)
    }

    /// The chain that starts at `first`.
    ///
    /// # Safety
    ///
    /// `first` is 0 or leads through closed sheaves that are the caller's.
    pub(crate) unsafe fn from_first(first: usize) -> Self {
        Self(first)
    }

    /// The chain that starts with the sheaf whose `rcu_head` is at `rcu`.
    ///
    /// # Safety
    ///
    /// It is that of [`Chain::rcu_head()`], and used once.
    pub(crate) unsafe fn from_rcu_head(rcu: usize) -> Self {
        // SAFETY: By the safety requirements of this function.
        Self(unsafe { around(rcu) }.addr())
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0 == 0
    }

    /// Puts `sheaf` in front.
    pub(crate) fn push(&mut self, sheaf: Closed) {
        sheaf.set_next(self.0);
        self.0 = sheaf.addr();
    }

    /// Takes the first.
    pub(crate) fn pop(&mut self) -> Option<Closed> {
        if self.0 == 0 {
            return None;
        }
        // SAFETY: The chain leads through closed sheaves that it owns.
        let raw = unsafe { around(self.0) };
        self.0 = raw.get().next;
        Some(Closed(raw))
    }

    /// Puts all of `other` in front.
    pub(crate) fn append(&mut self, mut other: Self) {
        while let Some(sheaf) = other.pop() {
            self.push(sheaf);
        }
    }

    /// The `rcu_head` of the first, and the cache it belongs to.
    pub(crate) fn rcu_head(&self) -> Option<(NonNull<RcuHead>, *const ())> {
        if self.0 == 0 {
            return None;
        }
        // SAFETY: As for `pop()`.
        let raw = unsafe { around(self.0) };
        // SAFETY: As for `pop()`.
        let rcu = unsafe { NonNull::from(&raw.0.as_ref().rcu) };
        Some((rcu, raw.get().owner))
    }

    /// How many there are, and how many of them have objects.
    pub(crate) fn count(&self) -> (usize, usize) {
        let (mut sheaves, mut full) = (0, 0);
        let mut next = self.0;
        while next != 0 {
            // SAFETY: As for `pop()`.
            let state = unsafe { around(next) }.get();
            sheaves += 1;
            full += usize::from(state.start != state.end);
            next = state.next;
        }
        (sheaves, full)
    }

    /// The cache of the first.
    pub(crate) fn owner(&self) -> Option<*const ()> {
        self.rcu_head().map(|(_, owner)| owner)
    }
}
