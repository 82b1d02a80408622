// SPDX-License-Identifier: GPL-2.0

//! What one CPU has queued, and the two batches that wait for a grace period: everything of `struct
//! kfree_rcu_cpu` that its lock protects. No kernel in here: the host tests compile it too.

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

/// Batches in flight per CPU (`KFREE_N_BATCHES`).
pub(crate) const N_BATCHES: usize = 2;

/// The batch of a barrier, which has no work item.
pub(crate) const BARRIER_BATCH: usize = N_BATCHES;

/// Blocks detached in one go by [`State::take_ready()`], with interrupts off.
pub(crate) const MAX_READY_BNODES: usize = 16;

/// Which blocks an object goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    /// kmalloc(), kmem_cache and large kmalloc objects: `kfree_bulk()` by the block.
    Slab,
    /// vmalloc objects: `vfree()` one by one.
    Vmalloc,
    /// Callbacks: the words of entry.rs.
    Call,
}

impl Channel {
    /// What an object that is stored there counts as.
    fn counter(self) -> Counter {
        match self {
            Self::Slab => Counter::QueuedSlab,
            Self::Vmalloc => Counter::QueuedVmalloc,
            Self::Call => Counter::QueuedCall,
        }
    }
}

/// Block channels.
pub(crate) const CHANNELS: [Channel; 3] = [Channel::Slab, Channel::Vmalloc, Channel::Call];

/// Objects that belong together: all channels of a CPU, or of a batch.
pub(crate) struct ObjectSet<P: Platform> {
    /// Blocks of each [`Channel`].
    pub(crate) bnodes: [BnodeQueue<P>; CHANNELS.len()],
    /// Objects linked through their fields, and callbacks through their heads.
    pub(crate) list: ObjectList,
    /// Covers all of `list`.
    pub(crate) list_snap: Option<P::Snap>,
    /// When the first object of `list` came, in jiffies.
    pub(crate) list_since: u32,
}

impl<P: Platform> ObjectSet<P> {
    /// No objects.
    pub(crate) const fn new() -> Self {
        Self {
            bnodes: [const { BnodeQueue::new() }; CHANNELS.len()],
            list: ObjectList::new(),
            list_snap: None,
            list_since: 0,
        }
    }

    /// Whether there is no object.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty() && self.bnodes.iter().all(BnodeQueue::is_empty)
    }

    /// The number of objects.
    pub(crate) fn len(&self) -> usize {
        self.list.len() + self.bnodes.iter().map(BnodeQueue::objects).sum::<usize>()
    }

    /// Takes all of them.
    pub(crate) fn take(&mut self) -> Self {
        core::mem::replace(self, Self::new())
    }
}

/// What [`State::fill_batch()`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BatchFill {
    /// Nothing was queued.
    Nothing,
    /// Both batches still wait.
    Busy,
    /// This batch took everything and needs a grace period.
    Batch(usize),
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Push {
    /// It is in a block of its channel.
    Block,
    /// It is on the list.
    List,
    /// There is no room for it.
    NoRoom,
    /// It is the one that came last: it is queued twice, and nothing was done.
    Twice,
}

/// Objects that wait for the same grace period.
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

/// State of one CPU under its lock.
pub(crate) struct State<P: Platform> {
    /// Queued, not yet waiting in a batch.
    pub(crate) queued: ObjectSet<P>,
    batches: [WaitingBatch<P>; N_BATCHES + 1],
    /// Objects on their way from the deferred list.
    pub(crate) deferred: DeferredState,
    cache: BnodeQueue<P>,
    nr_cached: usize,
    /// No block was found, and a refill is due.
    wants_refill: bool,
    /// A refill runs, or is queued.
    refilling: bool,
    /// Set by the shrinker: the next refill is delayed, and limited to one block.
    pub(crate) backoff: bool,
    /// How the monitor is armed.
    pub(crate) arming: Arming,
    /// Whether the CPU is up: a dead one keeps no blocks.
    pub(crate) online: bool,
    /// Counters.
    pub(crate) stats: Stats,
}

impl<P: Platform> State<P> {
    /// Objects that call for the fast monitor: a block's worth.
    pub(crate) const FAST: usize = Bnode::<P>::CAPACITY;

    /// So many that the irq_work which arms it has to run in hardirq: a lazy one runs in a thread on
    /// PREEMPT_RT.
    const HARD_OBJECTS: usize = 8 * Self::FAST;

    /// The most urgent irq_work that arming the monitor may take.
    const SOONEST: Kick = if cfg!(CONFIG_PREEMPT_RT) {
        Kick::Now
    } else {
        Kick::Lazy
    };

    /// Nothing queued, nothing cached, the CPU not up.
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

    /// Puts `object` into a block of its channel: the open one, or one from the cache.
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

    /// Puts `object` into a block from the cache. `false`: there is none.
    #[cold]
    fn push_in_cached(&mut self, channel: Channel, object: NonNull<u8>) -> bool {
        let Some(bnode) = self.cache.pop() else {
            return false;
        };
        self.nr_cached -= 1;
        self.open_bnode(channel, bnode, object);
        true
    }

    /// Puts `linked` into a block of its `channel`, else links it.
    ///
    /// # Safety
    ///
    /// As for [`ObjectList::push()`].
    #[inline]
    pub(crate) unsafe fn push(&mut self, channel: Channel, linked: Linked) -> Push {
        match self.push_bulk(channel, linked.word()) {
            // SAFETY: By the safety requirements of this function.
            Push::NoRoom => unsafe { self.push_list(linked) },
            pushed => pushed,
        }
    }

