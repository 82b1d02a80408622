// SPDX-License-Identifier: GPL-2.0

//! The pcs: the per-CPU part of a cache (`struct slub_percpu_sheaves`), without a lock.

use super::{
    alloc, arm,
    barn::Stock,
    barrier::Pending,
    cache::{Cache, CacheRef},
    cursor::{next_slot, Cursor, LocalList, LocalPtr, Quiescent, DISABLED, NONE},
    exchange::{CacheCpu, Words, REUSE},
    fastpath::FastPath,
    geometry::SLOTS,
    monitor::{CacheIrqWork, CacheMonitorWork},
    reclaim,
    sheaf::{EmptySheaf, FullSheaf, SheafChain, Stamp},
};
use crate::{
    platform::LocalWord,
    sync::{Mine, Quiet},
    sys::{
        context::CallerContext,
        debug,
        irq_work::{IrqWork, Urgency},
        node,
        pinned_timer::jiffies,
        preempt::PreemptOff,
        slab,
        this_cpu::ThisCpuPtr,
        work::DelayedWork,
    },
};
use core::{
    mem::offset_of,
    ptr::{self, NonNull},
};
use kernel::{
    prelude::*,
    sync::atomic::{Acquire, Atomic, Relaxed},
};

/// Access to a field of this CPU's [`Pcs`].
macro_rules! mine {
    ($self:ident, $field:ident) => {
        // SAFETY: The field is an aligned atomic word of 8 bytes.
        unsafe { $self.word(offset_of!(Pcs, $field)) }
    };
}

/// Access to a field of the [`Pcs`] of a CPU that no longer uses it.
macro_rules! quiet {
    ($self:ident, $field:ident) => {
        Quiet::new(&$self.$field)
    };
}

/// The [`Words`], each accessed through `$word`.
macro_rules! words {
    ($word:ident, $self:ident) => {
        Words {
            alloc: Cursor($word!($self, alloc)),
            rcu: Cursor($word!($self, rcu)),
            spare_full: LocalPtr($word!($self, spare_full)),
            spare_empty: LocalPtr($word!($self, spare_empty)),
            spent: LocalList {
                head: $word!($self, spent),
                len: $word!($self, nr_spent),
            },
            closed: LocalList {
                head: $word!($self, closed),
                len: $word!($self, nr_closed),
            },
        }
    };
}

/// Per-CPU counters.
#[derive(Clone, Copy)]
pub(super) enum PcsCounter {
    /// Rcu sheaves installed.
    Filled,
    /// Allocation sheaves installed.
    Emptied,
    /// Allocations that found no sheaf (nolock calls: no reserve either).
    Missed,
    /// Of these, served by kmalloc_nolock().
    NolockAlloc,
    /// Freed objects that found no sheaf, and went to the engine or became strays.
    EngineFallback,
    /// Sheaves that began to wait for a grace period.
    Waited,
    /// Sheaves processed after their grace period.
    Done,
}

const EVENTS: usize = PcsCounter::Done as usize + 1;

/// The per-CPU part of a cache. As long as the CPU is up, only its own contexts change the words.
#[pin_data]
#[repr(C)]
pub(crate) struct Pcs {
    /// Reuse slots. First, as an allocation checks them first.
    reuse: [Atomic<u64>; REUSE],
    /// Next slot of the allocation sheaf, which is only emptied.
    alloc: Atomic<u64>,
    /// Next slot of the rcu sheaf, which is only filled.
    rcu: Atomic<u64>,
    /// A full and an empty sheaf, so that contexts in NMI rarely need the barn.
    spare_full: Atomic<u64>,
    spare_empty: Atomic<u64>,
    /// Emptied allocation sheaves that wait for a grace period.
    spent: Atomic<u64>,
    /// Sheaves that were closed where call_rcu() can't be called.
    closed: Atomic<u64>,
    /// Lengths of both lists.
    pub(super) nr_spent: Atomic<u64>,
    pub(super) nr_closed: Atomic<u64>,
    /// State of the monitor: a constant of arm.rs.
    pub(super) armed: Atomic<u64>,
    /// Maximum number of sheaves that one callback looked at.
    pub(super) callback_max: Atomic<u64>,
    /// When the rcu sheaf and the allocation sheaf were installed, in jiffies.
    pub(super) rcu_since: Atomic<u64>,
    pub(super) stock_since: Atomic<u64>,
    /// What the next run of the monitor has to do at once: 0 or a constant of shrink.rs.
    pub(super) request: Atomic<u32>,
    /// Counts of what waits for a grace period.
    pub(super) pending: Pending,
    pub(super) cpu: i32,
    events: [Atomic<u64>; EVENTS],
    #[pin]
    pub(super) irq_work: IrqWork<CacheIrqWork>,
    #[pin]
    pub(super) monitor: DelayedWork<CacheMonitorWork>,
}

