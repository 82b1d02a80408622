// SPDX-License-Identifier: GPL-2.0

//! A record for each object, by its address, from its allocation until it is freed.
//!
//! ```text
//! LIVE        allocated, not yet freed
//! QUEUED      passed to rcu_ptr, with a snapshot that was taken just before
//! FREED       seen at the probe, right before it is freed; or freed by its owner
//! DESTRUCTED  of a cache with a destructor, which has run
//! ```
//!
//! When rcu_ptr frees an object its snapshot has to be over; otherwise it was freed early, even if no reader
//! had it. The same holds when a cache allocates it again. An object that is freed or allocated while it is
//! live was freed twice. One that is still queued after a barrier is lost.
//!
//! Records are in hash buckets that are searched as a whole, so they can be written in any context, NMI
//! included, unless a function says otherwise.

use crate::{
    count::Count,
    object::Source,
    random::mix,
    sys::{
        cpu::{self, Context},
        freed,
        gp::SharedSnapshot,
        thread,
    },
};
use ::core::ptr::NonNull;
use kernel::{
    prelude::*,
    sync::atomic::{Acquire, Atomic, Full, Relaxed, Release},
};

/// Records of a bucket.
const BUCKET: usize = 8;

const EMPTY: u32 = 0;
/// Being written.
const CLAIMED: u32 = 1;
const LIVE: u32 = 2;
const QUEUED: u32 = 3;
const FREED: u32 = 4;
const DESTRUCTED: u32 = 5;

/// The call by which an object was passed to rcu_ptr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Call {
    Kvfree,
    Nolock,
    Headless,
    Mightsleep,
    FreeRcu,
    Callback,
    Sleepable,
}

impl Call {
    pub(crate) const NAMES: [&'static CStr; 7] = [
        c"rcu_ptr_kvfree",
        c"rcu_ptr_kfree_nolock",
        c"rcu_ptr_try_kfree_nolock",
        c"rcu_ptr_kvfree_mightsleep",
        c"rcu_ptr_cache_free_rcu",
        c"rcu_ptr_call",
        c"rcu_ptr_call_sleepable",
    ];
}

const CONTEXTS: [&CStr; 4] = [c"a task", c"a softirq", c"a hardirq", c"an NMI"];
const SOURCES: [&CStr; 7] = [
    c"kmalloc",
    c"kmalloc_nolock",
    c"vmalloc",
    c"kvmalloc",
    c"a kmem_cache",
    c"a cache",
    c"a cache of small sheaves",
];

pub(crate) struct Record {
    address: Atomic<usize>,
    state: Atomic<u32>,
    source: Atomic<u32>,
    call: Atomic<u32>,
    context: Atomic<u32>,
    /// When it was queued, and its number among all.
    since: Atomic<u64>,
    number: Atomic<u64>,
    /// On which CPU.
    cpu: Atomic<i32>,
    /// The number of the last object whose call has returned.
    passed: Atomic<u64>,
    /// The call of the probe in which it was freed.
    visit: Atomic<u64>,
    snapshot: SharedSnapshot,
}

impl Record {
    const fn new() -> Self {
        Self {
            address: Atomic::new(0),
            state: Atomic::new(EMPTY),
            source: Atomic::new(0),
            call: Atomic::new(0),
            context: Atomic::new(0),
            since: Atomic::new(0),
            number: Atomic::new(0),
            cpu: Atomic::new(-1),
            passed: Atomic::new(0),
            visit: Atomic::new(0),
            snapshot: SharedSnapshot::new(),
        }
    }

    pub(crate) fn is_cache(&self) -> bool {
        self.source.load(Relaxed) >= Source::Cache as u32
    }

    /// Whether a destructor runs before it is allocated again or freed to the slab.
    fn is_destructed(&self) -> bool {
        self.source.load(Relaxed) == Source::SmallCache as u32
    }

    /// The call that the object was passed to as `number` has returned. The record may be another object's.
    pub(crate) fn pass(&self, number: u64) {
        // ORDERING: Release pairs with the acquire of `Records::waiting()`: the call came before.
        self.passed.store(number, Release);
    }

