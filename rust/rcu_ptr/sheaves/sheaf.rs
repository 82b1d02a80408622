// SPDX-License-Identifier: GPL-2.0

//! The sheaf: pointers to free objects, filled once and then emptied once (`struct slab_sheaf`). No
//! kernel dependencies: compiled by the host tests.
//!
//! ```text
//!  aligned to its size
//!  | slot 0 | ... | slot SLOTS - 1 | head                          |
//!            ^ cursor: moves up    ^ here it is used up
//!                                  | room for cursors that overshoot
//! ```
//!
//! An address inside identifies the sheaf and the slot, and whether there is one. The objects of an
//! allocation sheaf reach up to the last slot, and an rcu sheaf is filled up to it, so a cursor
//! needs no other limit.
//!
//! The type states what may be done with a sheaf: [`EmptySheaf`] and [`FullSheaf`], which has an
//! object or more, belong to their owner alone; [`Closed`] ones may be in use by contexts that were
//! interrupted in the middle, and need a grace period.

use super::{
    cursor::Quiescent,
    geometry::{self, HeadCell, Slot, CLEARS_SLOTS, SHEAF_BYTES, SLOTS},
};
use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    mem::offset_of,
    num::NonZeroU32,
    ptr::{with_exposed_provenance_mut, NonNull},
};

/// Space for the kernel's `struct rcu_head`.
pub(crate) type RcuHead = UnsafeCell<[usize; 2]>;

/// A sheaf in memory.
#[repr(C)]
pub(crate) struct Sheaf {
    slots: [Slot; SLOTS],
    rcu: RcuHead,
    state: HeadCell<State>,
}

/// Owner-private state of a sheaf.
#[derive(Clone, Copy)]
struct State {
    next: usize,
    /// The chain that starts here.
    links: Links,
    /// The cache, for the RCU callback.
    owner: *const (),
    /// Objects are in slots `start..end`.
    start: u16,
    end: u16,
    /// The node of the CPU that the chain is from.
    node: u32,
    /// Where it is counted while it is closed; 0 if it is not.
    stamp: u32,
    /// When its first object was freed; `None` in a closed sheaf of stock.
    since: Option<NonZeroU32>,
}

/// Identifies the count of something that waits for a grace period; given up when it is uncounted.
#[must_use = "a barrier would wait for ever"]
#[derive(Debug)]
pub(crate) struct Stamp(NonZeroU32);

impl Stamp {
    /// From an index, counted from 0.
    pub(crate) fn of(index: u32) -> Self {
        Self(NonZeroU32::MIN.saturating_add(index))
    }

    pub(crate) fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// The number, one above the index.
    pub(crate) fn number(&self) -> u32 {
        self.0.get()
    }
}

/// A chain of closed sheaves, without its start.
#[derive(Clone, Copy)]
struct Links {
    last: usize,
    /// The number of sheaves, and of those with objects.
    len: u32,
    full: u32,
}

impl Links {
    const NONE: Self = Self {
        last: 0,
        len: 0,
        full: 0,
    };

    /// Adds `sheaf` in front.
    fn with(self, sheaf: Raw) -> Self {
        let State { start, end, .. } = sheaf.get();
        Self {
            last: if self.len == 0 {
                sheaf.addr()
            } else {
                self.last
            },
            len: self.len + 1,
            full: self.full + u32::from(start != end),
        }
    }
}

/// Bytes of the slots: the offset of the head.
pub(crate) const END: usize = offset_of!(Sheaf, rcu);
/// Bits of an address that are the offset in a sheaf.
pub(crate) const MASK: usize = SHEAF_BYTES - 1;
/// Bytes of a slot.
pub(crate) const STRIDE: usize = size_of::<Slot>();

const _: () = assert!(
    SHEAF_BYTES.is_power_of_two() && END == SLOTS * STRIDE && size_of::<Sheaf>() <= SHEAF_BYTES,
    "a sheaf has another layout than its cursors expect"
);

/// A sheaf by its address, with accessors for its owner.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Raw(NonNull<Sheaf>);

// SAFETY: A sheaf may be owned on any CPU.
unsafe impl Send for Raw {}

impl Raw {
    fn addr(self) -> usize {
        self.0.as_ptr().expose_provenance()
    }

