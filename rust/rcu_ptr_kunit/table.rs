// SPDX-License-Identifier: GPL-2.0

//! A table of objects of one cache with sheaves, which any context replaces and reads.
//!
//! Each object contains its state and its generation, so that objects that are allocated twice,
//! freed twice, or reused under a reader are detected at once.

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

/// The size of an object, in bytes.
pub(crate) const SIZE: usize = 64;

// States of an object, as `Entry::mark()` stores them.
const HELD: u64 = 0x6865_6c64_0b1e_c701;
const FREED: u64 = 0xf0ee_d0b1_ec70_0002;
/// Freed, and waiting for the destructor.
const TO_DESTRUCT: u64 = 0xd00d_0b1e_c700_0003;
/// Destructed. Fresh memory of the slab may contain it.
const DESTRUCTED: u64 = 0xdead_0b1e_c700_0004;

/// The destructor of caches for [`Table::with_destructor()`].
pub(crate) const DESTRUCTOR: Option<ObjectFn> = Some(destruct);

/// Wrong calls of the destructor: the object was not freed, or already destructed, or the context
/// may not sleep.
static WRONG_CALLS: Atomic<u64> = Atomic::new(0);

/// # Safety
///
/// `object` belongs to a cache of a table.
unsafe extern "C" fn destruct(object: *mut c_void) {
    // SAFETY: By the safety requirements of this function; an entry consists of integers.
    let e = unsafe { &*object.cast::<Entry>() };
    let may_sleep = cpu::context() == cpu::Context::Task && !cpu::irqs_are_off();
    if e.mark(DESTRUCTED) != TO_DESTRUCT || !may_sleep {
        WRONG_CALLS.fetch_add(1, Relaxed);
    }
    for word in &e.generation {
        word.store(DESTRUCTED, Relaxed);
    }
}

/// The contents of an object.
#[repr(C)]
struct Entry {
    /// See [`Entry::mark()`].
    state: Atomic<u64>,
    /// The number of the allocation, in all words.
    generation: [Atomic<u64>; 7],
}

/// Objects of one read-side critical section of [`Table::under_readers()`].
const READ_OBJECTS: usize = 16;

/// The longest read-side critical section, in grace periods: it holds up those that start
/// meanwhile, while one that was in progress ends.
const MAX_READ_GPS: u64 = 3;

/// The longest read-side critical section, in nanoseconds.
const MAX_READ_NSECS: u64 = 100_000_000;

impl Entry {
    fn own(&self) -> u64 {
        ptr::from_ref(self).addr() as u64
    }

    /// Sets the state, and returns the previous one. States are stored XORed with the address: the
    /// plain constants are in the image of this module, and so in pages of its file that the slab
    /// may have got since.
    fn mark(&self, mark: u64) -> u64 {
        self.state.xchg(mark ^ self.own(), Full) ^ self.own()
    }

    /// Whether it is the same object as when a reader found it with `generation`. Its owner may
    /// free it meanwhile.
    fn is_still(&self, generation: u64) -> bool {
        let is_same = |word: &Atomic<u64>| word.load(Relaxed) == generation;
        self.generation.iter().all(is_same)
            && matches!(
                self.state.load(Relaxed) ^ self.own(),
                HELD | FREED | TO_DESTRUCT
            )
    }
}

/// Counts of errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Violations {
    /// Objects allocated while they were in use.
    pub(crate) allocated_twice: u64,
    /// Objects that were not in use when their owner freed them.
    pub(crate) not_held: u64,
    /// Readers whose object changed under them.
    pub(crate) reused_early: u64,
    /// Objects allocated again before they were destructed.
    pub(crate) not_destructed: u64,
    /// Calls of the destructor for objects that were not freed, twice, or in a context that may not
    /// sleep.
    pub(crate) wrong_dtor_calls: u64,
}

pub(crate) struct Table<'a> {
    cache: &'a SheafCache,
    slots: KVVec<Atomic<*mut Entry>>,
    generation: Atomic<u64>,
    turns: Atomic<u64>,
    allocated_twice: Atomic<u64>,
    not_held: Atomic<u64>,
    reused_early: Atomic<u64>,
    not_destructed: Atomic<u64>,
    /// The state of objects that were freed.
    freed_mark: u64,
    wrong_calls_before: u64,
    /// Objects that were freed.
    pub(crate) freed: Atomic<u64>,
    /// Objects that were replaced.
    pub(crate) replaced: Atomic<u64>,
    /// Allocations that failed.
    pub(crate) missed: Atomic<u64>,
    /// Checks of an object by readers.
    pub(crate) checks: Atomic<u64>,
    /// Readers with objects that a grace period ended under.
    gps_under_readers: Atomic<u64>,
}

