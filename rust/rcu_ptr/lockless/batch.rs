// SPDX-License-Identifier: GPL-2.0

//! Batches: closed blocks and linked objects of a CPU that wait for the same grace period, and are
//! freed in a worker after it.
//!
//! What is closed joins the batch that waits for the grace period that it needs, so a CPU has few of
//! them however many blocks it fills. A batch is freed by the callback of its grace period
//! ([`BatchWork`]), or earlier if somebody on this CPU sees that this is over ([`EarlyWork`]): callbacks
//! come with a tick.
//!
//! Under the lock it is only decided what to do: no workqueue, no RCU and no trace event is called
//! there.

use super::{
    block::{Block, Blocks},
    krcp::{Krcp, KrcpRef},
    reclaim, Lockless, Page,
};
use crate::{
    rfc::list::{Chain, End},
    sys::{
        debug,
        gp::{self, Snapshot},
        irq::IrqsOff,
        trace,
        work::Handler,
    },
};
use kernel::sync::atomic::Relaxed;

/// Batches per CPU. Two grace periods can be waited for at a time, as a snapshot names the next or the
/// one after it; the others are for batches that wait for their worker or their callback, and for
/// second lists.
pub(super) const N_BATCHES: usize = 4;

/// Closed blocks and linked objects.
struct Objects {
    blocks: Blocks<Page>,
    list: Chain,
    counts: trace::Counts,
}

impl Objects {
    const fn new() -> Self {
        Self {
            blocks: Blocks::new(),
            list: Chain::new(),
            counts: trace::Counts::new(),
        }
    }

    fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.list.is_empty()
    }

    /// Takes `newer` in; one of the two has no list.
    fn join(&mut self, newer: Self) {
        self.blocks.append(newer.blocks);
        if self.list.is_empty() {
            self.list = newer.list;
        }
        self.counts.mixed += newer.counts.mixed;
        self.counts.list += newer.counts.list;
    }
}

impl Default for Objects {
    fn default() -> Self {
        Self::new()
    }
}

/// Objects that wait for a grace period.
struct Batch {
    objects: Objects,
    snap: Snapshot,
}

/// Where a batch may be.
enum Place {
    /// Nothing here, and its work is idle.
    Free,
    /// Waits, and so does its work.
    Waiting(Batch),
    /// Was freed early: its work has nothing to do when it comes.
    Early,
}

/// The batches of a CPU.
pub(super) struct Batches {
    places: [Place; N_BATCHES],
    /// What found no place free.
    aside: Objects,
    /// There is something, or was.
    turned_away: bool,
}

impl Batches {
    /// None.
    pub(super) const fn new() -> Self {
        Self {
            places: [const { Place::Free }; N_BATCHES],
            aside: Objects::new(),
            turned_away: false,
        }
    }

    fn waiting(&self) -> impl Iterator<Item = &Batch> {
        self.places.iter().filter_map(|place| match place {
            Place::Waiting(batch) => Some(batch),
            _ => None,
        })
    }

    /// Objects that wait in batches, or for one: in blocks, and linked.
    pub(super) fn objects(&self) -> (usize, usize) {
        let all = self.waiting().map(|batch| &batch.objects);
        all.chain(core::iter::once(&self.aside))
            .fold((0, 0), |(mixed, list), objects| {
                (mixed + objects.counts.mixed, list + objects.counts.list)
            })
    }

    /// Whether there is a batch whose grace period is over.
    fn is_any_over(&self) -> bool {
        self.waiting().any(|batch| batch.snap.is_over())
    }

    /// Whether there is a batch whose grace period is not over.
    pub(super) fn is_any_waiting(&self) -> bool {
        self.waiting().any(|batch| !batch.snap.is_over())
    }

    /// Takes batch `i` if its grace period is over.
    fn take_early(&mut self, i: usize) -> Option<Batch> {
        let place = self.places.get_mut(i)?;
        if !matches!(place, Place::Waiting(batch) if batch.snap.is_over()) {
            return None;
        }
        match core::mem::replace(place, Place::Early) {
            Place::Waiting(batch) => Some(batch),
            _ => None,
        }
    }