    fn slot(&self, i: usize) -> &Slot {
        // SAFETY: Sheaves live until their last owner frees the memory; slots are atomic.
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

    fn set_next(self, next: usize) {
        // SAFETY: As above.
        unsafe { (*self.state()).next = next };
    }

    fn set_links(self, links: Links) {
        // SAFETY: As above.
        unsafe { (*self.state()).links = links };
    }

    fn set_stamp(self, stamp: u32) {
        // SAFETY: As above.
        unsafe { (*self.state()).stamp = stamp };
    }

    fn set_since(self, since: Option<NonZeroU32>) {
        // SAFETY: As above.
        unsafe { (*self.state()).since = since };
    }

    fn set_range(self, start: usize, end: usize) {
        // SAFETY: As above.
        unsafe {
            (*self.state()).start = start as u16;
            (*self.state()).end = end as u16;
        }
    }

    /// Objects are in slots from `start` on; the others are not accessed. They are cleared for
    /// kmemleak, which would take their contents for references.
    fn set_start(self, start: usize) {
        self.set_range(start, SLOTS);
        if CLEARS_SLOTS {
            (0..start).for_each(|i| self.slot(i).store(0));
        }
    }
}

/// A sheaf with objects in slots from `start` on.
fn rest_from(sheaf: Raw, start: usize) -> Rest {
    sheaf.set_start(start);
    if start == SLOTS {
        Rest::Empty(EmptySheaf(sheaf))
    } else {
        Rest::Full(FullSheaf(sheaf))
    }
}

/// The sheaf of an address of a slot, of its head or of its `rcu_head`.
///
/// # Safety
///
/// `addr` lies in a live sheaf.
unsafe fn around(addr: usize) -> Raw {
    let base = with_exposed_provenance_mut(addr & !MASK);
    // SAFETY: By the safety requirements of this function.
    Raw(unsafe { NonNull::new_unchecked(base) })
}

/// A sheaf without objects, exclusively owned.
#[must_use = "a sheaf is lost"]
#[derive(PartialEq, Eq)]
pub(crate) struct EmptySheaf(Raw);

impl EmptySheaf {
    /// Creates a sheaf for the cache `owner`.
    ///
    /// # Safety
    ///
    /// `memory` is exclusively owned by the caller, [`SHEAF_BYTES`] long and aligned to as much.
    pub(crate) unsafe fn from_memory(memory: NonNull<u8>, owner: *const ()) -> Self {
        let raw = Raw(memory.cast());
        // SAFETY: By the safety requirements of this function; every slot is written before it is
        // read.
        unsafe {
            raw.state().write(State {
                next: 0,
                links: Links::NONE,
                owner,
                start: SLOTS as u16,
                end: SLOTS as u16,
                node: 0,
                stamp: 0,
                since: None,
            })
        };
        raw.addr();
        raw.set_start(SLOTS);
        Self(raw)
    }

    /// Returns the memory.
    pub(crate) fn into_memory(self) -> NonNull<u8> {
        self.0 .0.cast()
    }

    /// Starts filling it, up to `capacity` objects, with `object`.
    pub(crate) fn start(self, capacity: usize, object: usize) -> Filling {
        let start = SLOTS - capacity;
        self.0.set_range(start, SLOTS);
        self.0.set_since(Some(geometry::now()));
        self.0.slot(start).store(object);
        Filling(self.0)
    }

    /// Closes it without objects, to send it through a grace period: the CPU has a spare already,
    /// and the barn is locked.
    pub(crate) fn into_closed(self) -> Closed {
        self.0.set_stamp(0);
        Closed(self.0)
    }

    /// Fills it with up to [`SLOTS`] objects.
    pub(crate) fn fill(self, objects: &[*mut u8]) -> FullSheaf {
        let start = SLOTS - objects.len();
        for (i, object) in objects.iter().enumerate() {
            self.0.slot(start + i).store(object.expose_provenance());
        }
        self.0.set_range(start, SLOTS);
        FullSheaf(self.0)
    }
}

/// A sheaf with its first object, about to be installed.
pub(crate) struct Filling(Raw);

impl Filling {
    /// Becomes a full sheaf without having been installed, with its first object.
    pub(crate) fn done(self) -> FullSheaf {
        FullSheaf(self.0)
    }

