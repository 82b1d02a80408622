// SPDX-License-Identifier: GPL-2.0

//! The book of all objects: from its allocation to its end each has a record, by its address.
//!
//! ```text
//! LIVE      allocated, in the hands of its owner
//! QUEUED    given to rcu_ptr, with a snapshot that was taken just before
//! FREED     seen at the probe, right before it goes back to its allocator; or given back by the owner
//! DESTRUCTED  of a cache with a destructor, which has run
//! ```
//!
//! When rcu_ptr frees an object its snapshot has to be over: else it is early, by however little, and
//! whether or not a reader had it. The same when a cache gives it out again. An object that is freed or
//! allocated while it is live was freed twice. One that is still queued behind a barrier is lost.
//!
//! Records are in buckets that are searched as a whole, so that any context may write in one at any
//! moment, NMI included.

use crate::{
    count::Count,
    dice::mix,
    object::Source,
    sys::{core, cpu::Context, gp::Snapshot, thread},
};
use ::core::ptr::NonNull;
use kernel::{
    prelude::*,
    sync::atomic::{Acquire, Atomic, Full, Relaxed, Release},
};

/// Records of a bucket.
const BUCKET: usize = 32;

const EMPTY: u32 = 0;
/// Being written.
const CLAIMED: u32 = 1;
const LIVE: u32 = 2;
const QUEUED: u32 = 3;
const FREED: u32 = 4;
const DESTRUCTED: u32 = 5;

/// How an object was given to rcu_ptr.
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

/// A record.
pub(crate) struct Record {
    address: Atomic<usize>,
    state: Atomic<u32>,
    source: Atomic<u32>,
    call: Atomic<u32>,
    context: Atomic<u32>,
    /// When it was queued, and as which of all.
    since: Atomic<u64>,
    number: Atomic<u64>,
    /// The visit to the probe in which it was freed.
    visit: Atomic<u64>,
    snapshot: Snapshot,
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
            visit: Atomic::new(0),
            snapshot: Snapshot::new(),
        }
    }

    fn is_cache(&self) -> bool {
        self.source.load(Relaxed) >= Source::Cache as u32
    }

    /// Whether a destructor comes before it is given out again, or back to the slab.
    fn is_destructed(&self) -> bool {
        self.source.load(Relaxed) == Source::SmallCache as u32
    }

    /// Says in the log what is wrong with it.
    pub(crate) fn failed(&self, what: &CStr) {
        let of = |names: &[&'static CStr], at: &Atomic<u32>| {
            let name = names.get(at.load(Relaxed) as usize);
            name.copied().unwrap_or(c"nothing")
        };
        core::failed(
            what,
            self.address.load(Relaxed),
            [
                of(&SOURCES, &self.source),
                of(&Call::NAMES, &self.call),
                of(&CONTEXTS, &self.context),
            ],
            thread::now().wrapping_sub(self.since.load(Relaxed)),
        );
    }

    /// Whether what was queued as `number` waits still.
    pub(crate) fn waits(&self, number: u64) -> bool {
        // ORDERING: None: the caller has waited for a barrier since it was queued.
        self.number.load(Relaxed) == number && self.state.load(Relaxed) == QUEUED
    }
}

/// What went wrong, and what was seen, in counts.
#[derive(Default)]
pub(crate) struct Sums {
    /// Freed, or given out again, before their snapshot was over.
    pub(crate) early: Count,
    /// Freed or allocated while they were live, or twice in one go.
    pub(crate) double: Count,
    /// Objects given to rcu_ptr.
    pub(crate) queued: Count,
    /// Objects seen at the probe.
    pub(crate) freed: Count,
    /// Destructors that ran.
    pub(crate) destructed: Count,
    /// Objects that a cache gave out again.
    pub(crate) reused: Count,
    /// Longest time from queueing to the probe, in nanoseconds.
    pub(crate) longest: Count,
    /// Most objects that waited at a time, but those of caches.
    pub(crate) peak: Count,
    waiting: Count,
    visits: Count,
    /// Over all events and their times: the same only where all of them were the same.
    pub(crate) trace: Count,
}

/// The book.
pub(crate) struct Book {
    records: KVVec<Record>,
    pub(crate) sums: Sums,
}

impl Book {
    /// A book with room for `records`, in round numbers.
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

    fn trace(&self, what: u64, address: usize) {
        let trace = &self.sums.trace;
        let event = mix(address as u64 ^ what << 56).wrapping_add(thread::now());
        // What comes in between is lost, and always the same where all is.
        trace.set(mix(trace.get() ^ event));
    }

    fn bucket(&self, address: usize) -> &[Record] {
        let buckets = self.records.len() / BUCKET;
        let bucket = (mix(address as u64 >> 3) as usize) & (buckets - 1);
        &self.records[bucket * BUCKET..(bucket + 1) * BUCKET]
    }

    fn find(&self, address: usize) -> Option<&Record> {
        self.bucket(address).iter().find(|record| {
            // ORDERING: Acquire: the state that follows is at least that of this address. What is claimed
            // has the address of its last object still, or is not yet known to anybody.
            record.address.load(Acquire) == address && record.state.load(Relaxed) != CLAIMED
        })
    }

