// SPDX-License-Identifier: GPL-2.0

//! The part of `struct kfree_rcu_cpu` that its lock protects: queued objects, batches, cached
//! blocks. No kernel dependencies: compiled by the host tests.

use super::{
    arm::{Arming, Kick, Monitor},
    bnode::{Bnode, BnodeQueue},
    deferred::DeferredState,
};
use crate::{
    list::{Linked, ObjectList},
    platform::Platform,
    stats::{Counter, Stats},
};
use core::ptr::NonNull;

/// Batches per CPU (`KFREE_N_BATCHES`).
pub(crate) const N_BATCHES: usize = 2;

/// The index of the barrier's batch, which has no work item.
pub(crate) const BARRIER_BATCH: usize = N_BATCHES;

/// The maximum of blocks per channel that [`State::take_ready()`] removes, with interrupts off.
pub(crate) const MAX_READY_BNODES: usize = 16;

/// The kind of a block, by its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    /// kmalloc(), kmem_cache and large kmalloc objects: `kfree_bulk()` by the block.
    Slab,
    /// vmalloc objects: `vfree()` one by one.
    Vmalloc,
    /// Callbacks, as entries (entry.rs).
    Call,
}

impl Channel {
    /// The counter of objects in such blocks.
    fn counter(self) -> Counter {
        match self {
            Self::Slab => Counter::QueuedSlab,
            Self::Vmalloc => Counter::QueuedVmalloc,
            Self::Call => Counter::QueuedCall,
        }
    }
}

pub(crate) const CHANNELS: [Channel; 3] = [Channel::Slab, Channel::Vmalloc, Channel::Call];

/// The blocks and the list of a CPU, or of a batch.
pub(crate) struct ObjectSet<P: Platform> {
    /// Blocks of each [`Channel`].
    pub(crate) bnodes: [BnodeQueue<P>; CHANNELS.len()],
    /// Objects that are linked through their fields, and callbacks through their heads.
    pub(crate) list: ObjectList,
    /// Covers all of `list`.
    pub(crate) list_snap: Option<P::Snap>,
    /// When the first object of `list` was linked, in jiffies.
    pub(crate) list_since: u32,
}

impl<P: Platform> ObjectSet<P> {
    pub(crate) const fn new() -> Self {
        Self {
            bnodes: [const { BnodeQueue::new() }; CHANNELS.len()],
            list: ObjectList::new(),
            list_snap: None,
            list_since: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty() && self.bnodes.iter().all(BnodeQueue::is_empty)
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len() + self.bnodes.iter().map(BnodeQueue::objects).sum::<usize>()
    }

    /// Removes all objects.
    pub(crate) fn take(&mut self) -> Self {
        core::mem::replace(self, Self::new())
    }
}

/// The result of [`State::fill_batch()`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BatchFill {
    /// Nothing was queued.
    Nothing,
    /// Both batches are waiting.
    Busy,
    /// All queued objects are in this batch, which needs a grace period.
    Batch(usize),
}

/// The result of queueing an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Push {
    /// It is in a block of its channel.
    Block,
    /// It is on the list.
    List,
    /// There is no free slot, and no cached block.
    NoRoom,
    /// It is the newest one already, so it is queued twice; nothing was done.
    Twice,
}

/// Objects that wait for one grace period.
struct WaitingBatch<P: Platform> {
    objects: ObjectSet<P>,
    /// Covers all of them.
    snap: Option<P::Snap>,
}

impl<P: Platform> WaitingBatch<P> {
    const fn new() -> Self {
        Self {
            objects: ObjectSet::new(),
            snap: None,
        }
    }

    fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    fn fill(&mut self, objects: ObjectSet<P>) {
        self.objects = objects;
        let snap = P::snapshot();
        if !self.objects.list.is_empty() {
            self.objects.list_snap = Some(snap);
        }
        self.snap = Some(snap);
    }
}

/// The state of one CPU, under its lock.
pub(crate) struct State<P: Platform> {
    /// Queued, and not in a batch yet.
    pub(crate) queued: ObjectSet<P>,
    batches: [WaitingBatch<P>; N_BATCHES + 1],
    /// Objects that are being moved from the deferred list.
    pub(crate) deferred: DeferredState,
    cache: BnodeQueue<P>,
    nr_cached: usize,
    /// A context has found no block since the last refill began.
    wants_refill: bool,
    /// A refill is queued or running.
    refilling: bool,
    /// Set by the shrinker: the next refill is delayed, and limited to one block.
    pub(crate) backoff: bool,
    /// How the monitor is armed.
    pub(crate) arming: Arming,
    /// The CPU is up. A dead one caches no blocks.
    pub(crate) online: bool,
    pub(crate) stats: Stats,
}

impl<P: Platform> State<P> {
    /// Queued objects that make the monitor run fast: a block's worth.
    pub(crate) const FAST: usize = Bnode::<P>::CAPACITY;

