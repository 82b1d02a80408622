// SPDX-License-Identifier: GPL-2.0

//! A table of objects of one cache with sheaves, that any context replaces and any reader looks at.
//!
//! Each object has its owner and its generation in it. So an object that is allocated twice, or
//! given back twice, or allocated again while a reader has it, shows at once.

use crate::{
    bound,
    sys::{
        cache::{ObjectFn, SheafCache},
        cpu, gp, thread,
    },
};
use core::ptr::{self, NonNull};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed},
        rcu,
    },
};

/// Bytes of an object.
pub(crate) const SIZE: usize = 64;

const HELD: u64 = 0x6865_6c64_0b1e_c701;
const GIVEN_BACK: u64 = 0xf0ee_d0b1_ec70_0002;
/// The same where a destructor is to come, and after it. Fresh memory of the slab may hold the last one.
const TO_DESTRUCT: u64 = 0xd00d_0b1e_c700_0003;
const DESTRUCTED: u64 = 0xdead_0b1e_c700_0004;

/// The destructor of caches for [`Table::with_destructor()`].
pub(crate) const DESTRUCTOR: Option<ObjectFn> = Some(destruct);

/// Calls of it for objects that were not given back, or already destructed, or where it may not sleep.
static WRONG_CALLS: Atomic<u64> = Atomic::new(0);

/// # Safety
///
/// `object` is of a cache for a table.
unsafe extern "C" fn destruct(object: *mut c_void) {
    // SAFETY: By the safety requirements of this function; all of it is integers.
    let e = unsafe { &*object.cast::<Entry>() };
    let may_sleep = cpu::context() == cpu::Context::Task && !cpu::irqs_are_off();
    if e.mark(DESTRUCTED) != TO_DESTRUCT || !may_sleep {
        WRONG_CALLS.fetch_add(1, Relaxed);
    }
    for word in &e.generation {
        word.store(DESTRUCTED, Relaxed);
    }
}

/// What is in an object.
#[repr(C)]
struct Entry {
    /// [`HELD`] from its allocation to its end; see [`Entry::mark()`].
    state: Atomic<u64>,
    /// Another for every allocation, the same in all words.
    generation: [Atomic<u64>; 7],
}

/// Objects that a reader of [`Table::under_readers()`] has at a time.
const READ: usize = 16;

/// A reader stays for as many grace periods at most: it holds up those that begin meanwhile, and one that began
/// before ends.
const GRACE_PERIODS: u64 = 3;

/// And for no longer, in nanoseconds.
const LONGEST: u64 = 100_000_000;

impl Entry {
    fn own(&self) -> u64 {
        ptr::from_ref(self).addr() as u64
    }

    /// Puts `mark` in, and returns that which was there. They are mixed with the address: the bare ones are in the text
    /// of this module, and so in memory that its file was in before the slab got it.
    fn mark(&self, mark: u64) -> u64 {
        self.state.xchg(mark ^ self.own(), Full) ^ self.own()
    }

    /// Whether it is what a reader has found, with `generation` in it. Its owner may give it back meanwhile.
    fn is_still(&self, generation: u64) -> bool {
        let is_same = |word: &Atomic<u64>| word.load(Relaxed) == generation;
        self.generation.iter().all(is_same)
            && matches!(
                self.state.load(Relaxed) ^ self.own(),
                HELD | GIVEN_BACK | TO_DESTRUCT
            )
    }
}

/// What went wrong, in counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// Objects allocated while they were in use.
    pub(crate) given_twice: u64,
    /// Objects that were not held when their owner gave them back.
    pub(crate) lost: u64,
    /// Readers whose object changed under them.
    pub(crate) reused_early: u64,
    /// Objects allocated again before they were destructed.
    pub(crate) not_destructed: u64,
    /// Destructors that ran for what was not given back, twice, or where they may not sleep.
    pub(crate) destructed_wrongly: u64,
}

/// The table.
pub(crate) struct Table<'a> {
    cache: &'a SheafCache,
    slots: KVVec<Atomic<*mut Entry>>,
    generation: Atomic<u64>,
    turns: Atomic<u64>,
    given_twice: Atomic<u64>,
    lost: Atomic<u64>,
    reused_early: Atomic<u64>,
    not_destructed: Atomic<u64>,
    /// What is in an object that was given back.
    given_back: u64,
    wrong_calls_before: u64,
    /// Objects that were given back.
    pub(crate) freed: Atomic<u64>,
    /// Objects that were replaced.
    pub(crate) replaced: Atomic<u64>,
    /// Allocations that found nothing.
    pub(crate) missed: Atomic<u64>,
    /// Looks of readers at an object.
    pub(crate) looks: Atomic<u64>,
    /// Readers that had objects when a grace period ended.
    outlasted: Atomic<u64>,
}

/// How a replacement is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alloc {
    /// `GFP_KERNEL`
    Sleep,
    /// `GFP_ATOMIC`
    Atomic,
    /// In any context.
    Nolock,
}