    /// Removes the object, as the sheaf was not installed.
    pub(crate) fn undo(self) -> EmptySheaf {
        self.0.set_start(SLOTS);
        EmptySheaf(self.0)
    }
}

/// A sheaf with objects, exclusively owned, that may be allocated at once.
#[must_use = "objects are lost"]
pub(crate) struct FullSheaf(Raw);

impl FullSheaf {
    /// Removes one object.
    pub(crate) fn pop(self) -> (usize, Rest) {
        let start = self.start();
        let object = self.0.slot(start).load();
        (object, rest_from(self.0, start + 1))
    }

    /// Moves the objects to `out`. Returns their number, and the empty sheaf.
    pub(crate) fn empty_into(self, out: &mut [*mut u8; SLOTS]) -> (usize, EmptySheaf) {
        let start = self.start();
        for i in start..SLOTS {
            out[i - start] = with_exposed_provenance_mut(self.0.slot(i).load());
        }
        self.0.set_start(SLOTS);
        (SLOTS - start, EmptySheaf(self.0))
    }

    /// Removes the objects for which `keep` returns `false`.
    pub(crate) fn retain(self, mut keep: impl FnMut(usize) -> bool) -> Rest {
        let mut to = SLOTS;
        for i in (self.start()..SLOTS).rev() {
            let object = self.0.slot(i).load();
            if keep(object) {
                to -= 1;
                self.0.slot(to).store(object);
            }
        }
        rest_from(self.0, to)
    }

    /// Whether `is` returns `true` for all objects.
    pub(crate) fn all(&self, mut is: impl FnMut(usize) -> bool) -> bool {
        (self.start()..SLOTS).all(|i| is(self.0.slot(i).load()))
    }

    /// The first slot with an object; all that follow have one.
    pub(crate) fn start(&self) -> usize {
        self.0.get().start as usize
    }

    /// The slots with objects.
    pub(crate) fn slots(&self) -> &[Slot] {
        // SAFETY: As for `Raw::slot()`.
        let slots = unsafe { &self.0 .0.as_ref().slots };
        slots.get(self.start()..).unwrap_or_default()
    }

    /// The object in slot `i`.
    #[inline(always)]
    pub(crate) fn object(&self, i: usize) -> usize {
        self.0.slot(i).load()
    }

    /// Removes the object in slot `i`, which is not the first.
    pub(crate) fn remove(&mut self, i: usize) {
        let start = self.start();
        for i in (start + 1..=i).rev() {
            self.0.slot(i).store(self.0.slot(i - 1).load());
        }
        self.0.set_range(start + 1, SLOTS);
    }

    /// Adds `object` if there are fewer than `capacity`. Returns whether it did.
    pub(crate) fn push(&mut self, object: usize, capacity: usize) -> bool {
        let start = self.start();
        if SLOTS - start >= capacity {
            return false;
        }
        self.0.slot(start - 1).store(object);
        self.0.set_range(start - 1, SLOTS);
        true
    }

    /// Closes it with its objects, to send it through a grace period, as
    /// [`EmptySheaf::into_closed()`] does.
    pub(crate) fn into_closed(self, stamp: Stamp) -> Closed {
        self.0.set_since(None);
        self.0.set_stamp(stamp.number());
        Closed(self.0)
    }
}

/// A sheaf with or without objects.
pub(crate) enum Rest {
    Empty(EmptySheaf),
    Full(FullSheaf),
}

/// A sheaf that was installed. Interrupted contexts of its CPU may be about to write or read its
/// slots, and readers may access its objects: the slots must not be accessed before a grace period.
#[must_use = "objects are lost"]
pub(crate) struct Closed(Raw);

impl Closed {
    pub(crate) fn addr(&self) -> usize {
        self.0.addr()
    }

    /// Removes the stamp.
    pub(crate) fn take_stamp(&mut self) -> Option<Stamp> {
        let stamp = Stamp::new(self.0.get().stamp);
        self.0.set_stamp(0);
        stamp
    }

    /// The number of objects that wait in it, and since when; `None` for stock.
    pub(crate) fn waiting(&self) -> Option<(usize, NonZeroU32)> {
        let State {
            start, end, since, ..
        } = self.0.get();
        Some((usize::from(end - start), since?))
    }

    /// Whether its objects were freed. Otherwise they are stock that was closed as the barn was
    /// locked, unused since they last became ready to be allocated.
    pub(crate) fn holds_freed(&self) -> bool {
        self.waiting().is_some_and(|(objects, _)| objects > 0)
    }