    /// Queued objects that make the irq_work run in hardirq, on PREEMPT_RT, where a lazy one runs
    /// in a thread.
    const HARD_OBJECTS: usize = 8 * Self::FAST;

    /// The most urgent irq_work that arming the monitor may take.
    const SOONEST: Kick = if cfg!(CONFIG_PREEMPT_RT) {
        Kick::Now
    } else {
        Kick::Lazy
    };

    pub(crate) const fn new() -> Self {
        Self {
            queued: ObjectSet::new(),
            batches: [const { WaitingBatch::new() }; N_BATCHES + 1],
            deferred: DeferredState::new(),
            cache: BnodeQueue::new(),
            nr_cached: 0,
            wants_refill: false,
            refilling: false,
            backoff: false,
            arming: Arming::new(),
            online: false,
            stats: Stats::new(),
        }
    }

    /// Stores `object` in a block of its channel: the newest one, or one from the cache.
    #[inline]
    pub(crate) fn push_bulk(&mut self, channel: Channel, object: NonNull<u8>) -> Push {
        let queue = &mut self.queued.bnodes[channel as usize];
        if queue.is_newest(object) {
            return Push::Twice;
        }
        if !queue.push_object(object) && !self.push_in_cached(channel, object) {
            return Push::NoRoom;
        }
        self.stats[channel.counter()] += 1;
        Push::Block
    }

    /// Stores `object` in a block from the cache. Returns `false` if there is none.
    #[cold]
    fn push_in_cached(&mut self, channel: Channel, object: NonNull<u8>) -> bool {
        let Some(bnode) = self.cache.pop() else {
            return false;
        };
        self.nr_cached -= 1;
        self.open_bnode(channel, bnode, object);
        true
    }

    /// Stores `linked` in a block of its `channel`, or else links it.
    ///
    /// # Safety
    ///
    /// As for [`ObjectList::push()`].
    #[inline]
    pub(crate) unsafe fn push(&mut self, channel: Channel, linked: Linked) -> Push {
        match self.push_bulk(channel, linked.entry()) {
            // SAFETY: By the safety requirements of this function.
            Push::NoRoom => unsafe { self.push_list(linked, None) },
            pushed => pushed,
        }
    }

    /// Stores `object` in a block of its channel, or else in `bnode`. Returns `bnode` if it was not
    /// needed: the lock was dropped since the caller found no block, and this may be another CPU.
    pub(crate) fn push_with(
        &mut self,
        channel: Channel,
        bnode: Bnode<P>,
        object: NonNull<u8>,
    ) -> (Push, Option<Bnode<P>>) {
        match self.push_bulk(channel, object) {
            Push::NoRoom => {
                self.open_bnode(channel, bnode, object);
                self.stats[channel.counter()] += 1;
                (Push::Block, None)
            }
            pushed => (pushed, Some(bnode)),
        }
    }

    fn open_bnode(&mut self, channel: Channel, mut bnode: Bnode<P>, object: NonNull<u8>) {
        bnode.clear();
        bnode.push(object);
        self.queued.bnodes[channel as usize].push(bnode);
    }

    /// Adds `linked` to the list, and 1 to `also`.
    ///
    /// # Safety
    ///
    /// As for [`ObjectList::push()`].
    #[inline]
    pub(crate) unsafe fn push_list(&mut self, linked: Linked, also: Option<Counter>) -> Push {
        if self.queued.list.is_empty() {
            self.queued.list_since = P::now();
        }
        // SAFETY: By the safety requirements of this function.
        if !unsafe { self.queued.list.push(linked) } {
            return Push::Twice;
        }
        self.queued.list_snap = Some(P::snapshot());
        self.stats[linked.counter()] += 1;
        if let Some(counter) = also {
            self.stats[counter] += 1;
        }
        Push::List
    }

    /// How the monitor has to be armed for the queued objects.
    #[inline]
    pub(crate) fn wanted_monitor(&self) -> Monitor {
        match self.queued.len() {
            0 => Monitor::Idle,
            n if n >= Self::FAST => Monitor::Fast,
            _ => Monitor::Slow,
        }
    }

    /// The irq_work that the caller has to queue, see [`Arming::kick()`]: to arm the monitor or, as
    /// soon as `refill` says, to start a refill.
    #[inline]
    pub(crate) fn kick(&mut self, refill: Kick) -> Kick {
        let needs_check = self.arming.needs_check(Self::SOONEST);
        if refill == Kick::No && !needs_check {
            return Kick::No;
        }
        let mut kick = Kick::No;
        if needs_check && self.arming.needs_arming(self.wanted_monitor()) {
            // On PREEMPT_RT a FIFO task can starve the thread that runs lazy irq_works.
            let now = Self::SOONEST == Kick::Now && self.queued.len() >= Self::HARD_OBJECTS;
            kick = if now { Kick::Now } else { Kick::Lazy };
        }
        if self.want_refill(refill) {
            kick = kick.max(refill);
        }
        self.arming.kick(kick)
    }