impl Pcs {
    /// Creates the part of a CPU, without sheaves, with `reuse` in its reuse slots.
    pub(super) fn new(cpu: i32, reuse: usize, cache: CacheRef) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            alloc: Atomic::new(NONE as u64),
            rcu: Atomic::new(NONE as u64),
            reuse: [(); REUSE].map(|()| Atomic::new(reuse as u64)),
            spare_full: Atomic::new(0),
            spare_empty: Atomic::new(0),
            spent: Atomic::new(0),
            closed: Atomic::new(0),
            nr_spent: Atomic::new(0),
            nr_closed: Atomic::new(0),
            armed: Atomic::new(arm::IDLE as u64),
            callback_max: Atomic::new(0),
            rcu_since: Atomic::new(0),
            stock_since: Atomic::new(0),
            request: Atomic::new(0),
            pending: Pending::new(),
            cpu,
            events: [const { Atomic::new(0) }; EVENTS],
            irq_work <- IrqWork::new(Urgency::Lazy, CacheIrqWork { cache, cpu: *cpu }),
            monitor <- DelayedWork::new(CacheMonitorWork { cache, cpu: *cpu }),
        })
    }

    /// The nearest node with memory. A CPU that went down may come up on another.
    pub(super) fn node(&self) -> usize {
        node::of_cpu(self.cpu).min(node::count() - 1)
    }

    /// The words of a CPU that no longer uses them.
    pub(super) fn quiet(&self) -> Words<Quiet<'_>> {
        words!(quiet, self)
    }

    /// Adds `n` to counter `event` of a CPU that no longer uses it.
    pub(super) fn add(&self, event: PcsCounter, n: usize) {
        self.events[event as usize].add(n as u64, Relaxed);
    }

    /// The value of counter `event`.
    pub(super) fn counted(&self, event: PcsCounter) -> u64 {
        // ORDERING: Acquire: what was counted before a visible event is visible too.
        self.events[event as usize].load(Acquire)
    }

    /// The contents of the CPU, as seen by others.
    pub(super) fn contents(&self) -> PcsContents {
        let next = |cursor: &Atomic<u64>| next_slot(cursor.load(Relaxed) as usize);
        let is_set = |word: &Atomic<u64>| usize::from(word.load(Relaxed) != 0);
        PcsContents {
            alloc: next(&self.alloc).map(|next| SLOTS - next),
            rcu: next(&self.rcu),
            spare_full: is_set(&self.spare_full),
            spare_empty: is_set(&self.spare_empty),
            spent: self.nr_spent.load(Relaxed) as usize,
            closed: self.nr_closed.load(Relaxed) as usize,
            reuse: self
                .reuse
                .iter()
                .filter(|word| word.load(Relaxed) as usize > DISABLED)
                .count(),
        }
    }

    /// Whether the CPU may have freed objects that are not counted.
    ///
    /// # Context
    ///
    /// Any, on any CPU.
    pub(super) fn may_hold(&self) -> bool {
        // ORDERING: Acquire: a context that sees a sheaf off the CPU then sees it counted.
        self.rcu.load(Acquire) != NONE as u64 || self.closed.load(Acquire) != 0
    }

    /// The reuse slots of a CPU that no longer uses them.
    pub(super) fn quiet_reuse(&self) -> impl Iterator<Item = LocalPtr<Quiet<'_>>> {
        self.reuse.iter().map(|word| LocalPtr(Quiet::new(word)))
    }
}

/// The contents of a CPU.
pub(super) struct PcsContents {
    /// Objects left in the allocation sheaf, and the next slot of the rcu sheaf.
    pub(super) alloc: Option<usize>,
    pub(super) rcu: Option<usize>,
    pub(super) spare_full: usize,
    pub(super) spare_empty: usize,
    pub(super) spent: usize,
    pub(super) closed: usize,
    /// Objects in reuse slots.
    pub(super) reuse: usize,
}

impl PcsContents {
    /// Sheaves, and objects in reuse slots, that memory reclaim may free.
    pub(super) fn reclaimable(&self) -> usize {
        usize::from(self.alloc.is_some())
            + usize::from(self.rcu.is_some())
            + self.spare_full
            + self.spare_empty
            + self.spent
            + self.reuse
    }
}

/// This CPU's part of a cache, with preemption disabled.
#[derive(Clone, Copy)]
pub(super) struct Here<'a> {
    pub(super) cache: &'a Cache,
    pub(super) pin: &'a PreemptOff,
    /// This CPU's [`Pcs`]; computed once.
    base: ThisCpuPtr,
}

