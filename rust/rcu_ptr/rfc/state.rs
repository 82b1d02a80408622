// SPDX-License-Identifier: GPL-2.0

//! What one CPU has queued, and the two batches that wait for a grace period: everything of `struct
//! kfree_rcu_cpu` that its lock protects. No kernel in here: the host tests compile it too.

use super::{
    bnode::{Bnode, BnodeQueue},
    list::{Chain, ObjectList},
};
use crate::platform::Platform;
use core::ptr::NonNull;

/// Batches in flight per CPU (`KFREE_N_BATCHES`).
pub(crate) const N_BATCHES: usize = 2;

/// Blocks detached in one go by [`State::take_ready()`], with interrupts off.
pub(crate) const MAX_READY_BNODES: usize = 16;

/// Which blocks an object goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    /// kmalloc(), kmem_cache and large kmalloc objects: `kfree_bulk()` by the block.
    Slab,
    /// vmalloc objects: `vfree()` one by one.
    Vmalloc,
}

/// Block channels.
pub(crate) const CHANNELS: [Channel; 2] = [Channel::Slab, Channel::Vmalloc];

/// Objects that belong together: all channels of a CPU, or of a batch.
pub(crate) struct Objects<P: Platform> {
    /// Blocks of each [`Channel`].
    pub(crate) bnodes: [BnodeQueue<P>; 2],
    /// Objects linked through their fields.
    pub(crate) list: ObjectList,
    /// Covers all of `list`.
    pub(crate) list_snap: Option<P::Snap>,
}

impl<P: Platform> Objects<P> {
    /// None.
    pub(crate) const fn new() -> Self {
        Self {
            bnodes: [BnodeQueue::new(), BnodeQueue::new()],
            list: ObjectList::new(),
            list_snap: None,
        }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty() && self.bnodes.iter().all(BnodeQueue::is_empty)
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.list.len() + self.bnodes.iter().map(BnodeQueue::objects).sum::<usize>()
    }

    /// Takes all of them.
    pub(crate) fn take(&mut self) -> Self {
        core::mem::replace(self, Self::new())
    }
}

/// The monitor, as far as it is armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Monitor {
    /// It will not run.
    Idle,
    /// An irq_work will arm it.
    Arming,
    /// It will run within the drain interval.
    Slow,
    /// It will run within a jiffy.
    Fast,
}

/// What [`State::fill_batch()`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    /// Nothing was queued.
    Nothing,
    /// Both batches are still being freed.
    Busy,
    /// This batch took everything and needs a grace period.
    Batch(usize),
}

/// Events of one CPU since the module was loaded, all in objects but for the last lines.
#[derive(Clone, Copy, Default)]
pub(crate) struct Stats {
    /// Taken in a block, by [`Channel`].
    pub(crate) queued: [u64; 2],
    /// Taken in a block that holds both kinds, and not sorted yet (engine `lockless`; others are
    /// counted in `queued` at once).
    pub(crate) queued_mixed: u64,
    /// Taken on the list.
    pub(crate) queued_list: u64,
    /// Of those, in any context by a trylock.
    pub(crate) queued_nolock: u64,
    /// Taken after a failed trylock, and counted by channel as well.
    pub(crate) deferred: u64,
    /// Taken by a caller that waited for a grace period itself.
    pub(crate) queued_sync: u64,
    /// Given back to their allocators.
    pub(crate) freed: u64,
    /// Of those, ready before a batch was made for them.
    pub(crate) freed_early: u64,
    /// Refused for misuse, or kept because of a bug in here.
    pub(crate) leaked: u64,
    /// Batches that waited for a grace period.
    pub(crate) batches: u64,
    /// Attempts to make one while both were busy.
    pub(crate) batches_busy: u64,
    /// Blocks that refills brought.
    pub(crate) refilled: u64,
    /// Refills put off after memory pressure.
    pub(crate) backoffs: u64,
    /// Blocks that the shrinker or a CPU going down gave back.
    pub(crate) shrunk: u64,
}

impl core::ops::AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        self.queued[0] += other.queued[0];
        self.queued[1] += other.queued[1];
        self.queued_mixed += other.queued_mixed;
        self.queued_list += other.queued_list;
        self.queued_nolock += other.queued_nolock;
        self.deferred += other.deferred;
        self.queued_sync += other.queued_sync;
        self.freed += other.freed;
        self.freed_early += other.freed_early;
        self.leaked += other.leaked;
        self.batches += other.batches;
        self.batches_busy += other.batches_busy;
        self.refilled += other.refilled;
        self.backoffs += other.backoffs;
        self.shrunk += other.shrunk;
    }
}

/// State of one CPU under its lock.
pub(crate) struct State<P: Platform> {
    /// Queued, not yet waiting in a batch.
    pub(crate) queued: Objects<P>,
    batches: [Objects<P>; N_BATCHES],
    /// Objects off the deferred list, to be queued one by one.
    pub(crate) deferred: Chain,
    cache: BnodeQueue<P>,
    nr_cached: usize,
    /// How the monitor is armed.
    pub(crate) monitor: Monitor,
    /// When it runs, in jiffies, if it is `Slow`.
    pub(crate) drain_at: usize,
    /// Whether the CPU is up: a dead one keeps no blocks.
    pub(crate) online: bool,
    /// Counters.
    pub(crate) stats: Stats,
}

