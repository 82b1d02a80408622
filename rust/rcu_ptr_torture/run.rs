// SPDX-License-Identifier: GPL-2.0

//! The state of a run: slots where readers find objects, and updates that replace these. All
//! contexts do the same, with the functions that are allowed in each.

use crate::{
    count::Count,
    object::{min_words, Found, Header, Source},
    plan::Plan,
    random::{Draw, Random},
    records::{Call, EnterError, Record, Records},
    sys::{
        alloc::{self, Checks, RawCache},
        cache::{Args, SheafCache},
        core,
        cpu::{self, Context},
        freed,
        srcu_domain::{Domain, Kind},
        thread,
    },
};
use ::core::ptr::NonNull;
use kernel::{
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed},
        rcu,
    },
};

/// Bytes of the objects of the kmem_cache and of the two caches.
const SLAB_SIZE: usize = 120;
const CACHE_SIZE: usize = 96;
const SMALL_CACHE_SIZE: usize = 200;
/// Fields start in the first words of an object, of this number.
const FIELD_WORDS: usize = 512;
/// The largest object of `kmalloc_nolock()`.
const NOLOCK_MAX: usize = 4096;

/// Whether hard interrupts must not take spinlocks, which sleep on PREEMPT_RT; lockdep checks that
/// on other kernels.
const STRICT: bool = cfg!(any(CONFIG_PREEMPT_RT, CONFIG_PROVE_RAW_LOCK_NESTING));

#[derive(Default)]
pub(crate) struct Counts {
    /// Objects passed to rcu_ptr, by call and by context.
    pub(crate) calls: [[Count; 4]; 7],
    pub(crate) nmis: Count,
    /// Handlers of NMIs that did not run `in_nmi()`.
    pub(crate) elsewhere: Count,
    /// Read-side critical sections, by context.
    pub(crate) reads: [Count; 4],
    /// Subset of `reads`: the object changed, or was freed.
    pub(crate) broken: Count,
    /// Allocations that failed.
    pub(crate) missed: Count,
    /// Objects without a record, as there was no room.
    pub(crate) full: Count,
    /// Headless frees that returned false.
    pub(crate) refused: Count,
    pub(crate) barriers: Count,
    /// Objects that still waited after a barrier.
    pub(crate) left_by_barrier: Count,
    /// Objects that waited for far too long without one.
    pub(crate) stuck: Count,
    pub(crate) expedited: Count,
    pub(crate) hotplugs: Count,
    /// CPUs whose bring-down was rolled back.
    pub(crate) returns: Count,
    pub(crate) caches: Count,
    pub(crate) squeezes: Count,
}

/// An object that the caller owns.
struct Owned<'a> {
    object: NonNull<u8>,
    source: Source,
    record: &'a Record,
}

impl<'a> Owned<'a> {
    fn new(object: NonNull<u8>, source: Source, record: &'a Record) -> Self {
        Self {
            object,
            source,
            record,
        }
    }
}

pub(crate) struct Run<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) records: &'a Records,
    pub(crate) random: Random,
    pub(crate) counts: Counts,
    slots: KVVec<Atomic<usize>>,
    generation: Atomic<u64>,
    caches: [SheafCache; 2],
    slab: RawCache,
    /// The SRCU domain of readers that sleep.
    pub(crate) domain: Domain,
    /// Whether all threads pause.
    pub(crate) idle: Atomic<i32>,
    /// A CPU that no NMIs are sent to, as it goes down or comes up; -1: none.
    pub(crate) excluded_cpu: Atomic<i32>,
}