impl<'a> Here<'a> {
    #[inline(always)]
    pub(super) fn new(cache: &'a Cache, pin: &'a PreemptOff) -> Self {
        // SAFETY: `Pcs` starts with a word.
        let base = unsafe { cache.pcs.word(0) };
        Self { cache, pin, base }
    }
}

impl<'a> Here<'a> {
    /// Adds what the calling context may do.
    pub(super) fn with_ctx(self) -> HereCtx<'a> {
        HereCtx {
            here: self,
            ctx: CallerContext::new(self.pin),
            allow_remote: false,
        }
    }

    /// The word at `offset` of the [`Pcs`].
    ///
    /// # Safety
    ///
    /// There is an aligned atomic word of 8 bytes.
    #[inline(always)]
    unsafe fn word(self, offset: usize) -> Mine<'a> {
        // SAFETY: By the safety requirements of this function.
        Mine::new(unsafe { self.base.byte_add(offset) }, self.pin)
    }

    #[inline(always)]
    pub(super) fn pcs(self) -> Pin<&'a Pcs> {
        self.cache.pcs.this(self.pin)
    }

    pub(super) fn words(self) -> Words<Mine<'a>> {
        words!(mine, self)
    }

    /// Whether `object`, from a reuse slot, may be allocated. Otherwise it has been freed with a
    /// grace period: to the slab, or to its node.
    pub(super) fn may_reuse(self, object: usize) -> bool {
        let Some(object) = NonNull::new(ptr::with_exposed_provenance_mut::<u8>(object)) else {
            return false;
        };
        let is_remote = self.cache.nr_nodes() > 1 && node::of_object(object) != self.pcs().node();
        if is_remote || slab::is_kfence(object) {
            let pin = PreemptOff::new();
            // SAFETY: A live object of this cache, from a reuse slot: owned here.
            unsafe {
                if !alloc::free_rcu(self.cache, object, &pin) {
                    alloc::no_slot(self.cache, object, 0, pin);
                }
            }
            return false;
        }
        self.cache.zero_for_reuse(object);
        true
    }

    pub(super) fn armed(self) -> Mine<'a> {
        mine!(self, armed)
    }

    /// Adds `n` to counter `event`.
    #[inline(always)]
    pub(super) fn add(self, event: PcsCounter, n: usize) {
        let offset = offset_of!(Pcs, events) + event as usize * size_of::<Atomic<u64>>();
        // SAFETY: There is an aligned atomic word of 8 bytes for each event.
        unsafe { self.word(offset) }.fetch_add(n);
    }

    /// Counts a callback. `sheaves`: removed from its chain; `checked`: looked at.
    pub(super) fn count_callback(self, sheaves: usize, checked: usize) {
        self.add(PcsCounter::Done, sheaves);
        let most = mine!(self, callback_max);
        if checked > most.load() {
            most.xchg(checked);
        }
    }
}

/// [`Here`], with what the calling context may do.
#[derive(Clone, Copy)]
pub(super) struct HereCtx<'a> {
    here: Here<'a>,
    ctx: CallerContext,
    /// Allows objects of other nodes.
    allow_remote: bool,
}

impl<'a> FastPath for Here<'a> {
    type Word = Mine<'a>;
    // Constant offsets: each access is one instruction on x86.
    type Alloc = Mine<'a, { offset_of!(Pcs, alloc) }>;
    type Rcu = Mine<'a, { offset_of!(Pcs, rcu) }>;

    #[inline(always)]
    fn alloc(self) -> Cursor<Self::Alloc> {
        // SAFETY: The field is an aligned atomic word of 8 bytes.
        Cursor(Mine::new(unsafe { self.base.at() }, self.pin))
    }

    #[inline(always)]
    fn rcu(self) -> Cursor<Self::Rcu> {
        // SAFETY: As above.
        Cursor(Mine::new(unsafe { self.base.at() }, self.pin))
    }

    #[inline(always)]
    fn reuse(self, i: usize) -> LocalPtr<Mine<'a>> {
        let offset = offset_of!(Pcs, reuse) + i * size_of::<Atomic<u64>>();
        // SAFETY: Slot `i` is an aligned atomic word of 8 bytes; `i` is below `REUSE`.
        LocalPtr(unsafe { self.word(offset) })
    }

    #[inline(always)]
    fn on_reuse_slot_filled(self) {
        self.arm();
    }
}