    /// The state of `record`, if it still is that of `address`: it may become another object's after it was
    /// found, as long as this one is not live or queued.
    fn state_of(record: &Record, address: usize) -> Option<u32> {
        // ORDERING: Acquire pairs with the release of `enter()`: the state of another object comes with its
        // address, which is seen below.
        let state = record.state.load(Acquire);
        (state != CLAIMED && record.address.load(Relaxed) == address).then_some(state)
    }

    /// An object was allocated. An error: there is no room; or somebody else has it, and then it is not to
    /// be touched.
    ///
    /// # Context
    ///
    /// Any, NMI included.
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
        record.since.store(thread::now(), Relaxed);
        // ORDERING: Release: who finds it live finds all of it.
        record.state.store(LIVE, Release);
        self.trace(1, address);
        Ok(record)
    }

    /// Whether the last owner of an object that was just allocated has left it, and this context has its
    /// record now; `false`: it has become the record of another object at this moment.
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
                self.check(record, c"given out again before its grace period");
            }
            return Ok(true);
        }
        self.sums.double.up();
        record.failed(if state == QUEUED && record.is_cache() {
            c"given out again without its destructor"
        } else if state == QUEUED {
            c"given out while it waits"
        } else {
            c"given out while somebody has it"
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

    /// The owner is about to give the object to rcu_ptr. From here on it may be freed. Returns which of
    /// all objects it is.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    pub(crate) fn queue(&self, record: &Record, call: Call, context: Context) -> u64 {
        record.call.store(call as u32, Relaxed);
        record.context.store(context as u32, Relaxed);
        record.since.store(thread::now(), Relaxed);
        record.snapshot.take();
        if !record.is_cache() {
            let waiting = self.sums.waiting.up();
            self.sums.peak.raise(waiting);
        }
        let number = self.sums.queued.up();
        record.number.store(number, Relaxed);
        self.trace(2, record.address.load(Relaxed));
        // ORDERING: Release pairs with the exchange of who frees it, which finds the snapshot.
        record.state.store(QUEUED, Release);
        number
    }

    /// The owner gives the object back to its allocator itself.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    pub(crate) fn leave(&self, record: &Record) {
        // ORDERING: Release: the record may be another object's from here on.
        record.state.store(FREED, Release);
    }

    /// The record of an object that the caller owns.
    ///
    /// # Context
    ///
    /// Any, NMI included.
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

    /// rcu_ptr is about to give these back to their allocators; those that are not ours are left alone.
    ///
    /// # Context
    ///
    /// Any but NMI.
    pub(crate) fn freed(&self, objects: &[usize]) {
        let visit = self.sums.visits.up();
        for &address in objects {
            if let Some(record) = self.find(address) {
                self.freed_one(record, address, visit);
            }
        }
    }

    fn freed_one(&self, record: &Record, address: usize, visit: u64) {
        let Some(state) = Self::state_of(record, address) else {
            return;
        };
        // ORDERING: Full: pairs with the release of `queue()`.
        if record.state.cmpxchg(state, CLAIMED, Full).is_err() {
            return;
        }
        match state {
            QUEUED => {
                let since = record.since.load(Relaxed);
                self.sums.longest.raise(thread::now().saturating_sub(since));
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
                record.failed(c"freed while somebody has it");
            }
            // At this moment it has not gone back yet: nobody else can have freed it.
            FREED if record.visit.load(Relaxed) == visit => {
                self.sums.double.up();
                record.failed(c"freed twice");
            }
            _ => {}
        }
        record.visit.store(visit, Relaxed);
        self.trace(3, address);
        // ORDERING: Release: the record may be another object's from here on.
        record.state.store(FREED, Release);
    }

    /// The destructor of this object runs.
    ///
    /// # Context
    ///
    /// Any but NMI.
    pub(crate) fn destructed(&self, address: usize) {
        // There may have been no room for it.
        let Some(record) = self.find(address) else {
            return;
        };
        let Some(state) = Self::state_of(record, address) else {
            return;
        };
        if record.state.cmpxchg(state, CLAIMED, Full).is_err() {
            return;
        }
        match state {
            QUEUED => self.check(record, c"destructed before its grace period"),
            // Given back by its owner, by a call that is not booked.
            FREED => {}
            EMPTY => {}
            _ => {
                self.sums.double.up();
                record.failed(if state == LIVE {
                    c"destructed while somebody has it"
                } else {
                    c"destructed twice"
                });
            }
        }
        self.sums.destructed.up();
        self.trace(4, address);
        // ORDERING: Release: the record may be another object's from here on.
        record.state.store(DESTRUCTED, Release);
    }

    /// How many are queued still, behind a barrier that nobody queued anything after: those are lost.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn lost(&self) -> u64 {
        let queued = |record: &&Record| {
            record.state.load(Relaxed) == QUEUED && (!record.is_cache() || record.is_destructed())
        };
        let mut lost = 0;
        for record in self.records.iter().filter(queued) {
            record.failed(c"never freed");
            lost += 1;
        }
        lost
    }
}

/// Why [`Book::enter()`] has no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// No room.
    Full,
    /// Somebody else has the object as well.
    Taken,
}