impl<'a> Run<'a> {
    /// A run with empty slots.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn new(plan: &'a Plan, records: &'a Records) -> Result<Self> {
        let mut slots = KVVec::with_capacity(plan.slots, GFP_KERNEL)?;
        for _ in 0..plan.slots {
            slots.push(Atomic::new(0), GFP_KERNEL)?;
        }
        let domain = Domain::new(Kind::Plain)?;
        // Objects of one cache have SRCU readers, those of the other a destructor.
        let read_asleep = Args {
            srcu: domain.raw(),
            ..Args::default()
        };
        let destructed = Args {
            sheaf_capacity: 3,
            barn_limit: 4,
            dtor: Some(freed::destructed),
            ..Args::default()
        };
        Ok(Self {
            plan,
            records,
            random: Random::new(plan.seed)?,
            counts: Counts::default(),
            slots,
            generation: Atomic::new(1),
            caches: [
                SheafCache::new(c"rcu_ptr_torture", CACHE_SIZE, read_asleep)?,
                SheafCache::new(c"rcu_ptr_torture_small", SMALL_CACHE_SIZE, destructed)?,
            ],
            slab: RawCache::new("rcu_ptr_torture_slab", SLAB_SIZE, Checks::None)?,
            domain,
            idle: Atomic::new(0),
            excluded_cpu: Atomic::new(-1),
        })
    }

    /// The cache of `source`, which is one of both.
    pub(crate) fn cache(&self, source: Source) -> &SheafCache {
        &self.caches[usize::from(source == Source::SmallCache)]
    }

    /// One of the two caches, at random.
    pub(crate) fn some_cache(&self) -> Source {
        [Source::Cache, Source::SmallCache][self.random.below(2) as usize]
    }

    fn slot(&self, draw: &mut Draw<'_>) -> Option<&Atomic<usize>> {
        // A few slots are used much more often than the others.
        let n = self.slots.len() as u64;
        let i = if draw.one_in(2) {
            draw.below(n)
        } else {
            draw.skewed(n) - 1
        };
        self.slots.get(i as usize)
    }

    /// Chooses the allocator and the size of an object.
    fn choose(&self, context: Context, draw: &mut Draw<'_>) -> (Source, usize) {
        let mut source = match draw.below(20) {
            0..5 => Source::Kmalloc,
            5..9 => Source::KmallocNolock,
            9 => Source::Vmalloc,
            10 => Source::Kvmalloc,
            11..14 => Source::Slab,
            14..18 => Source::Cache,
            _ => Source::SmallCache,
        };
        // vmalloc() takes ten times as long as the others: reduce it to a quarter.
        let is_slow = source == Source::Vmalloc && !draw.one_in(4);
        if is_slow
            || context != Context::Task && matches!(source, Source::Vmalloc | Source::Kvmalloc)
        {
            source = Source::Kmalloc;
        }
        // The slab's locks may be held.
        let narrow = context == Context::Nmi || STRICT && context == Context::Hardirq;
        if narrow && matches!(source, Source::Kmalloc | Source::Slab) {
            source = Source::KmallocNolock;
        }
        if self.plan.sources & 1 << source as u32 == 0 {
            source = Source::KmallocNolock;
        }
        let bytes = match source {
            Source::Slab => SLAB_SIZE,
            Source::Cache => CACHE_SIZE,
            Source::SmallCache => SMALL_CACHE_SIZE,
            Source::Vmalloc => 4096 + draw.below(4) as usize * 4096,
            Source::Kvmalloc => draw.skewed(self.plan.large) as usize,
            Source::Kmalloc if context == Context::Task && draw.one_in(64) => {
                draw.skewed(self.plan.large) as usize
            }
            Source::Kmalloc => draw.skewed(8192) as usize,
            Source::KmallocNolock => draw.skewed(NOLOCK_MAX as u64) as usize,
        };
        (source, bytes.max(8) & !7)
    }

    fn alloc(
        &self,
        source: Source,
        bytes: usize,
        context: Context,
        draw: &mut Draw<'_>,
    ) -> Option<NonNull<u8>> {
        let atomic = context != Context::Task || draw.one_in(4);
        let nolock = match context {
            Context::Task => false,
            Context::Softirq => cfg!(CONFIG_PREEMPT_RT),
            Context::Hardirq => STRICT,
            Context::Nmi => true,
        };
        let gfp = alloc::quiet(atomic);
        match source {
            Source::Kmalloc => alloc::kmalloc(bytes, gfp),
            Source::KmallocNolock => alloc::kmalloc_nolock(bytes),
            Source::Vmalloc => alloc::vmalloc(bytes, alloc::quiet(false)),
            Source::Kvmalloc => alloc::kvmalloc(bytes, alloc::quiet(false)),
            Source::Slab => self.slab.alloc_with(gfp),
            Source::Cache | Source::SmallCache => {
                let cache = self.cache(source);
                if nolock || draw.one_in(3) {
                    cache.alloc_nolock()
                } else {
                    cache.alloc_with(gfp)
                }
            }
        }
    }

    /// Frees an object that was not shared, without a grace period.
    ///
    /// # Safety
    ///
    /// The caller owns the object, which is from `source`, and no reader has it.
    unsafe fn free_unshared(&self, source: Source, object: NonNull<u8>) {
        // SAFETY: By the safety requirements of this function; each function is allowed in the
        // contexts in which such objects are allocated.
        unsafe {
            match source {
                Source::KmallocNolock => alloc::kfree_nolock(object),
                Source::Cache | Source::SmallCache => self.cache(source).free(object),
                _ => alloc::kvfree(object),
            }
        }
    }

    /// Records an object. `None`: there is no room for a record, and it was freed; or it has
    /// another owner, and is leaked.
    ///
    /// # Safety
    ///
    /// The object was just allocated from `source`.
    unsafe fn own(&self, object: NonNull<u8>, source: Source) -> Option<Owned<'a>> {
        match self.records.enter(object, source) {
            Ok(record) => Some(Owned::new(object, source, record)),
            Err(EnterError::NoRoom) => {
                self.counts.full.up();
                // SAFETY: By the safety requirements of this function.
                unsafe { self.free_unshared(source, object) };
                None
            }
            Err(EnterError::InUse) => None,
        }
    }

    /// Counts and records an object that is about to be passed to rcu_ptr. Returns its number.
    fn queue(&self, record: &Record, call: Call, context: Context) -> u64 {
        self.counts.calls[call as usize][context as usize].up();
        self.records.queue(record, call, context)
    }

    /// Allocates an object with a record, and fills in header and canaries.
    fn make(&self, context: Context, draw: &mut Draw<'_>) -> Option<Found> {
        let (source, bytes) = self.choose(context, draw);
        let Some(object) = self.alloc(source, bytes, context, draw) else {
            self.counts.missed.up();
            return None;
        };
        // SAFETY: Just allocated.
        let owned = unsafe { self.own(object, source) }?;
        let words = bytes / 8;
        let wide = draw.one_in(3);
        let most = words.min(FIELD_WORDS) as u64;
        // At the start, at the end, or anywhere.
        let field = match draw.below(4) {
            0 => 0,
            1 => most.saturating_sub(1 + u64::from(wide)),
            _ => draw.below(most),
        } as usize;
        if words < min_words(field, wide) {
            // Too small for a header, so readers can't check it.
            self.free_unfilled(owned, context, draw);
            return None;
        }
        let generation = self.generation.fetch_add(1, Relaxed);
        let header = Header::new(generation, source, words.min(0x3fff), field, wide);
        let found = Found::new(object, field);
        // SAFETY: Just allocated, and large enough for the field and the header, as was checked
        // above.
        unsafe { found.fill(header) };
        Some(found)
    }

    /// Frees an object that was never filled. Returns its number if it was passed to rcu_ptr.
    fn free_unfilled(&self, owned: Owned<'_>, context: Context, draw: &mut Draw<'_>) -> u64 {
        let object = owned.object;
        if owned.source.is_cache() {
            self.records.set_freed(owned.record);
            // SAFETY: Owned by the caller, and not shared.
            unsafe { self.cache(owned.source).free(object) };
            return 0;
        }
        // SAFETY: Owned by the caller; all objects have at least one word.
        unsafe { self.free_by_call(owned, object.as_ptr(), false, context, draw) }
    }

    /// Passes an object that was removed from its slot, which readers may still have, to rcu_ptr.
    fn retire(&self, found: Found, context: Context, draw: &mut Draw<'_>) {
        // SAFETY: It was in a slot, so it was filled; this context removed it, so it is not freed.
        let header = unsafe { found.header() };
        let (record, source) = (self.records.live_record(found.address()), header.source());
        // SAFETY: As above.
        let intact = unsafe { found.is_intact(header) };
        let (Some(record), Some(source), true) = (record, source, intact) else {
            // It was freed, and allocated again. Leave it alone.
            return self.broken(found);
        };
        let Some(object) = NonNull::new(found.start()) else {
            return;
        };
        let owned = Owned::new(object, source, record);
        // SAFETY: Owned by the caller; the field lies in it.
        unsafe {
            let field = object.as_ptr().add(header.field() * 8);
            self.free_by_call(owned, field, header.has_head(), context, draw);
        }
    }

    /// Passes an object to rcu_ptr. Returns its number.
    ///
    /// # Safety
    ///
    /// The caller owns the object; `field` is 8 aligned bytes that start in its first 4096 bytes.
    /// With `head` its first 16 bytes are free for use.
    unsafe fn free_by_call(
        &self,
        owned: Owned<'_>,
        field: *mut u8,
        head: bool,
        context: Context,
        draw: &mut Draw<'_>,
    ) -> u64 {
        let Owned {
            object,
            source,
            record,
        } = owned;
        let call = self.choose_call(source, head, context, draw);
        let number = self.queue(record, call, context);
        // SAFETY: By the safety requirements of this function; the context is one of the call's.
        let free = || unsafe {
            match call {
                Call::FreeRcu => self.cache(source).free_rcu(object),
                Call::Kvfree => core::kvfree(object.as_ptr(), field),
                Call::Nolock => core::kfree_nolock(object.as_ptr(), field),
                Call::Callback => freed::call_to_free(object, false),
                Call::Sleepable => freed::call_to_free(object, true),
                Call::Mightsleep => core::kvfree_mightsleep(object),
                Call::Headless => {
                    if !core::try_kfree_nolock(object) {
                        self.counts.refused.up();
                        core::kfree_nolock(object.as_ptr(), field);
                    }
                }
            }
        };
        let how = if context != Context::Task || call == Call::Mightsleep {
            u64::MAX
        } else {
            draw.below(8)
        };
        match how {
            0 => cpu::raw_locked(free),
            1 => cpu::bh_off(free),
            2 => {
                let guard = rcu::read_lock();
                free();
                drop(guard);
            }
            _ => free(),
        }
        record.set_returned(number);
        number
    }

    fn choose_call(
        &self,
        source: Source,
        head: bool,
        context: Context,
        draw: &mut Draw<'_>,
    ) -> Call {
        if source.is_cache() {
            return Call::FreeRcu;
        }
        if head {
            match draw.below(4) {
                0 | 1 => return Call::Callback,
                2 => return Call::Sleepable,
                _ => {}
            }
        }
        match (context, draw.below(8)) {
            (_, 0 | 1) => Call::Headless,
            (Context::Task, 2) => Call::Mightsleep,
            (Context::Nmi, _) => Call::Nolock,
            (_, 3..=5) => Call::Kvfree,
            _ => Call::Nolock,
        }
    }

    /// Replaces the object of some slot by a new one, and frees the old one.
    ///
    /// # Context
    ///
    /// Any, NMI included: that of `context`.
    pub(crate) fn update(&self, context: Context) {
        let draw = &mut self.random.draw();
        let Some(slot) = self.slot(draw) else { return };
        let new = match self.make(context, draw) {
            Some(found) => found.bits(),
            // Sometimes empties the slot: the only update if this context can't allocate at all.
            None if draw.one_in(2) => return,
            None => 0,
        };
        // ORDERING: Full: filled before readers find it, removed before it is freed.
        if let Some(old) = Found::from_bits(slot.xchg(new, Full)) {
            self.retire(old, context, draw);
        }
    }

    /// Reads the object of some slot repeatedly, for up to `nsecs` nanoseconds, and checks that it
    /// does not change.
    ///
    /// # Context
    ///
    /// Any, NMI included: that of `context`.
    pub(crate) fn read(&self, context: Context, nsecs: u64) {
        self.read_as(context, nsecs, false);
    }

    /// As [`Self::read()`], in a task; now and then as an SRCU reader that sleeps, if the object is
    /// from the cache with the domain.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn read_long(&self, nsecs: u64) {
        if self.random.one_in(4) {
            self.domain
                .read(|| self.read_as(Context::Task, nsecs, true));
        } else {
            self.read_as(Context::Task, nsecs, false);
        }
    }

    fn read_as(&self, context: Context, nsecs: u64, in_domain: bool) {
        let draw = &mut self.random.draw();
        let Some(slot) = self.slot(draw) else { return };
        let mut guard = Some(rcu::read_lock());
        // ORDERING: Acquire pairs with the exchange of `update()`.
        if let Some(found) = Found::from_bits(slot.load(Acquire)) {
            let end = thread::now_in_nmi() + draw.skewed(nsecs);
            // SAFETY: Found in this read-side critical section, so it stays until its end, unless
            // there is a bug, which is what this test is to find.
            let header = unsafe { found.header() };
            if in_domain && header.source() == Some(Source::Cache) {
                // The domain protects these objects.
                guard = None;
            }
            loop {
                if guard.is_none() {
                    thread::sleep(1);
                }
                // SAFETY: As above.
                if !unsafe { found.is_intact(header) } {
                    self.broken(found);
                    break;
                }
                if thread::now_in_nmi() >= end {
                    break;
                }
            }
        }
        drop(guard);
        self.counts.reads[context as usize].up();
    }

    #[cold]
    fn broken(&self, found: Found) {
        self.counts.broken.up();
        freed::failed(
            c"changed under a reader or owner",
            found.address(),
            [c"some source", c"none", c"any context"],
            0,
        );
    }

    /// Queues an object of kmalloc or of a cache, in a task. Returns its record and number, to be
    /// checked after a barrier.
    pub(crate) fn queue_one(&self, source: Source) -> Option<(&'a Record, u64)> {
        let gfp = alloc::quiet(false);
        let object = match source.is_cache() {
            true => self.cache(source).alloc_with(gfp)?,
            false => alloc::kmalloc(64, gfp)?,
        };
        // SAFETY: Just allocated.
        let owned = unsafe { self.own(object, source) }?;
        let record = owned.record;
        let draw = &mut self.random.draw();
        if !source.is_cache() && draw.one_in(16) {
            let number = self.queue(record, Call::Sleepable, Context::Task);
            // SAFETY: Just allocated, with room for a head at its start.
            unsafe { freed::call_slow(object) };
            return Some((record, number));
        }
        let head = !source.is_cache() && draw.one_in(2);
        // SAFETY: Just allocated, with room for a field or head at its start; objects of caches
        // need none.
        let number =
            unsafe { self.free_by_call(owned, object.as_ptr(), head, Context::Task, draw) };
        Some((record, number))
    }

    /// Allocates an object of a cache and frees it at once, in a task.
    pub(crate) fn alloc_and_free(&self) {
        let source = self.some_cache();
        let Some(object) = self.cache(source).alloc_with(alloc::quiet(false)) else {
            return;
        };
        // SAFETY: Just allocated.
        if let Some(owned) = unsafe { self.own(object, source) } {
            self.free_unfilled(owned, Context::Task, &mut self.random.draw());
        }
    }

    /// Frees an object of `cache`, which is of the kind of `source`, after a grace period, in a
    /// task. Returns the same as [`queue_one()`](Self::queue_one).
    pub(crate) fn free_rcu(
        &self,
        cache: &SheafCache,
        source: Source,
        object: NonNull<u8>,
    ) -> Option<(&'a Record, u64)> {
        let queued = match self.records.enter(object, source) {
            Ok(record) => Some((record, self.queue(record, Call::FreeRcu, Context::Task))),
            Err(EnterError::NoRoom) => {
                self.counts.full.up();
                None
            }
            Err(EnterError::InUse) => return None,
        };
        // SAFETY: Owned by the caller, and not shared.
        unsafe { cache.free_rcu(object) };
        queued
    }

    /// Empties all slots.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn clear(&self) {
        for slot in self.slots.iter() {
            // ORDERING: Full: removed before it is freed.
            if let Some(old) = Found::from_bits(slot.xchg(0, Full)) {
                self.retire(old, Context::Task, &mut self.random.draw());
            }
            thread::cond_resched();
        }
    }
}