impl HereCtx<'_> {
    /// Allows objects of other nodes.
    pub(super) fn allow_remote(self) -> Self {
        Self {
            allow_remote: true,
            ..self
        }
    }

    /// Calls `f` with the barn of the CPU's node. Returns `None` if it is locked and this context
    /// may not wait for the lock.
    fn try_with_barn<R>(self, f: impl FnOnce(&mut Stock) -> R) -> Option<R> {
        let here = self.here;
        here.cache.barn_of(&here.pcs()).try_with_locked(self.ctx, f)
    }

    /// Puts `sheaf` into that barn, or returns it.
    fn put<S>(self, sheaf: S, put: impl FnOnce(&mut Stock, S)) -> Option<S> {
        let mut sheaf = Some(sheaf);
        self.try_with_barn(|stock| {
            if let Some(sheaf) = sheaf.take() {
                put(stock, sheaf);
            }
        });
        sheaf
    }
}

impl<'a> FastPath for HereCtx<'a> {
    type Word = Mine<'a>;
    type Alloc = <Here<'a> as FastPath>::Alloc;
    type Rcu = <Here<'a> as FastPath>::Rcu;

    fn alloc(self) -> Cursor<Self::Alloc> {
        self.here.alloc()
    }

    fn rcu(self) -> Cursor<Self::Rcu> {
        self.here.rcu()
    }

    fn reuse(self, i: usize) -> LocalPtr<Mine<'a>> {
        self.here.reuse(i)
    }

    fn on_reuse_slot_filled(self) {
        self.here.on_reuse_slot_filled();
    }
}

impl<'a> CacheCpu for HereCtx<'a> {
    fn words(self) -> Words<Mine<'a>> {
        self.here.words()
    }

    fn may_reuse(self, object: usize) -> bool {
        self.here.may_reuse(object)
    }

    fn capacity(self) -> usize {
        self.here.cache.capacity()
    }

    fn quiescent(self) -> Option<Quiescent> {
        if !self.ctx.preemptible() {
            return None;
        }
        // SAFETY: The caller was preemptible, and preemption has been disabled since.
        Some(unsafe { Quiescent::assume() })
    }

    fn may_call_rcu(self) -> bool {
        self.ctx.may_lock()
    }

    fn start_grace_period(self, chain: SheafChain) {
        reclaim::start_grace_period(self.here, chain);
    }

    fn count(self) -> Stamp {
        self.here.cache.count_on(&self.here.pcs())
    }

    fn uncount(self, stamp: Stamp) {
        // No wakeup, which NMI can't do: waiters check again within a jiffy.
        let _ = self.here.cache.uncount(stamp);
    }

    fn take_full(self) -> (Option<FullSheaf>, Option<FullSheaf>) {
        let found = self.try_with_barn(|stock| (stock.take_full(), stock.take_full()));
        found.unwrap_or((None, None))
    }

    fn take_reserved(self) -> Option<usize> {
        let cache = self.here.cache;
        let barn = cache.barn_of(&self.here.pcs());
        // Before the request, so that the worker sees it gone.
        let object = barn.take_reserved();
        barn.missed.add(1, Relaxed);
        self.here.request_refill();
        object
    }

    fn take_remote(self) -> Option<FullSheaf> {
        let cache = self.here.cache;
        if !self.allow_remote || cache.nr_nodes() == 1 {
            return None;
        }
        let near = self.here.pcs().node();
        (0..cache.nr_nodes())
            .filter(|&node| node != near)
            .find_map(|node| {
                cache.barns[node].try_with_locked(self.ctx, |stock| stock.take_full())?
            })
    }

    fn take_empty(self) -> (Option<EmptySheaf>, Option<EmptySheaf>) {
        let found = self.try_with_barn(|stock| (stock.take_empty(), stock.take_empty()));
        found.unwrap_or((None, None))
    }

    fn put_full(self, sheaf: FullSheaf) -> Option<FullSheaf> {
        self.put(sheaf, Stock::put_full)
    }

    fn put_empty(self, sheaf: EmptySheaf) -> Option<EmptySheaf> {
        self.put(sheaf, Stock::put_empty)
    }

    fn new_empty(self) -> Option<EmptySheaf> {
        self.here.cache.new_sheaf_in(self.ctx)
    }

    fn queue_irq_work(self) {
        self.here.queue_irq_work();
    }

    fn on_alloc_installed(self) {
        self.here.add(PcsCounter::Emptied, 1);
        self.here.pcs().stock_since.store(jiffies() as u64, Relaxed);
        self.here.arm();
    }

    fn on_rcu_installed(self) {
        self.here.add(PcsCounter::Filled, 1);
        self.here.pcs().rcu_since.store(jiffies() as u64, Relaxed);
        self.here.arm();
    }

    fn on_spare_kept(self) {
        self.here.arm();
    }

    fn warn_nesting(self) {
        debug::warn_nested(&self.here.cache.name);
    }

    fn warn_double_free(self, object: usize) {
        self.here.cache.warn_freed_twice(object, 0);
    }
}