    /// Whether it was passed to rcu_ptr on `cpu`, by a call after which it is freed without a callback.
    pub(crate) fn is_plain_of(&self, cpu: i32) -> bool {
        let plain = [Call::Kvfree, Call::Nolock, Call::Headless];
        !self.is_cache()
            && self.cpu.load(Relaxed) == cpu
            && plain
                .iter()
                .any(|&call| call as u32 == self.call.load(Relaxed))
    }

    /// Whether a barrier has it freed or destructed.
    pub(crate) fn is_of_barrier(&self) -> bool {
        !self.is_cache() || self.is_destructed()
    }

    /// Reports a failure.
    pub(crate) fn failed(&self, what: &CStr) {
        let of = |names: &[&'static CStr], at: &Atomic<u32>| {
            let name = names.get(at.load(Relaxed) as usize);
            name.copied().unwrap_or(c"nothing")
        };
        let age = if self.call.load(Relaxed) == u32::MAX {
            0
        } else {
            thread::now_in_nmi().wrapping_sub(self.since.load(Relaxed))
        };
        freed::failed(
            what,
            self.address.load(Relaxed),
            [
                of(&SOURCES, &self.source),
                of(&Call::NAMES, &self.call),
                of(&CONTEXTS, &self.context),
            ],
            age,
        );
    }

    /// Whether the object that was queued as `number` still waits.
    pub(crate) fn waits(&self, number: u64) -> bool {
        // ORDERING: The state first, which comes with the number of its object (acquire pairs with the release of
        // `Records::queue()`). The other way round the record could be another object's by then, which waits.
        self.state.load(Acquire) == QUEUED && self.number.load(Relaxed) == number
    }
}

/// Counters of failures and events.
#[derive(Default)]
pub(crate) struct Sums {
    /// Objects freed, or allocated again, before their snapshot was over.
    pub(crate) early: Count,
    /// Objects freed or allocated while they were live, or twice in one call of the probe.
    pub(crate) double: Count,
    /// Objects passed to rcu_ptr.
    pub(crate) queued: Count,
    /// Objects seen at the probe.
    pub(crate) freed: Count,
    /// Destructors that ran.
    pub(crate) destructed: Count,
    /// Objects that a cache allocated again.
    pub(crate) reused: Count,
    /// Longest time from queueing to the probe, in nanoseconds.
    pub(crate) longest: Count,
    /// Most objects that waited at a time, without those of caches.
    pub(crate) peak: Count,
    waiting: Count,
    visits: Count,
    /// A hash of all events and their times: equal only for equal runs.
    pub(crate) trace: Count,
}

pub(crate) struct Records {
    records: KVVec<Record>,
    pub(crate) sums: Sums,
}