    /// Puts `object` into a block of its channel, `bnode` if it takes a new one. Returns `bnode`
    /// when it was not needed: the lock was dropped meanwhile, and the CPU may be another.
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

    /// Links `linked`.
    ///
    /// # Safety
    ///
    /// As for [`ObjectList::push()`].
    pub(crate) unsafe fn push_list(&mut self, linked: Linked) -> Push {
        if self.queued.list.is_empty() {
            self.queued.list_since = P::now();
        }
        // SAFETY: By the safety requirements of this function.
        if !unsafe { self.queued.list.push(linked) } {
            return Push::Twice;
        }
        self.queued.list_snap = Some(P::snapshot());
        self.stats[linked.counter()] += 1;
        Push::List
    }

    /// How the monitor has to be armed for what is queued.
    #[inline]
    pub(crate) fn wanted_monitor(&self) -> Monitor {
        match self.queued.len() {
            0 => Monitor::Idle,
            n if n >= Self::FAST => Monitor::Fast,
            _ => Monitor::Slow,
        }
    }

    /// Whether the caller has to queue an irq_work, see [`Arming::kick()`]: to arm the monitor or, as
    /// soon as `refill` says, to start a refill.
    #[inline]
    pub(crate) fn kick(&mut self, refill: Kick) -> Kick {
        let needs_check = self.arming.needs_check(Self::SOONEST);
        if refill == Kick::No && !needs_check {
            return Kick::No;
        }
        let mut kick = Kick::No;
        if needs_check && self.arming.needs_arming(self.wanted_monitor()) {
            // There a more urgent task keeps the thread that runs the lazy ones from running.
            let now = Self::SOONEST == Kick::Now && self.queued.len() >= Self::HARD_OBJECTS;
            kick = if now { Kick::Now } else { Kick::Lazy };
        }
        if self.want_refill(refill) {
            kick = kick.max(refill);
        }
        self.arming.kick(kick)
    }

    /// Notes that a refill is due, unless `refill` is `No`. Whether it has to be started.
    #[inline]
    pub(crate) fn want_refill(&mut self, refill: Kick) -> bool {
        if refill == Kick::No {
            return false;
        }
        self.wants_refill = true;
        !self.refilling && self.online
    }

    /// Whether a refill is due, which the caller starts once the lock is dropped.
    pub(crate) fn begin_refill(&mut self) -> bool {
        let begin = self.wants_refill && !self.refilling && self.online;
        if begin {
            self.wants_refill = false;
            self.refilling = true;
        }
        begin
    }

    /// The refill has ended. If a context found no block meanwhile the caller starts another.
    pub(crate) fn end_refill(&mut self) {
        self.refilling = false;
        self.backoff = false;
    }

    /// Detaches objects whose grace period is over already: whole blocks, oldest first, at most
    /// [`MAX_READY_BNODES`] a channel; and the list when all of it is ready.
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

    /// Moves everything queued into a batch that is free. The caller has it wait for a grace period
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

    /// Moves everything queued into the barrier's batch, which is free: barriers take turns. Returns
    /// whether there was anything.
    pub(crate) fn fill_barrier_batch(&mut self) -> bool {
        let any = !self.queued.is_empty();
        if any {
            self.batches[BARRIER_BATCH].fill(self.queued.take());
            self.stats[Counter::Batches] += 1;
        }
        any
    }

    /// The objects that batch `i` waits with, and for what.
    pub(crate) fn batch(&self, i: usize) -> (&ObjectSet<P>, Option<P::Snap>) {
        (&self.batches[i].objects, self.batches[i].snap)
    }

    /// Whether a batch has objects.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.batches.iter().all(WaitingBatch::is_empty)
    }

    /// Takes the objects of batch `i` if its grace period is over, and the batch is free again. `None`:
    /// it is not, as a barrier has freed what was there, and the batch has been filled since.
    pub(crate) fn take_batch(&mut self, i: usize) -> Option<ObjectSet<P>> {
        let batch = &mut self.batches[i];
        if batch.is_empty() || batch.snap.as_ref().is_some_and(P::is_over) {
            return Some(batch.objects.take());
        }
        None
    }

    /// Objects that wait in batches.
    pub(crate) fn in_batches(&self) -> usize {
        self.batches.iter().map(|b| b.objects.len()).sum()
    }

    /// Blocks in the cache.
    pub(crate) fn nr_cached(&self) -> usize {
        self.nr_cached
    }

    /// Keeps `bnode` for later unless `limit` blocks are cached or the CPU is down: then it comes
    /// back.
    pub(crate) fn put_cached(&mut self, mut bnode: Bnode<P>, limit: usize) -> Option<Bnode<P>> {
        if !self.online || self.nr_cached >= limit {
            return Some(bnode);
        }
        bnode.clear();
        self.cache.push(bnode);
        self.nr_cached += 1;
        None
    }

    /// Takes all cached blocks.
    pub(crate) fn take_cached(&mut self) -> BnodeQueue<P> {
        self.stats[Counter::Shrunk] += self.nr_cached as u64;
        self.nr_cached = 0;
        self.cache.take()
    }

    /// Takes a cached block if there are more than `limit`.
    pub(crate) fn take_excess(&mut self, limit: usize) -> Option<Bnode<P>> {
        if self.nr_cached <= limit {
            return None;
        }
        self.nr_cached -= 1;
        self.stats[Counter::Shrunk] += 1;
        self.cache.pop()
    }
}