impl<'a> Table<'a> {
    /// An empty table of `len` places over `cache`.
    pub(crate) fn new(cache: &'a SheafCache, len: usize) -> Result<Self> {
        let mut slots = KVVec::with_capacity(len, GFP_KERNEL)?;
        for _ in 0..len {
            slots.push(Atomic::new(ptr::null_mut()), GFP_KERNEL)?;
        }
        Ok(Self {
            cache,
            slots,
            generation: Atomic::new(0),
            turns: Atomic::new(0),
            given_twice: Atomic::new(0),
            lost: Atomic::new(0),
            reused_early: Atomic::new(0),
            not_destructed: Atomic::new(0),
            given_back: GIVEN_BACK,
            wrong_calls_before: WRONG_CALLS.load(Relaxed),
            freed: Atomic::new(0),
            replaced: Atomic::new(0),
            missed: Atomic::new(0),
            looks: Atomic::new(0),
            outlasted: Atomic::new(0),
        })
    }

    /// The same over a cache with [`DESTRUCTOR`].
    pub(crate) fn with_destructor(cache: &'a SheafCache, len: usize) -> Result<Self> {
        let mut table = Self::new(cache, len)?;
        table.given_back = TO_DESTRUCT;
        Ok(table)
    }

    /// Takes what is in place `i`, and puts `new` there.
    fn exchange(&self, i: usize, new: *mut Entry) -> Option<NonNull<Entry>> {
        let slot = self.slots.get(i % self.slots.len().max(1))?;
        // ORDERING: Full: filled before readers find it, out of their sight before it is freed.
        NonNull::new(slot.xchg(new, Full))
    }

    fn new_entry(&self, how: Alloc) -> *mut Entry {
        let object = match how {
            Alloc::Sleep => self.cache.alloc(false),
            Alloc::Atomic => self.cache.alloc(true),
            Alloc::Nolock => self.cache.alloc_nolock(),
        };
        let Some(object) = object else {
            self.missed.fetch_add(1, Relaxed);
            return ptr::null_mut();
        };
        let entry = object.cast::<Entry>();
        // SAFETY: An object of the cache, large enough; all of it is integers.
        let e = unsafe { entry.as_ref() };
        match e.mark(HELD) {
            HELD => _ = self.given_twice.fetch_add(1, Relaxed),
            TO_DESTRUCT => _ = self.not_destructed.fetch_add(1, Relaxed),
            _ => (),
        }
        let generation = self.generation.fetch_add(1, Relaxed);
        for word in &e.generation {
            word.store(generation, Relaxed);
        }
        entry.as_ptr()
    }

    fn give_back(&self, entry: NonNull<Entry>, at_once: bool) {
        // SAFETY: The caller's, until it is given back below.
        let e = unsafe { entry.as_ref() };
        if e.mark(self.given_back) != HELD {
            self.lost.fetch_add(1, Relaxed);
        }
        self.freed.fetch_add(1, Relaxed);
        // SAFETY: A live object of this cache, which is not given back otherwise; it was not shared
        // where it goes at once.
        unsafe {
            if at_once {
                self.cache.free(entry.cast());
            } else {
                self.cache.free_rcu(entry.cast());
            }
        }
    }

    /// Puts a new object in place `i`, and gives the one that was there back after a grace period.
    ///
    /// # Context
    ///
    /// That of `how`.
    pub(crate) fn replace(&self, i: usize, how: Alloc) {
        let new = self.new_entry(how);
        if new.is_null() {
            return;
        }
        let old = self.exchange(i, new);
        self.replaced.fetch_add(1, Relaxed);
        if let Some(old) = old {
            self.give_back(old, false);
        }
    }

    /// Allocates an object and gives it back at once.
    ///
    /// # Context
    ///
    /// That of `how`.
    pub(crate) fn touch(&self, how: Alloc) {
        if let Some(entry) = NonNull::new(self.new_entry(how)) {
            self.give_back(entry, true);
        }
    }

    /// Everything once, in another place each time: replaces an object, allocates one and gives it
    /// back at once, looks at one.
    ///
    /// # Context
    ///
    /// That of `how`.
    pub(crate) fn turn(&self, how: Alloc) {
        let i = self.turns.fetch_add(1, Relaxed) as usize;
        self.replace(i * 7, how);
        self.touch(how);
        self.look(i);
    }

