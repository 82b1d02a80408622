// SPDX-License-Identifier: GPL-2.0

//! A record for each object, by address, from its allocation until it is freed.
//!
//! ```text
//! LIVE        allocated, not freed yet
//! QUEUED      passed to rcu_ptr, with a snapshot that was taken just before
//! FREED       seen at the probe, right before it is freed; or freed by its owner
//! DESTRUCTED  its destructor has run
//! ```
//!
//! When rcu_ptr frees an object, or a cache allocates it again, the grace period of its snapshot
//! must be over; otherwise it was freed early, even if no reader had it. An object that is freed or
//! allocated while it is live was freed twice. One that is still queued after a barrier is lost.
//!
//! Records are in hash buckets that are searched linearly, and can be written in any context, NMI
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

/// The number of records in a bucket.
const BUCKET: usize = 8;

const EMPTY: u32 = 0;
/// Being written.
const CLAIMED: u32 = 1;
const LIVE: u32 = 2;
const QUEUED: u32 = 3;
const FREED: u32 = 4;
const DESTRUCTED: u32 = 5;

/// The function by which an object was passed to rcu_ptr.
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
    /// When it was queued.
    since: Atomic<u64>,
    /// Its number among all queued objects.
    number: Atomic<u64>,
    /// The CPU on which it was queued.
    cpu: Atomic<i32>,
    /// The number of the last object of this record whose call has returned.
    returned: Atomic<u64>,
    /// The call of the probe in which it was freed.
    probe_call: Atomic<u64>,
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
            returned: Atomic::new(0),
            probe_call: Atomic::new(0),
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

    /// Records that the call for object `number` has returned. The record may belong to another
    /// object by now.
    pub(crate) fn set_returned(&self, number: u64) {
        // ORDERING: Release pairs with the acquire of `Records::waiting()`: the call came before.
        self.returned.store(number, Release);
    }

    /// Whether it was queued on `cpu` by a function without a callback.
    pub(crate) fn is_plain_of(&self, cpu: i32) -> bool {
        let plain = [Call::Kvfree, Call::Nolock, Call::Headless];
        !self.is_cache()
            && self.cpu.load(Relaxed) == cpu
            && plain
                .iter()
                .any(|&call| call as u32 == self.call.load(Relaxed))
    }

    /// Whether it must be freed or destructed when a barrier returns.
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

    /// Whether object `number` is still queued.
    pub(crate) fn is_waiting(&self, number: u64) -> bool {
        // ORDERING: The state first, which comes with the number of its object (acquire pairs with
        // the release of `Records::queue()`). The other way round the record could be another
        // object's by then, which waits.
        self.state.load(Acquire) == QUEUED && self.number.load(Relaxed) == number
    }
}

/// Totals of failures and events.
#[derive(Default)]
pub(crate) struct Totals {
    /// Objects freed, or allocated again, before their grace period was over.
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
    /// The most objects that waited at a time, without those of caches.
    pub(crate) peak: Count,
    waiting: Count,
    probe_calls: Count,
    /// A hash of all events and their times: equal only for equal runs.
    pub(crate) trace: Count,
}

pub(crate) struct Records {
    records: KVVec<Record>,
    pub(crate) totals: Totals,
}