    /// The place where what is aside can wait for `snap`.
    fn place_for(&self, snap: &Snapshot) -> Option<usize> {
        let listed = !self.aside.list.is_empty();
        let joins = |place: &Place| {
            matches!(place, Place::Waiting(batch)
                if batch.snap.is_same(snap) && (!listed || batch.objects.list.is_empty()))
        };
        let free = |place: &Place| matches!(place, Place::Free);
        let first = |is: &dyn Fn(&Place) -> bool| self.places.iter().position(is);
        first(&joins).or_else(|| first(&free))
    }
}

/// What [`start()`] did.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// There was nothing.
    Nothing,
    /// No place is free: the first that becomes so makes a batch.
    Busy,
    /// A batch waits for its grace period.
    Started,
}

/// What is decided under the lock, and done without it.
enum Decision {
    Nothing,
    /// So many objects wait.
    Busy(usize),
    /// These have joined batch `index`, which is new or not.
    Started {
        index: usize,
        new: bool,
        counts: trace::Counts,
        gp: usize,
    },
}

/// Lets what is closed and linked wait for a grace period, in a few steps whatever its number; and
/// has freed early what can be.
///
/// # Context
///
/// Any but NMI, on any CPU; no lock is held that call_rcu() takes, or a wakeup.
pub(super) fn start(krcp: &Krcp, irqs: &IrqsOff) -> Start {
    let mut is_any_over = false;
    // One list at a time can be aside, and there may be another.
    let mut is_another = false;
    let first = krcp.with(irqs, |batches| {
        is_any_over = batches.is_any_over();
        is_another = !batches.aside.list.is_empty() && !krcp.list.is_empty();
        collect(krcp, batches)
    });
    if is_any_over {
        krcp.early.queue(&krcp.wq, 0);
    }
    let started = act(krcp, first);
    if is_another && started == Start::Started {
        let second = krcp.with(irqs, |batches| collect(krcp, batches));
        return act(krcp, second);
    }
    started
}

fn collect(krcp: &Krcp, batches: &mut Batches) -> Decision {
    let aside = &mut batches.aside;
    if !krcp.closed.is_empty() {
        let blocks = krcp.closed.take();
        let objects = blocks.objects();
        krcp.closed_objects
            .add(0usize.wrapping_sub(objects), Relaxed);
        aside.counts.mixed += objects;
        aside.blocks.append(blocks);
    }
    if aside.list.is_empty() && !krcp.list.is_empty() {
        aside.list = krcp.list.take();
        aside.counts.list = krcp.listed.xchg(0, Relaxed);
    }
    if aside.is_empty() {
        return Decision::Nothing;
    }
    // ORDERING: The grace period of the snapshot starts here or later: after the exchanges above,
    // each of which is after the push of every block and object it took, which are after the unlink
    // of every object in the program order of the CPU that pushed.
    let snap = Snapshot::take();
    let found = batches.place_for(&snap);
    let Some((index, place)) = found.and_then(|i| Some((i, batches.places.get_mut(i)?))) else {
        batches.turned_away = true;
        return Decision::Busy(krcp.waiting());
    };
    let objects = core::mem::take(&mut batches.aside);
    let (counts, gp) = (objects.counts, snap.number());
    let new = match place {
        Place::Waiting(batch) => {
            batch.objects.join(objects);
            // The later one. The callback comes after the grace period of both.
            batch.snap = snap;
            false
        }
        place => {
            *place = Place::Waiting(Batch { objects, snap });
            true
        }
    };
    Decision::Started {
        index,
        new,
        counts,
        gp,
    }
}

fn act(krcp: &Krcp, decision: Decision) -> Start {
    match decision {
        Decision::Nothing => Start::Nothing,
        Decision::Busy(waiting) => {
            krcp.events.batches_busy.add(1, Relaxed);
            trace::defer(krcp.cpu, trace::DEFER_BATCH, waiting);
            Start::Busy
        }
        Decision::Started {
            index,
            new,
            counts,
            gp,
        } => {
            trace::batch_start(krcp.cpu, index, counts, gp);
            if new {
                krcp.events.batches.add(1, Relaxed);
                // Never refused: the place was free, so its work is idle, or in the last steps of a
                // run. And it stays taken until this has run: with interrupts off here the grace
                // period can't be over yet.
                krcp.batch_work(index).queue(&krcp.wq);
            }
            Start::Started
        }
    }
}