    /// Links it to the chain that starts at `next`, which another context may take meanwhile.
    /// Returns the number of sheaves, this one included.
    ///
    /// # Safety
    ///
    /// `next` is 0 or a closed sheaf that was linked so, and whose memory is not freed yet.
    pub(crate) unsafe fn link(&self, next: usize) -> usize {
        let links = if next == 0 {
            Links::NONE
        } else {
            // SAFETY: By the safety requirements of this function. What is read is only used if the
            // sheaf was not taken.
            unsafe { (&raw const (*around(next).state()).links).read_volatile() }
        };
        let links = links.with(self.0);
        self.0.set_next(next);
        self.0.set_links(links);
        links.len as usize
    }

    /// Returns its contents, to be used.
    ///
    /// # Safety
    ///
    /// A grace period has passed since the sheaf was closed; or no context of its CPU is in the
    /// middle of an operation, and no reader has its objects.
    pub(crate) unsafe fn into_rest(self) -> Rest {
        let State { start, end, .. } = self.0.get();
        let (start, end) = (start as usize, end as usize);
        let gap = SLOTS - end;
        if gap > 0 {
            // Closed before it was used up: move objects up to the last slot.
            for i in (start..end).rev() {
                self.0.slot(i + gap).store(self.0.slot(i).load());
            }
        }
        rest_from(self.0, start + gap)
    }

    /// Closes an emptied sheaf.
    pub(crate) fn spent(sheaf: Installed) -> Self {
        sheaf.0.set_range(SLOTS, SLOTS);
        sheaf.0.set_stamp(0);
        Self(sheaf.0)
    }

    /// Closes a sheaf with objects up to slot `end`.
    pub(crate) fn filled(sheaf: Installed, end: usize, stamp: Stamp) -> Self {
        let start = sheaf.0.get().start as usize;
        sheaf.0.set_range(start, end);
        sheaf.0.set_stamp(stamp.number());
        Self(sheaf.0)
    }
}

/// A sheaf that was just removed from a cursor.
#[must_use = "objects are lost"]
pub(crate) struct Installed(Raw);

impl Installed {
    /// The sheaf of a cursor's slot.
    ///
    /// # Safety
    ///
    /// The caller has exchanged the cursor for another value; it was not that of no sheaf, and
    /// `slot` is in the sheaf.
    pub(crate) unsafe fn from_slot(slot: usize) -> Self {
        // SAFETY: By the safety requirements of this function: cursors point to live sheaves.
        Self(unsafe { around(slot) })
    }