impl Records {
    /// Allocates `records` records, rounded up to a power of two.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn new(records: usize) -> Result<Self> {
        let records = records.max(BUCKET).next_power_of_two();
        let mut this = Self {
            records: KVVec::with_capacity(records, GFP_KERNEL)?,
            totals: Totals::default(),
        };
        for _ in 0..records {
            this.records.push(Record::new(), GFP_KERNEL)?;
        }
        Ok(this)
    }

    /// Adds an event to the hash. `now`: nanoseconds, or 0 to hash only the order of events, as
    /// reading the clock is expensive.
    fn trace(&self, what: u64, address: usize, now: u64) {
        let trace = &self.totals.trace;
        let event = (address as u64 ^ what << 56).wrapping_add(now);
        // A concurrent event is lost, in equal runs alike.
        trace.set(mix(trace.get() ^ event));
    }

    fn bucket(&self, address: usize) -> &[Record] {
        let buckets = self.records.len() / BUCKET;
        let bucket = (mix(address as u64 >> 3) as usize) & (buckets - 1);
        &self.records[bucket * BUCKET..(bucket + 1) * BUCKET]
    }

    fn find(&self, address: usize) -> Option<&Record> {
        self.bucket(address).iter().find(|record| {
            // ORDERING: Acquire: the state that follows is at least that of this address. A claimed
            // record still has the address of its last object, or is not in use yet.
            record.address.load(Acquire) == address && record.state.load(Relaxed) != CLAIMED
        })
    }

    /// The state of `record` if it still belongs to `address`: the record may be reused unless the
    /// object is live or queued.
    fn state_of(record: &Record, address: usize) -> Option<u32> {
        // ORDERING: Acquire pairs with the release of `enter()`: the state of another object comes
        // with its address, which is seen below.
        let state = record.state.load(Acquire);
        (state != CLAIMED && record.address.load(Relaxed) == address).then_some(state)
    }

    /// Records an object that was allocated. On `InUse` the caller must not access it.
    pub(crate) fn enter(&self, object: NonNull<u8>, source: Source) -> Result<&Record, EnterError> {
        let address = object.as_ptr().expose_provenance();
        let record = match self.find(address) {
            Some(record) if self.claim_unused(record, address)? => record,
            _ => self.claim(address).ok_or(EnterError::NoRoom)?,
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

    /// Claims the record of an object, and returns it with its state. `None`: there is no record,
    /// or another context has it.
    fn claimed(&self, address: usize) -> Option<(&Record, u32)> {
        let record = self.find(address)?;
        let state = Self::state_of(record, address)?;
        // ORDERING: Full: pairs with the release of `queue()`.
        let claimed = record.state.cmpxchg(state, CLAIMED, Full);
        claimed.ok().map(|_| (record, state))
    }

    /// Claims the old record of an object that was just allocated, and checks that the object was
    /// free. Returns false if the record was reused meanwhile.
    fn claim_unused(&self, record: &Record, address: usize) -> Result<bool, EnterError> {
        let Some(state) = Self::state_of(record, address) else {
            return Ok(false);
        };
        let left = match state {
            FREED | EMPTY | DESTRUCTED => true,
            QUEUED => record.is_cache() && !record.is_destructed(),
            _ => false,
        };
        if left {
            // ORDERING: Full: this context owns the record from here on.
            if record.state.cmpxchg(state, CLAIMED, Full).is_err() {
                return Ok(false);
            }
            if state == QUEUED {
                self.totals.reused.up();
                self.check(record, c"allocated again before its grace period");
            }
            return Ok(true);
        }
        self.totals.double.up();
        record.failed(if state == QUEUED && record.is_cache() {
            c"allocated again without its destructor"
        } else if state == QUEUED {
            c"allocated while it waits"
        } else {
            c"allocated while it is in use"
        });
        Err(EnterError::InUse)
    }

    fn claim(&self, address: usize) -> Option<&Record> {
        self.bucket(address).iter().find(|record| {
            [EMPTY, FREED, DESTRUCTED].into_iter().any(|state| {
                record.state.load(Relaxed) == state
                    // ORDERING: Full: this context owns the record from here on.
                    && record.state.cmpxchg(state, CLAIMED, Full).is_ok()
            })
        })
    }

    /// Records that the object is about to be passed to rcu_ptr, and may be freed from here on.
    /// Returns its number among all objects.
    pub(crate) fn queue(&self, record: &Record, call: Call, context: Context) -> u64 {
        record.call.store(call as u32, Relaxed);
        record.context.store(context as u32, Relaxed);
        record.cpu.store(cpu::this(), Relaxed);
        let now = thread::now_in_nmi();
        record.since.store(now, Relaxed);
        record.snapshot.take();
        if !record.is_cache() {
            let waiting = self.totals.waiting.up();
            self.totals.peak.raise(waiting);
        }
        let number = self.totals.queued.up();
        record.number.store(number, Relaxed);
        self.trace(2, record.address.load(Relaxed), now);
        // ORDERING: Release pairs with the exchange when it is freed: the snapshot is seen.
        record.state.store(QUEUED, Release);
        number
    }

    /// Records that its owner frees the object without a grace period.
    pub(crate) fn set_freed(&self, record: &Record) {
        // ORDERING: Release: the record may be reused from here on.
        record.state.store(FREED, Release);
    }

    /// The record of an object that the caller owns.
    pub(crate) fn live_record(&self, address: usize) -> Option<&Record> {
        self.find(address)
            .filter(|record| record.state.load(Relaxed) == LIVE)
    }

    fn check(&self, record: &Record, what: &CStr) {
        if !record.snapshot.is_over() {
            self.totals.early.up();
            record.failed(what);
        }
    }

    /// Records that rcu_ptr is about to free these objects. Those of other modules have no record.
    ///
    /// # Context
    ///
    /// Any but NMI.
    pub(crate) fn freed(&self, objects: &[usize]) {
        let (probe_call, now) = (self.totals.probe_calls.up(), thread::now_in_nmi());
        for &address in objects {
            if let Some((record, state)) = self.claimed(address) {
                self.freed_one(record, state, probe_call, now);
                self.trace(3, address, now);
                // ORDERING: Release: the record may be reused from here on.
                record.state.store(FREED, Release);
            }
        }
    }

    fn freed_one(&self, record: &Record, state: u32, probe_call: u64, now: u64) {
        match state {
            QUEUED => {
                let since = record.since.load(Relaxed);
                self.totals.longest.raise(now.saturating_sub(since));
                if !record.is_cache() {
                    self.totals.waiting.down();
                    self.totals.freed.up();
                }
                if record.is_destructed() {
                    self.totals.double.up();
                    record.failed(c"freed without its destructor");
                }
                self.check(record, c"freed before its grace period");
            }
            LIVE => {
                self.totals.double.up();
                record.failed(c"freed while it is in use");
            }
            // Within one call of the probe the object is not freed yet, so it can't have been
            // allocated again.
            FREED if record.probe_call.load(Relaxed) == probe_call => {
                self.totals.double.up();
                record.failed(c"freed twice");
            }
            _ => {}
        }
        record.probe_call.store(probe_call, Relaxed);
    }

    /// Records that the destructor of this object runs.
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
            // Freed by its owner, which is not recorded.
            FREED | EMPTY => {}
            _ => {
                self.totals.double.up();
                record.failed(if state == LIVE {
                    c"destructed while it is in use"
                } else {
                    c"destructed twice"
                });
            }
        }
        self.totals.destructed.up();
        self.trace(4, address, 0);
        // ORDERING: Release: the record may be reused from here on.
        record.state.store(DESTRUCTED, Release);
    }

    /// Fills `found` with queued objects whose calls have returned and that `is_asked` accepts, and
    /// their numbers, starting at record `start`.
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
        // The number of records is a power of two.
        let start = start & (self.records.len() - 1);
        let (front, back) = self.records.split_at_checked(start).unwrap_or_default();
        let mut slots = found.iter_mut();
        for record in Iterator::chain(back.iter(), front) {
            // ORDERING: Acquire pairs with the release of `set_returned()`.
            let number = record.returned.load(Acquire);
            if record.is_waiting(number) && is_asked(record) {
                let Some(slot) = slots.next() else { return };
                *slot = Some((record, number));
            }
        }
    }

    /// Reports objects that are still queued after the last barrier as lost, and returns their
    /// number.
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
pub(crate) enum EnterError {
    /// There is no free record.
    NoRoom,
    /// The object is in use.
    InUse,
}
