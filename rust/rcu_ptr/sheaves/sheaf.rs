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
//! What a sheaf is good for is its type: [`EmptySheaf`] and [`FullSheaf`], which has an object or more, belong to their
//! owner alone; [`Closed`] ones were seen by contexts that may have been interrupted in the middle, and need a grace
//! period.

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

/// Room for the kernel's `struct rcu_head`.
pub(crate) type RcuHead = UnsafeCell<[usize; 2]>;

/// A sheaf in memory.
#[repr(C)]
pub(crate) struct Sheaf {
    slots: [Slot; SLOTS],
    rcu: RcuHead,
    state: HeadCell<State>,
}

/// What an owner knows of its sheaf.
#[derive(Clone, Copy)]
struct State {
    next: usize,
    /// Of the chain that starts here.
    links: Links,
    /// The cache, for code that has the `rcu_head` only.
    owner: *const (),
    /// Objects are in slots `start..end`.
    start: u16,
    end: u16,
    /// The node of the CPU that the chain comes from.
    node: u32,
    /// Where it is counted while it is closed; 0: nowhere.
    stamp: u32,
    /// When its first object was freed. While the sheaf is closed, none where its objects are stock.
    since: Option<NonZeroU32>,
}

/// Says where something that waits for a grace period is counted; given up when it no longer does.
#[must_use = "a barrier would wait for ever"]
#[derive(Debug)]
pub(crate) struct Stamp(NonZeroU32);

impl Stamp {
    /// Of `index`, from 0.
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

/// A chain of closed sheaves but for where it starts.
#[derive(Clone, Copy)]
struct Links {
    last: usize,
    /// Sheaves, and how many of them have objects.
    len: u32,
    full: u32,
}

impl Links {
    const NONE: Self = Self {
        last: 0,
        len: 0,
        full: 0,
    };

    /// With `sheaf` in front.
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

// SAFETY: A sheaf may be owned on any CPU.
unsafe impl Send for Raw {}

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