/// Frees a batch after its grace period, unless that was done.
pub(super) struct BatchWork {
    pub(super) krcp: KrcpRef,
    pub(super) index: usize,
}

impl Handler for BatchWork {
    fn run(&self) {
        let krcp = &*self.krcp;
        let irqs = IrqsOff::save();
        // From here on the place can be used again, while these objects are freed.
        let place = krcp.with(&irqs, |batches| {
            batches
                .places
                .get_mut(self.index)
                .map(|place| core::mem::replace(place, Place::Free))
        });
        drop(irqs);
        if let Some(Place::Waiting(batch)) = place {
            free(krcp, self.index, batch);
        }
        let irqs = IrqsOff::save();
        if krcp.with(&irqs, |batches| core::mem::take(&mut batches.turned_away)) {
            start(krcp, &irqs);
        }
    }
}

/// Has a worker free the batches whose grace period is over.
///
/// # Context
///
/// As for [`start()`].
pub(super) fn free_early(krcp: &Krcp, irqs: &IrqsOff) {
    if krcp.with(irqs, |batches| batches.is_any_over()) {
        krcp.early.queue(&krcp.wq, 0);
    }
}

/// Frees batches whose grace period is over and whose callback has not come yet.
pub(super) struct EarlyWork(pub(super) KrcpRef);

impl Handler for EarlyWork {
    /// Each batch whose grace period is over now: what becomes so meanwhile queues this again, so that
    /// who waits for it does not wait for what comes.
    fn run(&self) {
        let krcp = &*self.0;
        for index in 0..N_BATCHES {
            let irqs = IrqsOff::save();
            let taken = krcp.with(&irqs, |batches| batches.take_early(index));
            drop(irqs);
            if let Some(batch) = taken {
                let freed = free(krcp, index, batch);
                krcp.events.freed_early.add(freed as u64, Relaxed);
            }
        }
    }
}

/// Frees a batch whose grace period is over. Returns how many objects it had.
fn free(krcp: &Krcp, index: usize, batch: Batch) -> usize {
    let number = batch.snap.number();
    let mut counts = trace::Counts::new();
    let ready = batch.snap.is_over();
    let Objects {
        mut blocks,
        mut list,
        counts: all,
    } = batch.objects;
    if !ready {
        debug::warn_early(core::ptr::null());
        let lost = all.mixed + all.list;
        krcp.events.leaked.add(lost as u64, Relaxed);
        return 0;
    }
    if let End::Never(_) = list.check(usize::MAX, gp::cond_resched) {
        debug::warn_endless(all.list);
        krcp.events.leaked.add(all.list as u64, Relaxed);
        list = Chain::new();
    }
    let mut list = reclaim::mark(krcp, &mut blocks, list);
    while let Some(mut block) = blocks.pop() {
        // SAFETY: The block was closed before the grace period of the batch started, which is over.
        let objects = unsafe { block.objects() };
        counts.mixed += objects.len();
        reclaim::free_objects(krcp, objects);
        keep_or_free(krcp, block);
        gp::cond_resched();
    }
    while let Some((object, _)) = list.pop() {
        counts.list += 1;
        reclaim::free_linked(krcp, object);
        gp::cond_resched();
    }
    trace::batch_end(krcp.cpu, Some(index), counts, number);
    counts.mixed + counts.list
}

/// Keeps an emptied block as a spare, or gives its page back.
fn keep_or_free(krcp: &Krcp, block: Block<Page>) {
    krcp.keep(block.base(), Lockless::free_block);
}

/// Gives the spare blocks of a CPU beyond `limit` back. Returns how many.
///
/// # Context
///
/// Any but NMI, no raw spinlock held.
pub(super) fn trim_spares(krcp: &Krcp, limit: usize) -> usize {
    let mut dropped = 0;
    krcp.spares.trim(limit, |base| {
        Lockless::free_block(base);
        dropped += 1;
    });
    krcp.events.shrunk.add(dropped as u64, Relaxed);
    dropped
}