impl Records {
    /// Room for `records`, rounded up.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn new(records: usize) -> Result<Self> {
        let records = records.max(BUCKET).next_power_of_two();
        let mut this = Self {
            records: KVVec::with_capacity(records, GFP_KERNEL)?,
            sums: Sums::default(),
        };
        for _ in 0..records {
            this.records.push(Record::new(), GFP_KERNEL)?;
        }
        Ok(this)
    }

    /// `now`: nanoseconds; 0 where the order of events is enough, as the clock costs more than all else here.
    fn trace(&self, what: u64, address: usize, now: u64) {
        let trace = &self.sums.trace;
        let event = (address as u64 ^ what << 56).wrapping_add(now);
        // An event that comes in between is lost: in each of several equal runs.
        trace.set(mix(trace.get() ^ event));
    }

    fn bucket(&self, address: usize) -> &[Record] {
        let buckets = self.records.len() / BUCKET;
        let bucket = (mix(address as u64 >> 3) as usize) & (buckets - 1);
        &self.records[bucket * BUCKET..(bucket + 1) * BUCKET]
    }

    fn find(&self, address: usize) -> Option<&Record> {
        self.bucket(address).iter().find(|record| {
            // ORDERING: Acquire: the state that follows is at least that of this address. A claimed record
            // still has the address of its last object, or is not in use yet.
            record.address.load(Acquire) == address && record.state.load(Relaxed) != CLAIMED
        })
    }

    /// The state of `record`, if it still is that of `address`: unless that object is live or queued the
    /// record may be reused after it was found.
    fn state_of(record: &Record, address: usize) -> Option<u32> {
        // ORDERING: Acquire pairs with the release of `enter()`: the state of another object comes with its
        // address, which is seen below.
        let state = record.state.load(Acquire);
        (state != CLAIMED && record.address.load(Relaxed) == address).then_some(state)
    }

    /// Records an object that was allocated. Errors: there is no room; or the object is in use, and must not
    /// be touched.
    pub(crate) fn enter(&self, object: NonNull<u8>, source: Source) -> Result<&Record, Refused> {
        let address = object.as_ptr().expose_provenance();
        let record = match self.find(address) {
            Some(record) if self.is_left(record, address)? => record,
            _ => self.claim(address).ok_or(Refused::Full)?,
        };
        record.address.store(address, Relaxed);
        record.source.store(source as u32, Relaxed);
        record.call.store(u32::MAX, Relaxed);
        record.context.store(u32::MAX, Relaxed);
        // ORDERING: Release: the fields are seen with the state.
        record.state.store(LIVE, Release);
        self.trace(1, address, 0);
        Ok(record)
    }

    /// The record of an object and its state, if it could be claimed: there may have been no room for it.
    fn claimed(&self, address: usize) -> Option<(&Record, u32)> {
        let record = self.find(address)?;
        let state = Self::state_of(record, address)?;
        // ORDERING: Full: pairs with the release of `queue()`.
        let claimed = record.state.cmpxchg(state, CLAIMED, Full);
        claimed.ok().map(|_| (record, state))
    }

    /// Whether an object that was just allocated was free before, and its record is claimed by this context
    /// now; `false`: the record was reused for another object meanwhile.
    fn is_left(&self, record: &Record, address: usize) -> Result<bool, Refused> {
        let Some(state) = Self::state_of(record, address) else {
            return Ok(false);
        };
        let left = match state {
            FREED | EMPTY | DESTRUCTED => true,
            QUEUED => record.is_cache() && !record.is_destructed(),
            _ => false,
        };
        if left {
            // ORDERING: Full: the record is this context's alone from here on.
            if record.state.cmpxchg(state, CLAIMED, Full).is_err() {
                return Ok(false);
            }
            if state == QUEUED {
                self.sums.reused.up();
                self.check(record, c"allocated again before its grace period");
            }
            return Ok(true);
        }
        self.sums.double.up();
        record.failed(if state == QUEUED && record.is_cache() {
            c"allocated again without its destructor"
        } else if state == QUEUED {
            c"allocated while it waits"
        } else {
            c"allocated while it is in use"
        });
        Err(Refused::Taken)
    }

    fn claim(&self, address: usize) -> Option<&Record> {
        self.bucket(address).iter().find(|record| {
            [EMPTY, FREED, DESTRUCTED].into_iter().any(|state| {
                record.state.load(Relaxed) == state
                    // ORDERING: Full: the record is this context's alone from here on.
                    && record.state.cmpxchg(state, CLAIMED, Full).is_ok()
            })
        })
    }

    /// Records that the object is about to be passed to rcu_ptr. From here on it may be freed. Returns its
    /// number among all objects.
    pub(crate) fn queue(&self, record: &Record, call: Call, context: Context) -> u64 {
        record.call.store(call as u32, Relaxed);
        record.context.store(context as u32, Relaxed);
        record.cpu.store(cpu::this(), Relaxed);
        let now = thread::now_in_nmi();
        record.since.store(now, Relaxed);
        record.snapshot.take();
        if !record.is_cache() {
            let waiting = self.sums.waiting.up();
            self.sums.peak.raise(waiting);
        }
        let number = self.sums.queued.up();
        record.number.store(number, Relaxed);
        self.trace(2, record.address.load(Relaxed), now);
        // ORDERING: Release pairs with the exchange when it is freed: the snapshot is seen.
        record.state.store(QUEUED, Release);
        number
    }

    /// Records that the owner frees the object itself, without a grace period.
    pub(crate) fn leave(&self, record: &Record) {
        // ORDERING: Release: the record may be reused from here on.
        record.state.store(FREED, Release);
    }

    /// The record of an object that the caller owns.
    pub(crate) fn of(&self, address: usize) -> Option<&Record> {
        self.find(address)
            .filter(|record| record.state.load(Relaxed) == LIVE)
    }

    fn check(&self, record: &Record, what: &CStr) {
        if !record.snapshot.is_over() {
            self.sums.early.up();
            record.failed(what);
        }
    }

    /// rcu_ptr is about to free these objects; those of other modules have no record.
    ///
    /// # Context
    ///
    /// Any but NMI.
    pub(crate) fn freed(&self, objects: &[usize]) {
        let (visit, now) = (self.sums.visits.up(), thread::now_in_nmi());
        for &address in objects {
            if let Some((record, state)) = self.claimed(address) {
                self.freed_one(record, state, visit, now);
                self.trace(3, address, now);
                // ORDERING: Release: the record may be reused from here on.
                record.state.store(FREED, Release);
            }
        }
    }

    fn freed_one(&self, record: &Record, state: u32, visit: u64, now: u64) {
        match state {
            QUEUED => {
                let since = record.since.load(Relaxed);
                self.sums.longest.raise(now.saturating_sub(since));
                if !record.is_cache() {
                    self.sums.waiting.down();
                    self.sums.freed.up();
                }
                if record.is_destructed() {
                    self.sums.double.up();
                    record.failed(c"freed without its destructor");
                }
                self.check(record, c"freed before its grace period");
            }
            LIVE => {
                self.sums.double.up();
                record.failed(c"freed while it is in use");
            }
            // Within one call of the probe it has not been freed yet, so it can't have been allocated again.
            FREED if record.visit.load(Relaxed) == visit => {
                self.sums.double.up();
                record.failed(c"freed twice");
            }
            _ => {}
        }
        record.visit.store(visit, Relaxed);
    }

    /// The destructor of this object runs.
    ///
    /// # Context
    ///
    /// Any but NMI.
    pub(crate) fn destructed(&self, address: usize) {
        let Some((record, state)) = self.claimed(address) else {
            return;
        };
        match state {
            QUEUED => self.check(record, c"destructed before its grace period"),
            // Freed by its owner, by a call that is not recorded.
            FREED | EMPTY => {}
            _ => {
                self.sums.double.up();
                record.failed(if state == LIVE {
                    c"destructed while it is in use"
                } else {
                    c"destructed twice"
                });
            }
        }
        self.sums.destructed.up();
        self.trace(4, address, 0);
        // ORDERING: Release: the record may be reused from here on.
        record.state.store(DESTRUCTED, Release);
    }

    /// Fills `found` with objects that wait and whose calls have returned, and their numbers: those that `is_asked`
    /// is true for, from record `start` on.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn waiting<'a>(
        &'a self,
        start: usize,
        found: &mut [Option<(&'a Record, u64)>],
        is_asked: impl Fn(&Record) -> bool,
    ) {
        // Their number is a power of two.
        let start = start & (self.records.len() - 1);
        let (front, back) = self.records.split_at_checked(start).unwrap_or_default();
        let mut slots = found.iter_mut();
        for record in Iterator::chain(back.iter(), front) {
            // ORDERING: Acquire pairs with the release of `pass()`.
            let number = record.passed.load(Acquire);
            if record.waits(number) && is_asked(record) {
                let Some(slot) = slots.next() else { return };
                *slot = Some((record, number));
            }
        }
    }

    /// Objects that are still queued after the last barrier: they are lost. Returns their number.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn lost(&self) -> u64 {
        let queued =
            |record: &&Record| record.state.load(Relaxed) == QUEUED && record.is_of_barrier();
        let mut lost = 0;
        for record in self.records.iter().filter(queued) {
            record.failed(c"never freed");
            lost += 1;
        }
        lost
    }
}

/// Why [`Records::enter()`] failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is no free record.
    Full,
    /// The object is in use.
    Taken,
}