    /// Takes what is in place `i` away.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    pub(crate) fn clear(&self, i: usize) {
        if let Some(old) = self.exchange(i, ptr::null_mut()) {
            self.give_back(old, false);
        }
    }

    /// Takes everything away.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    pub(crate) fn clear_all(&self) {
        (0..self.slots.len()).for_each(|i| self.clear(i));
    }

    /// What is in place `i`, and its generation.
    ///
    /// # Safety
    ///
    /// The caller is a reader that the cache waits for, and drops it before it leaves.
    unsafe fn find(&self, i: usize) -> Option<(&Entry, u64)> {
        // ORDERING: Acquire pairs with the exchange of `replace()`.
        let entry = self.slots.get(i % self.slots.len().max(1))?.load(Acquire);
        // SAFETY: Found inside the caller's read-side critical section, so its memory stays.
        let entry = unsafe { entry.as_ref() }?;
        Some((entry, entry.generation[0].load(Relaxed)))
    }

    /// Looks at an object that a reader has. Returns whether it is as it was.
    fn is_kept(&self, entry: &Entry, generation: u64) -> bool {
        let is_kept = entry.is_still(generation);
        self.reused_early.fetch_add(u64::from(!is_kept), Relaxed);
        self.looks.fetch_add(1, Relaxed);
        is_kept
    }

    /// Looks at every word of what is in place `i`, once: a glance, which may interrupt anything. Those who
    /// see what is freed early are [`Table::under_readers()`].
    ///
    /// # Context
    ///
    /// Any, NMI included.
    pub(crate) fn look(&self, i: usize) {
        let guard = rcu::read_lock();
        // SAFETY: Inside of it.
        if let Some((entry, generation)) = unsafe { self.find(i) } {
            self.is_kept(entry, generation);
        }
        drop(guard);
    }

    /// Looks at some objects from place `i` on, again and again for `nsecs`, in one read-side critical section.
    fn read(&self, i: usize, nsecs: u64) {
        let before = gp::number();
        let guard = rcu::read_lock();
        // SAFETY: Inside of it.
        let found: [_; READ] = ::core::array::from_fn(|n| unsafe { self.find(i + n) });
        let end = thread::now_in_nmi() + nsecs;
        loop {
            // Before the look: the last one comes after everything that happened until then.
            let last = thread::now_in_nmi() >= end;
            let mut found = found.iter().flatten();
            if !found.all(|&(entry, generation)| self.is_kept(entry, generation)) || last {
                break;
            }
        }
        let ended = found.iter().any(Option::is_some) && gp::number() != before;
        drop(guard);
        self.outlasted.fetch_add(u64::from(ended), Relaxed);
    }

    /// Whether some reader had objects when a grace period ended. With one CPU none needs to.
    fn is_outlasted(&self) -> bool {
        self.outlasted.load(Relaxed) > 0 || cpu::online().count() == 1
    }

    /// 0 to `n`, and on until a grace period has ended under a reader: for what is over sooner.
    pub(crate) fn rounds(&self, n: usize) -> impl Iterator<Item = usize> + '_ {
        let end = bound::watchdog_ends();
        (0..).take_while(move |&i| i < n || !self.is_outlasted() && thread::now() < end)
    }

    /// Calls `f` beside as many readers as there are CPUs, who look at objects for random times, in which grace
    /// periods end. They rest for three times as long.
    ///
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `ETIME`: no grace period ended while one of them had an object.
    pub(crate) fn under_readers<R>(&self, f: impl FnOnce() -> R) -> Result<R> {
        let stop = Atomic::<i32>::new(0);
        let most = (u64::from(gp::msecs()) * 1_000_000 * GRACE_PERIODS).min(LONGEST);
        let body = |number: i32| {
            let mut random = thread::now_in_nmi() ^ number as u64;
            while stop.load(Relaxed) == 0 {
                // Knuth's, of which the high bits are random.
                random = random
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                let nsecs = (random >> 32).checked_rem(most).unwrap_or(0);
                self.read((random >> 40) as usize, nsecs);
                thread::sleep(1 + (3 * nsecs / 1_000_000) as u32);
            }
        };
        let ret = thread::together(cpu::online().count(), &body, || {
            let ret = f();
            // It may be over before a grace period has ended under one of them.
            let end = bound::watchdog_ends();
            while !self.is_outlasted() && thread::now() < end {
                (0..READ).for_each(|i| self.replace(i, Alloc::Sleep));
                gp::synchronize();
            }
            stop.store(1, Relaxed);
            ret
        })?;
        self.is_outlasted().then_some(ret).ok_or(ETIME)
    }

    /// Empties the table, and waits until all that was given back is destructed. Returns by how many calls
    /// of the destructor that is off, for a cache that no other table used.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn unbalanced(&self) -> i64 {
        self.clear_all();
        self.cache.barrier();
        self.freed.load(Relaxed) as i64 - self.cache.stats().destructed as i64
    }

    /// Looks at what is in place `i` again and again, with a pause before each look, as long as `pause` says
    /// so. The caller is a reader that the cache waits for.
    ///
    /// # Context
    ///
    /// That of `pause`.
    pub(crate) fn watch(&self, i: usize, mut pause: impl FnMut() -> bool) {
        // SAFETY: The caller is one.
        let Some((entry, generation)) = (unsafe { self.find(i) }) else {
            return;
        };
        while pause() && self.is_kept(entry, generation) {}
    }

    /// What went wrong so far.
    pub(crate) fn wrong(&self) -> Wrong {
        Wrong {
            given_twice: self.given_twice.load(Relaxed),
            lost: self.lost.load(Relaxed),
            reused_early: self.reused_early.load(Relaxed),
            not_destructed: self.not_destructed.load(Relaxed),
            destructed_wrongly: WRONG_CALLS.load(Relaxed) - self.wrong_calls_before,
        }
    }
}

impl Drop for Table<'_> {
    fn drop(&mut self) {
        self.clear_all();
    }
}