    /// The sheaf with objects from `start` on, to be allocated again.
    pub(crate) fn into_rest(self, start: usize, _quiescent: &Quiescent) -> Rest {
        rest_from(self.0, start)
    }
}

/// A sheaf that can be installed in a cursor.
pub(crate) trait Install {
    /// The address of the first slot that the cursor reserves.
    fn first_slot(&self) -> usize;
}

impl Install for FullSheaf {
    fn first_slot(&self) -> usize {
        self.0.addr() + self.start() * STRIDE
    }
}

impl Install for Filling {
    /// The slot after that of the first object.
    fn first_slot(&self) -> usize {
        self.0.addr() + (self.0.get().start as usize + 1) * STRIDE
    }
}

/// Conversion of an exclusively owned sheaf to an address and back.
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

macro_rules! owned {
    ($($sheaf:ident)+) => {
        $(impl Owned for $sheaf {
            fn into_addr(self) -> usize {
                self.0.addr()
            }

            unsafe fn from_addr(addr: usize) -> Self {
                // SAFETY: By the safety requirements of this function.
                Self(unsafe { around(addr) })
            }
        })+
    };
}

owned!(EmptySheaf FullSheaf);

/// A stack of exclusively owned sheaves.
pub(crate) struct Stack<S> {
    top: usize,
    len: usize,
    _owns: PhantomData<S>,
}

impl<S: Owned> Stack<S> {
    pub(crate) const fn new() -> Self {
        Self {
            top: 0,
            len: 0,
            _owns: PhantomData,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push(&mut self, sheaf: S) {
        let addr = sheaf.into_addr();
        // SAFETY: The address of a sheaf that this stack owns from now on.
        unsafe { around(addr) }.set_next(self.top);
        self.top = addr;
        self.len += 1;
    }

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

    pub(crate) fn take(&mut self) -> Self {
        core::mem::replace(self, Self::new())
    }
}

/// The origin of a [`SheafChain`].
pub(crate) struct Origin {
    pub(crate) owner: *const (),
    pub(crate) node: usize,
}

/// Closed sheaves linked through their heads: passed on in a few steps, whatever their number.
#[must_use = "objects are lost"]
pub(crate) struct SheafChain {
    first: usize,
    links: Links,
}

impl SheafChain {
    pub(crate) const fn new() -> Self {
        Self {
            first: 0,
            links: Links::NONE,
        }
    }

    /// The chain that starts at `first`, as [`Closed::link()`] or [`SheafChain::into_rcu_head()`]
    /// left it.
    ///
    /// # Safety
    ///
    /// `first` is 0, or the first of a chain of closed sheaves that the caller owns.
    pub(crate) unsafe fn from_first(first: usize) -> Self {
        if first == 0 {
            return Self::new();
        }
        // SAFETY: By the safety requirements of this function.
        let links = unsafe { around(first) }.get().links;
        Self { first, links }
    }

    /// The chain of [`SheafChain::into_rcu_head()`], and its origin.
    ///
    /// # Safety
    ///
    /// `rcu` is from there, and used once.
    pub(crate) unsafe fn from_rcu_head(rcu: usize) -> (Self, Origin) {
        // SAFETY: By the safety requirements of this function.
        let raw = unsafe { around(rcu) };
        let State {
            links, owner, node, ..
        } = raw.get();
        let origin = Origin {
            owner,
            node: node as usize,
        };
        let first = raw.addr();
        (Self { first, links }, origin)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.links.len as usize
    }

    /// The number of sheaves with objects.
    pub(crate) fn nr_full(&self) -> usize {
        self.links.full as usize
    }

    /// Adds `sheaf` in front.
    pub(crate) fn push(&mut self, sheaf: Closed) {
        sheaf.0.set_next(self.first);
        self.links = self.links.with(sheaf.0);
        self.first = sheaf.0.addr();
    }

    /// Removes the first sheaf.
    pub(crate) fn pop(&mut self) -> Option<Closed> {
        if self.first == 0 {
            return None;
        }
        // SAFETY: The chain consists of closed sheaves that it owns.
        let raw = unsafe { around(self.first) };
        let state = raw.get();
        self.first = state.next;
        self.links.len -= 1;
        self.links.full -= u32::from(state.start != state.end);
        Some(Closed(raw))
    }

    /// Adds all of `other` in front.
    pub(crate) fn append(&mut self, other: Self) {
        if other.first == 0 {
            return;
        }
        if self.first == 0 {
            *self = other;
            return;
        }
        // SAFETY: `other` ends in a closed sheaf that it owns.
        unsafe { around(other.links.last) }.set_next(self.first);
        self.first = other.first;
        self.links.len += other.links.len;
        self.links.full += other.links.full;
    }

    /// Stamps the first sheaf, unless it has a stamp.
    pub(crate) fn count(&mut self, stamp: impl FnOnce() -> Stamp) {
        if self.first != 0 {
            // SAFETY: As for `pop()`.
            let first = unsafe { around(self.first) };
            if first.get().stamp == 0 {
                first.set_stamp(stamp().number());
            }
        }
    }

    /// The address of its first sheaf, for [`SheafChain::from_first()`].
    pub(crate) fn into_first(self) -> usize {
        if self.first != 0 {
            // SAFETY: As for `pop()`.
            unsafe { around(self.first) }.set_links(self.links);
        }
        self.first
    }

    /// The `rcu_head` of its first sheaf, for [`SheafChain::from_rcu_head()`]. The chain is from a
    /// CPU of `node`.
    pub(crate) fn into_rcu_head(self, node: usize) -> Option<NonNull<RcuHead>> {
        if self.first == 0 {
            return None;
        }
        // SAFETY: As for `pop()`.
        let raw = unsafe { around(self.first) };
        raw.set_links(self.links);
        // SAFETY: As for `pop()`.
        unsafe { (*raw.state()).node = node as u32 };
        // SAFETY: As for `pop()`.
        Some(unsafe { NonNull::from(&raw.0.as_ref().rcu) })
    }
}