/// How an object is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alloc {
    /// `GFP_KERNEL`
    Sleep,
    /// `GFP_ATOMIC`
    Atomic,
    /// `rcu_ptr_cache_alloc_nolock()`
    Nolock,
}

impl<'a> Table<'a> {
    /// An empty table of `len` slots for objects of `cache`.
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
            allocated_twice: Atomic::new(0),
            not_held: Atomic::new(0),
            reused_early: Atomic::new(0),
            not_destructed: Atomic::new(0),
            freed_mark: FREED,
            wrong_calls_before: WRONG_CALLS.load(Relaxed),
            freed: Atomic::new(0),
            replaced: Atomic::new(0),
            missed: Atomic::new(0),
            checks: Atomic::new(0),
            gps_under_readers: Atomic::new(0),
        })
    }

    /// An empty table of `len` slots for objects of `cache`, which has [`DESTRUCTOR`].
    pub(crate) fn with_destructor(cache: &'a SheafCache, len: usize) -> Result<Self> {
        let mut table = Self::new(cache, len)?;
        table.freed_mark = TO_DESTRUCT;
        Ok(table)
    }

    /// Replaces the contents of slot `i`.
    fn exchange(&self, i: usize, new: *mut Entry) -> Option<NonNull<Entry>> {
        let slot = self.slots.get(i % self.slots.len().max(1))?;
        // ORDERING: Full: filled before readers find it, removed before it is freed.
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
        // SAFETY: An object of the cache, large enough; an entry consists of integers.
        let e = unsafe { entry.as_ref() };
        match e.mark(HELD) {
            HELD => _ = self.allocated_twice.fetch_add(1, Relaxed),
            TO_DESTRUCT => _ = self.not_destructed.fetch_add(1, Relaxed),
            _ => (),
        }
        let generation = self.generation.fetch_add(1, Relaxed);
        for word in &e.generation {
            word.store(generation, Relaxed);
        }
        entry.as_ptr()
    }

    fn free_entry(&self, entry: NonNull<Entry>, at_once: bool) {
        // SAFETY: Owned by the caller until it is freed below.
        let e = unsafe { entry.as_ref() };
        if e.mark(self.freed_mark) != HELD {
            self.not_held.fetch_add(1, Relaxed);
        }
        self.freed.fetch_add(1, Relaxed);
        // SAFETY: A live object of this cache, freed once; no reader has it if `at_once`.
        unsafe {
            if at_once {
                self.cache.free(entry.cast());
            } else {
                self.cache.free_rcu(entry.cast());
            }
        }
    }

    /// Puts a new object into slot `i`, and frees the previous one after a grace period.
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
            self.free_entry(old, false);
        }
    }

    /// Allocates an object and frees it at once.
    ///
    /// # Context
    ///
    /// That of `how`.
    pub(crate) fn alloc_and_free(&self, how: Alloc) {
        if let Some(entry) = NonNull::new(self.new_entry(how)) {
            self.free_entry(entry, true);
        }
    }

    /// Each operation once, in another slot each time: replaces an object, allocates one and frees
    /// it at once, checks one.
    ///
    /// # Context
    ///
    /// That of `how`.
    pub(crate) fn exercise(&self, how: Alloc) {
        let i = self.turns.fetch_add(1, Relaxed) as usize;
        self.replace(i * 7, how);
        self.alloc_and_free(how);
        self.check(i);
    }

    /// Empties slot `i`.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    pub(crate) fn clear(&self, i: usize) {
        if let Some(old) = self.exchange(i, ptr::null_mut()) {
            self.free_entry(old, false);
        }
    }

    /// Empties all slots.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    pub(crate) fn clear_all(&self) {
        (0..self.slots.len()).for_each(|i| self.clear(i));
    }

    /// The object in slot `i`, and its generation.
    ///
    /// # Safety
    ///
    /// The caller is a reader that the cache waits for, and drops the reference before it leaves
    /// its critical section.
    unsafe fn find(&self, i: usize) -> Option<(&Entry, u64)> {
        // ORDERING: Acquire pairs with the exchange of `replace()`.
        let entry = self.slots.get(i % self.slots.len().max(1))?.load(Acquire);
        // SAFETY: Found in the caller's read-side critical section, so its memory stays.
        let entry = unsafe { entry.as_ref() }?;
        Some((entry, entry.generation[0].load(Relaxed)))
    }

    /// Checks an object of a reader. Returns whether it is unchanged.
    fn check_entry(&self, entry: &Entry, generation: u64) -> bool {
        let is_intact = entry.is_still(generation);
        self.reused_early.fetch_add(u64::from(!is_intact), Relaxed);
        self.checks.fetch_add(1, Relaxed);
        is_intact
    }

    /// Checks every word of the object in slot `i` once. That is too short to detect objects that
    /// are freed early, which [`Table::under_readers()`] does.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    pub(crate) fn check(&self, i: usize) {
        let guard = rcu::read_lock();
        // SAFETY: In a read-side critical section.
        if let Some((entry, generation)) = unsafe { self.find(i) } {
            self.check_entry(entry, generation);
        }
        drop(guard);
    }

    /// Checks the objects from slot `i` on repeatedly for `nsecs`, in one read-side critical
    /// section.
    fn read(&self, i: usize, nsecs: u64) {
        let before = gp::number();
        let guard = rcu::read_lock();
        // SAFETY: In a read-side critical section.
        let found: [_; READ_OBJECTS] = ::core::array::from_fn(|n| unsafe { self.find(i + n) });
        let end = thread::now_in_nmi() + nsecs;
        loop {
            // Before the check, so that the last check is after the end.
            let last = thread::now_in_nmi() >= end;
            let mut found = found.iter().flatten();
            if !found.all(|&(entry, generation)| self.check_entry(entry, generation)) || last {
                break;
            }
        }
        let ended = found.iter().any(Option::is_some) && gp::number() != before;
        drop(guard);
        self.gps_under_readers.fetch_add(u64::from(ended), Relaxed);
    }

    /// Whether a grace period ended while some reader had objects. On a single CPU that need not
    /// happen.
    fn saw_gp_end(&self) -> bool {
        self.gps_under_readers.load(Relaxed) > 0 || cpu::online().count() == 1
    }

    /// Counts from 0 to `n`, and on until a grace period has ended under a reader, for loops that
    /// are too short otherwise.
    pub(crate) fn rounds(&self, n: usize) -> impl Iterator<Item = usize> + '_ {
        let end = bound::timeout_end();
        (0..).take_while(move |&i| i < n || !self.saw_gp_end() && thread::now() < end)
    }

    /// Calls `f` beside as many readers as there are CPUs. They check objects for random times, in
    /// which grace periods end, and rest for three times as long.
    ///
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `ETIME` if no grace period ended while a reader had an object.
    pub(crate) fn under_readers<R>(&self, f: impl FnOnce() -> R) -> Result<R> {
        let stop = Atomic::<i32>::new(0);
        let most = (u64::from(gp::msecs()) * 1_000_000 * MAX_READ_GPS).min(MAX_READ_NSECS);
        let body = |number: i32| {
            let mut random = thread::now_in_nmi() ^ number as u64;
            while stop.load(Relaxed) == 0 {
                // Knuth's linear congruential generator; its high bits are random.
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
            // `f` may return before a grace period has ended under a reader.
            let end = bound::timeout_end();
            while !self.saw_gp_end() && thread::now() < end {
                (0..READ_OBJECTS).for_each(|i| self.replace(i, Alloc::Sleep));
                gp::synchronize();
            }
            stop.store(1, Relaxed);
            ret
        })?;
        self.saw_gp_end().then_some(ret).ok_or(ETIME)
    }

    /// Empties the table, and waits until all freed objects are destructed. Returns the difference
    /// between frees and destructor calls, for a cache that no other table uses.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn dtor_imbalance(&self) -> i64 {
        self.clear_all();
        self.cache.barrier();
        self.freed.load(Relaxed) as i64 - self.cache.stats().destructed as i64
    }

    /// Checks the object in slot `i` repeatedly, after each call of `pause`, until that returns
    /// false. The caller is a reader that the cache waits for.
    ///
    /// # Context
    ///
    /// That of `pause`.
    pub(crate) fn check_while(&self, i: usize, mut pause: impl FnMut() -> bool) {
        // SAFETY: The caller is such a reader.
        let Some((entry, generation)) = (unsafe { self.find(i) }) else {
            return;
        };
        while pause() && self.check_entry(entry, generation) {}
    }

    /// The errors so far.
    pub(crate) fn violations(&self) -> Violations {
        Violations {
            allocated_twice: self.allocated_twice.load(Relaxed),
            not_held: self.not_held.load(Relaxed),
            reused_early: self.reused_early.load(Relaxed),
            not_destructed: self.not_destructed.load(Relaxed),
            wrong_dtor_calls: WRONG_CALLS.load(Relaxed) - self.wrong_calls_before,
        }
    }
}

impl Drop for Table<'_> {
    fn drop(&mut self) {
        self.clear_all();
    }
}