    /// Objects are in slots from `start` on, and the others are not looked at. Where kmemleak takes what
    /// is there for references, nothing is.
    fn set_start(self, start: usize) {
        self.set_range(start, SLOTS);
        if CLEARS_SLOTS {
            (0..start).for_each(|i| self.slot(i).store(0));
        }
    }
}

/// What is left with objects in slots from `start` on.
fn rest_from(sheaf: Raw, start: usize) -> Rest {
    sheaf.set_start(start);
    if start == SLOTS {
        Rest::Empty(EmptySheaf(sheaf))
    } else {
        Rest::Full(FullSheaf(sheaf))
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

/// A sheaf without objects, exclusively owned.
#[must_use = "a sheaf is lost"]
#[derive(PartialEq, Eq)]
pub(crate) struct EmptySheaf(Raw);

impl EmptySheaf {
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

    /// The memory, for another use.
    pub(crate) fn into_memory(self) -> NonNull<u8> {
        self.0 .0.cast()
    }

    /// Starts to fill it with `object`, up to `capacity` objects.
    pub(crate) fn start(self, capacity: usize, object: usize) -> Filling {
        let start = SLOTS - capacity;
        self.0.set_range(start, SLOTS);
        self.0.set_since(Some(geometry::now()));
        self.0.slot(start).store(object);
        Filling(self.0)
    }

    /// On the way through a grace period, for want of another place.
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
    /// It is used as it is, not installed. Only for a capacity of 1 is that all that is in it.
    pub(crate) fn done(self) -> FullSheaf {
        FullSheaf(self.0)
    }

    /// Takes the object out again: the sheaf was not installed.
    pub(crate) fn undo(self) -> EmptySheaf {
        self.0.set_start(SLOTS);
        EmptySheaf(self.0)
    }
}

/// A sheaf with objects, exclusively owned, that may be allocated at once.
#[must_use = "objects are lost"]
pub(crate) struct FullSheaf(Raw);

impl FullSheaf {
    /// Takes one object out.
    pub(crate) fn pop(self) -> (usize, Rest) {
        let start = self.start();
        let object = self.0.slot(start).load();
        (object, rest_from(self.0, start + 1))
    }

    /// The objects, copied out; the sheaf is empty after that.
    pub(crate) fn empty_into(self, out: &mut [*mut u8; SLOTS]) -> (usize, EmptySheaf) {
        let start = self.start();
        for i in start..SLOTS {
            out[i - start] = with_exposed_provenance_mut(self.0.slot(i).load());
        }
        self.0.set_start(SLOTS);
        (SLOTS - start, EmptySheaf(self.0))
    }

    /// Takes the objects out that `keep` refuses. `Empty` if none is left.
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

    /// Whether `is` holds for all objects.
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

    /// Takes the object in slot `i` out, which is not the first.
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

    /// Lets its objects wait for another grace period, which does no harm.
    pub(crate) fn into_closed(self, stamp: Stamp) -> Closed {
        self.0.set_since(None);
        self.0.set_stamp(stamp.number());
        Closed(self.0)
    }
}

/// What is left of a sheaf that gave objects away.
pub(crate) enum Rest {
    /// No objects are left.
    Empty(EmptySheaf),
    /// Objects are left.
    Full(FullSheaf),
}

/// A sheaf that was installed. Contexts of its CPU that were interrupted may still be about to write
/// or read slots of it, and readers to look at its objects: the slots must not be
/// touched until a grace period is over.
#[must_use = "objects are lost"]
pub(crate) struct Closed(Raw);

impl Closed {
    pub(crate) fn addr(&self) -> usize {
        self.0.addr()
    }

    /// Takes the stamp off.
    pub(crate) fn take_stamp(&mut self) -> Option<Stamp> {
        let stamp = Stamp::new(self.0.get().stamp);
        self.0.set_stamp(0);
        stamp
    }

    /// The number of objects that wait in it, and since when.
    pub(crate) fn waiting(&self) -> Option<(usize, NonZeroU32)> {
        let State {
            start, end, since, ..
        } = self.0.get();
        Some((usize::from(end - start), since?))
    }

    /// Whether its objects were freed. Otherwise they are stock that comes here for want of another place,
    /// and unused since they were last ready to be allocated.
    pub(crate) fn holds_freed(&self) -> bool {
        self.waiting().is_some_and(|(objects, _)| objects > 0)
    }

    /// Links it to the chain that starts at `next`, which another context may have taken meanwhile.
    /// Returns how many sheaves there are with it.
    ///
    /// # Safety
    ///
    /// `next` is 0 or a closed sheaf that was linked so, and whose memory is not given away yet.
    pub(crate) unsafe fn link(&self, next: usize) -> usize {
        let links = if next == 0 {
            Links::NONE
        } else {
            // SAFETY: By the safety requirements of this function. What is read is of use only where
            // the sheaf was not taken.
            unsafe { (&raw const (*around(next).state()).links).read_volatile() }
        };
        let links = links.with(self.0);
        self.0.set_next(next);
        self.0.set_links(links);
        links.len as usize
    }

    /// What need not wait any more.
    ///
    /// # Safety
    ///
    /// A grace period has passed since the sheaf was closed; or no context of its CPU is
    /// interrupted in an operation and, where objects wait in it, no reader can have them.
    pub(crate) unsafe fn into_rest(self) -> Rest {
        let State { start, end, .. } = self.0.get();
        let (start, end) = (start as usize, end as usize);
        let gap = SLOTS - end;
        if gap > 0 {
            // Closed before it was full: objects reach up to the last slot again.
            for i in (start..end).rev() {
                self.0.slot(i + gap).store(self.0.slot(i).load());
            }
        }
        rest_from(self.0, start + gap)
    }

    /// A sheaf without objects, to wait for a grace period.
    pub(crate) fn spent(sheaf: Installed) -> Self {
        sheaf.0.set_range(SLOTS, SLOTS);
        sheaf.0.set_stamp(0);
        Self(sheaf.0)
    }

    /// A sheaf with the objects up to `end`, to wait for a grace period.
    pub(crate) fn filled(sheaf: Installed, end: usize, stamp: Stamp) -> Self {
        let start = sheaf.0.get().start as usize;
        sheaf.0.set_range(start, end);
        sheaf.0.set_stamp(stamp.number());
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

    /// The objects from `start` on, to be allocated again.
    pub(crate) fn into_rest(self, start: usize, _quiescent: &Quiescent) -> Rest {
        rest_from(self.0, start)
    }
}

/// How a sheaf goes into a cursor.
pub(crate) trait Install {
    /// The address of the first slot that the cursor allocates.
    fn first_slot(&self) -> usize;
}

impl Install for FullSheaf {
    fn first_slot(&self) -> usize {
        self.0.addr() + self.start() * STRIDE
    }
}

impl Install for Filling {
    /// Behind the first object.
    fn first_slot(&self) -> usize {
        self.0.addr() + (self.0.get().start as usize + 1) * STRIDE
    }
}

/// An exclusively owned sheaf, as an address.
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

/// Exclusively owned sheaves, newest on top, and how many.
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

/// Where a [`SheafChain`] comes from.
pub(crate) struct Origin {
    /// The cache.
    pub(crate) owner: *const (),
    /// The node of the CPU.
    pub(crate) node: usize,
}

/// Closed sheaves linked through their heads: whatever their number, they are handed on in a few steps.
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

    /// The chain that starts at `first`, as [`Closed::link()`] or [`SheafChain::into_rcu_head()`] left it.
    ///
    /// # Safety
    ///
    /// `first` is 0 or leads through closed sheaves that are the caller's.
    pub(crate) unsafe fn from_first(first: usize) -> Self {
        if first == 0 {
            return Self::new();
        }
        // SAFETY: By the safety requirements of this function.
        let links = unsafe { around(first) }.get().links;
        Self { first, links }
    }

    /// The chain whose [`SheafChain::into_rcu_head()`] is `rcu`, and where it comes from.
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

    /// How many have objects.
    pub(crate) fn nr_full(&self) -> usize {
        self.links.full as usize
    }

    /// Puts `sheaf` in front.
    pub(crate) fn push(&mut self, sheaf: Closed) {
        sheaf.0.set_next(self.first);
        self.links = self.links.with(sheaf.0);
        self.first = sheaf.0.addr();
    }

    /// Takes the first.
    pub(crate) fn pop(&mut self) -> Option<Closed> {
        if self.first == 0 {
            return None;
        }
        // SAFETY: The chain leads through closed sheaves that it owns.
        let raw = unsafe { around(self.first) };
        let state = raw.get();
        self.first = state.next;
        self.links.len -= 1;
        self.links.full -= u32::from(state.start != state.end);
        Some(Closed(raw))
    }

    /// Puts all of `other` in front.
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

    /// Has `stamp` on the first sheaf, unless it has one.
    pub(crate) fn count(&mut self, stamp: impl FnOnce() -> Stamp) {
        if self.first != 0 {
            // SAFETY: As for `pop()`.
            let first = unsafe { around(self.first) };
            if first.get().stamp == 0 {
                first.set_stamp(stamp().number());
            }
        }
    }

    /// Where it starts, for [`SheafChain::from_first()`].
    pub(crate) fn into_first(self) -> usize {
        if self.first != 0 {
            // SAFETY: As for `pop()`.
            unsafe { around(self.first) }.set_links(self.links);
        }
        self.first
    }

    /// Hands all of it over, from a CPU of `node`, as the `rcu_head` of the first, for
    /// [`SheafChain::from_rcu_head()`].
    pub(crate) fn into_rcu_head(self, node: usize) -> Option<NonNull<RcuHead>> {
        if self.first == 0 {
            return None;
        }
        // SAFETY: As for `pop()`.
        let raw = unsafe { around(self.first) };
        raw.set_links(self.links);
        // SAFETY: As for `pop()`; the owner's.
        unsafe { (*raw.state()).node = node as u32 };
        // SAFETY: As for `pop()`.
        Some(unsafe { NonNull::from(&raw.0.as_ref().rcu) })
    }
}