impl<P: Platform> State<P> {
    /// Objects that call for the fast monitor: a block's worth.
    pub(crate) const FAST: usize = Bnode::<P>::CAPACITY;

    /// Nothing queued, nothing cached, the CPU not up.
    pub(crate) const fn new() -> Self {
        Self {
            queued: Objects::new(),
            batches: [Objects::new(), Objects::new()],
            deferred: Chain::new(),
            cache: BnodeQueue::new(),
            nr_cached: 0,
            monitor: Monitor::Idle,
            drain_at: 0,
            online: false,
            stats: Stats {
                queued: [0; 2],
                queued_mixed: 0,
                queued_list: 0,
                queued_nolock: 0,
                deferred: 0,
                queued_sync: 0,
                freed: 0,
                freed_early: 0,
                leaked: 0,
                batches: 0,
                batches_busy: 0,
                refilled: 0,
                backoffs: 0,
                shrunk: 0,
            },
        }
    }

    /// Puts `object` into a block of its channel: the open one, or one from the cache. `false`:
    /// neither is to be had.
    pub(crate) fn push_bulk(&mut self, channel: Channel, object: NonNull<u8>) -> bool {
        let pushed = self.queued.bnodes[channel as usize].push_object(object)
            || match self.cache.pop() {
                Some(bnode) => {
                    self.nr_cached -= 1;
                    self.open_bnode(channel, bnode, object);
                    true
                }
                None => false,
            };
        self.stats.queued[channel as usize] += u64::from(pushed);
        pushed
    }

    /// Puts `object` into a block of its channel, `bnode` if it takes a new one. Returns `bnode`
    /// when it was not needed: the lock was dropped meanwhile, and the CPU may be another.
    pub(crate) fn push_with(
        &mut self,
        channel: Channel,
        bnode: Bnode<P>,
        object: NonNull<u8>,
    ) -> Option<Bnode<P>> {
        if self.push_bulk(channel, object) {
            return Some(bnode);
        }
        self.open_bnode(channel, bnode, object);
        self.stats.queued[channel as usize] += 1;
        None
    }

    fn open_bnode(&mut self, channel: Channel, mut bnode: Bnode<P>, object: NonNull<u8>) {
        bnode.clear();
        bnode.push(object);
        self.queued.bnodes[channel as usize].push(bnode);
    }

    /// Links `object` through its `field`.
    ///
    /// # Safety
    ///
    /// As for [`ObjectList::push()`].
    pub(crate) unsafe fn push_list(&mut self, object: NonNull<u8>, field: NonNull<u8>) {
        // SAFETY: By the safety requirements of this function.
        unsafe { self.queued.list.push(object, field) };
        self.queued.list_snap = Some(P::snapshot());
        self.stats.queued_list += 1;
    }

    /// How the monitor has to be armed for what is queued: the caller arms it so if that is sooner
    /// than [`State::monitor`].
    pub(crate) fn wanted_monitor(&self) -> Monitor {
        match self.queued.len() {
            0 => Monitor::Idle,
            n if n >= Self::FAST => Monitor::Fast,
            _ => Monitor::Slow,
        }
    }

    /// Detaches objects whose grace period is over already: whole blocks, oldest first, at most
    /// [`MAX_READY_BNODES`] a channel; and the list when all of it is ready.
    pub(crate) fn take_ready(&mut self) -> Objects<P> {
        let mut ready = Objects::new();
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
        }
        ready
    }

    /// Moves everything queued into a batch that is free. The caller has it wait for a grace period
    /// that starts after this.
    pub(crate) fn fill_batch(&mut self) -> Fill {
        if self.queued.is_empty() {
            return Fill::Nothing;
        }
        match self.batches.iter().position(Objects::is_empty) {
            Some(i) => {
                self.batches[i] = self.queued.take();
                if !self.batches[i].list.is_empty() {
                    self.batches[i].list_snap = Some(P::snapshot());
                }
                self.stats.batches += 1;
                Fill::Batch(i)
            }
            None => {
                self.stats.batches_busy += 1;
                Fill::Busy
            }
        }
    }

    /// The objects that batch `i` waits with.
    pub(crate) fn batch(&self, i: usize) -> &Objects<P> {
        &self.batches[i]
    }

    /// Takes the objects of batch `i`, after its grace period. The batch is free again.
    pub(crate) fn take_batch(&mut self, i: usize) -> Objects<P> {
        self.batches[i].take()
    }

    /// Objects that wait in batches.
    pub(crate) fn in_batches(&self) -> usize {
        self.batches.iter().map(Objects::len).sum()
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
        self.stats.shrunk += self.nr_cached as u64;
        self.nr_cached = 0;
        self.cache.take()
    }
}