    /// Requests a refill, unless `refill` is `No`. Returns whether it has to be started.
    #[inline]
    pub(crate) fn want_refill(&mut self, refill: Kick) -> bool {
        if refill == Kick::No {
            return false;
        }
        self.wants_refill = true;
        !self.refilling && self.online
    }

    /// Returns whether the caller has to start a refill, after it has dropped the lock.
    pub(crate) fn begin_refill(&mut self) -> bool {
        let begin = self.wants_refill && !self.refilling && self.online;
        if begin {
            self.wants_refill = false;
            self.refilling = true;
        }
        begin
    }

    /// The refill has ended. The caller checks [`Self::begin_refill()`] again.
    pub(crate) fn end_refill(&mut self) {
        self.refilling = false;
        self.backoff = false;
    }

    /// Removes objects whose grace period has ended already: whole blocks, oldest first, at most
    /// [`MAX_READY_BNODES`] per channel; and the list, if its grace period has.
    pub(crate) fn take_ready(&mut self) -> ObjectSet<P> {
        let mut ready = ObjectSet::new();
        for channel in CHANNELS {
            for _ in 0..MAX_READY_BNODES {
                match self.queued.bnodes[channel as usize].pop_ready() {
                    Some(bnode) => ready.bnodes[channel as usize].push(bnode),
                    None => break,
                }
            }
        }
        if self.queued.list_snap.as_ref().is_some_and(P::is_over) {
            ready.list = self.queued.list.take();
            ready.list_snap = self.queued.list_snap.take();
            ready.list_since = self.queued.list_since;
        }
        ready
    }

    /// Moves all queued objects into a free batch. The caller makes that wait for a grace period
    /// that starts after this.
    pub(crate) fn fill_batch(&mut self) -> BatchFill {
        if self.queued.is_empty() {
            return BatchFill::Nothing;
        }
        let batches = &mut self.batches[..N_BATCHES];
        match batches.iter().position(WaitingBatch::is_empty) {
            Some(i) => {
                batches[i].fill(self.queued.take());
                self.stats[Counter::Batches] += 1;
                BatchFill::Batch(i)
            }
            None => {
                self.stats[Counter::BatchesBusy] += 1;
                BatchFill::Busy
            }
        }
    }

    /// Moves all queued objects into the barrier's batch, which is free as barriers take turns.
    /// Returns whether there were any.
    pub(crate) fn fill_barrier_batch(&mut self) -> bool {
        let any = !self.queued.is_empty();
        if any {
            self.batches[BARRIER_BATCH].fill(self.queued.take());
            self.stats[Counter::Batches] += 1;
        }
        any
    }

    /// The objects and the snapshot of batch `i`.
    pub(crate) fn batch(&self, i: usize) -> (&ObjectSet<P>, Option<P::Snap>) {
        (&self.batches[i].objects, self.batches[i].snap)
    }

    /// Whether any batch has objects.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.batches.iter().all(WaitingBatch::is_empty)
    }

    /// Removes the objects of batch `i`, which is free afterwards. Returns `None` if its grace
    /// period has not ended: a barrier has freed the previous objects, and the batch was filled
    /// again.
    pub(crate) fn take_batch(&mut self, i: usize) -> Option<ObjectSet<P>> {
        let batch = &mut self.batches[i];
        if batch.is_empty() || batch.snap.as_ref().is_some_and(P::is_over) {
            return Some(batch.objects.take());
        }
        None
    }

    /// The number of objects in batches.
    pub(crate) fn in_batches(&self) -> usize {
        self.batches.iter().map(|b| b.objects.len()).sum()
    }

    pub(crate) fn nr_cached(&self) -> usize {
        self.nr_cached
    }

    /// Caches `bnode`, unless `limit` blocks are cached or the CPU is down: then it is returned.
    pub(crate) fn put_cached(&mut self, mut bnode: Bnode<P>, limit: usize) -> Option<Bnode<P>> {
        if !self.online || self.nr_cached >= limit {
            return Some(bnode);
        }
        bnode.clear();
        self.cache.push(bnode);
        self.nr_cached += 1;
        None
    }

    /// Removes all cached blocks.
    pub(crate) fn take_cached(&mut self) -> BnodeQueue<P> {
        self.stats[Counter::Shrunk] += self.nr_cached as u64;
        self.nr_cached = 0;
        self.cache.take()
    }

    /// Removes a cached block if there are more than `limit`.
    pub(crate) fn take_excess(&mut self, limit: usize) -> Option<Bnode<P>> {
        if self.nr_cached <= limit {
            return None;
        }
        self.nr_cached -= 1;
        self.stats[Counter::Shrunk] += 1;
        self.cache.pop()
    }
}
