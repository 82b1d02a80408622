// SPDX-License-Identifier: GPL-2.0

//! The cache: a kmem_cache, and the sheaves around it.
//!
//! # Context
//!
//! Functions that lock, wake or free: softirq or task with no raw spinlock held, unless stated
//! otherwise.

use super::{
    arm::Deadline,
    barn::Stock,
    barrier::{self, Pending},
    batches::CacheBatches,
    cursor::DISABLED,
    geometry::{SHEAF_BYTES, SLOTS},
    grace::{Epochs, GpSnapshot, Polled, RunningCallbacks, Strays, EPOCHS},
    limits::{ActiveLimits, Limits},
    pcs::Pcs,
    reclaim::BacklogWork,
    refill::CacheRefillWork,
    reserve::Reserve,
    sheaf::{EmptySheaf, FullSheaf, Rest, SheafChain, Stamp},
    shrink::{ReapWork, TrimWork},
    Sheaves,
};
use crate::{
    delays::Delays,
    fault,
    link::MAX_OFFSET,
    sync::AtomicLink,
    sys::{
        callback,
        context::{self, CallerContext},
        debug,
        gp::{self, Snapshot},
        irq::IrqsOff,
        module::ModuleRef,
        node,
        percpu::PerCpu,
        preempt::PreemptOff,
        raw_lock::{RawGuard, RawSpinLock},
        slab::{self, ObjectFn, SlabCache},
        srcu::Domain,
        trace,
        work::{DelayedWork, OwnerRef},
    },
    unload,
};
use core::ptr::{self, NonNull};
use kernel::{
    new_mutex,
    prelude::*,
    static_lock_class,
    str::CString,
    sync::{
        atomic::{Acquire, Atomic, AtomicFlag, Full, Relaxed},
        Mutex,
    },
};

/// The largest reserve, in objects.
const MAX_RESERVE: usize = 1 << 24;

/// The arguments of [`Cache::create()`]. 0 selects the default.
#[derive(Clone, Copy, Default)]
pub(crate) struct Args {
    /// Alignment of the objects.
    pub(crate) align: usize,
    /// Offset of the `struct rcu_ptr` in an object, if there is one.
    pub(crate) link_offset: Option<usize>,
    pub(crate) limits: Limits,
    /// Constructor: called for each object when its memory is set up.
    pub(crate) ctor: Option<ObjectFn>,
    /// Destructor: called after each use of an object.
    pub(crate) dtor: Option<ObjectFn>,
    /// Domain whose readers may access freed objects, besides those of RCU.
    pub(crate) srcu: Option<Domain>,
}

/// A cache with sheaves.
#[pin_data]
#[repr(C)]
pub(crate) struct Cache {
    /// First, as every operation needs it.
    pub(super) pcs: PerCpu<Pcs>,
    pub(crate) limits: ActiveLimits,
    /// Offset of the link in an object.
    pub(super) link: usize,
    /// Bytes of an object, as requested.
    pub(crate) size: usize,
    /// Bytes of an object, with the link.
    pub(super) full_size: usize,
    /// `full_size`, rounded up to the alignment.
    pub(super) footprint: usize,
    /// Whether objects of kmalloc_nolock() may be used.
    pub(super) accepts_nolock_objects: bool,
    /// Whether objects go back to the slab after their grace period, so that its checks see them.
    pub(super) no_reuse: bool,
    /// Whether objects are zeroed before they are allocated again.
    pub(super) zero_on_reuse: bool,
    pub(super) barns: KVec<Pin<KBox<Barn>>>,
    pub(super) slab: SlabCache,
    /// Objects allocated from the slab or kmalloc_nolock(), and freed to the slab or through the
    /// engine.
    pub(super) slab_allocs: Atomic<u64>,
    pub(super) slab_frees: Atomic<u64>,
    /// `slab_allocs` at the start of the reaper's last two intervals, newest first.
    past_slab_allocs: [Atomic<u64>; 2],
    /// Whether there are objects of kmalloc_nolock().
    pub(super) has_nolock_objects: AtomicFlag,
    /// A refill is requested.
    pub(super) wants_refill: AtomicFlag,
    /// Memory is short: the next trim empties the barns.
    pub(super) flush_barns: AtomicFlag,
    /// Held while a reserve grows.
    #[pin]
    growing: Mutex<()>,
    #[pin]
    pub(super) refill: DelayedWork<CacheRefillWork>,
    /// Processes the sheaves that callbacks left.
    #[pin]
    pub(super) backlog: DelayedWork<BacklogWork>,
    #[pin]
    pub(super) trim: DelayedWork<TrimWork>,
    #[pin]
    pub(super) reap: DelayedWork<ReapWork>,
    /// Number of sheaves in memory.
    pub(super) sheaves: Atomic<u64>,
    /// Double frees found.
    pub(super) freed_twice: Atomic<u64>,
    /// Destructor: called after each use of an object.
    pub(super) dtor: Option<ObjectFn>,
    /// Calls of the destructor that have returned.
    pub(super) destructed: Atomic<u64>,
    pub(crate) has_ctor: bool,
    /// Domain whose readers may access freed objects, besides those of RCU.
    pub(super) srcu: Option<Domain>,
    /// Which epoch to count in.
    epochs: Epochs,
    /// Freed objects without a sheaf.
    pub(super) strays: Strays,
    pub(super) strays_pending: Pending,
    /// Set once strays were leaked, because one of them was freed twice.
    pub(super) lost_strays: AtomicFlag,
    /// RCU callbacks in progress.
    pub(super) running: RunningCallbacks,
    #[pin]
    pub(super) batches: CacheBatches,
    /// Delays from free to reuse.
    pub(super) delays: Delays,
    /// Number of pins ([`CachePin`](super::caches::CachePin)).
    pub(super) pins: Atomic<u32>,
    /// When the reaper runs, if it is queued.
    pub(super) reap_due: Deadline,
    /// The reaper is queued.
    pub(super) reaping: AtomicFlag,
    pub(crate) name: CString,
    /// Timers, work items and callbacks of the cache run code of this module.
    _module: ModuleRef,
}

/// Sheaves that are to be processed in a context that may sleep.
struct Backlog {
    /// Sheaves whose grace period is over.
    over: SheafChain,
    polled: Polled<Snapshot>,
}

impl GpSnapshot for Snapshot {
    fn is_over(&self) -> bool {
        Snapshot::is_over(self)
    }
}

/// A barn with its lock.
#[pin_data]
pub(crate) struct Barn {
    #[pin]
    stock: RawSpinLock<Stock>,
    #[pin]
    backlog: RawSpinLock<Backlog>,
    reserve: ReserveBox,
    /// Allocations that found no sheaf since the last refill.
    pub(super) missed: Atomic<usize>,
}

type Ring = Reserve<KVVec<AtomicLink>>;

/// The reserve of a node; it grows by being replaced.
///
/// # Invariants
///
/// The pointer is from a box that this owns. Others access the ring with preemption disabled.
struct ReserveBox(Atomic<*mut Ring>);

/// Creates an empty ring for `keep` objects that are promised and `more` that are not.
fn new_ring(keep: usize, more: usize) -> Result<KBox<Ring>> {
    fault::point()?;
    let mut slots = KVVec::with_capacity(keep + more, GFP_KERNEL)?;
    for _ in 0..keep + more {
        slots.push(AtomicLink::new(0), GFP_KERNEL)?;
    }
    fault::point()?;
    Ok(KBox::new(Reserve::new(slots, keep), GFP_KERNEL)?)
}

impl Drop for ReserveBox {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; `&mut` is exclusive.
        drop(unsafe { KBox::from_raw(self.0.load(Relaxed)) });
    }
}

impl Barn {
    /// Creates an empty barn for up to `limit` sheaves of each kind, and a reserve of `capacity`
    /// objects.
    fn new(limit: usize, capacity: usize) -> Result<Pin<KBox<Self>>> {
        // INVARIANT: From a box.
        let reserve = ReserveBox(Atomic::new(KBox::into_raw(new_ring(0, capacity)?)));
        fault::point()?;
        KBox::pin_init(
            pin_init!(Self {
                stock <- RawSpinLock::new(
                    Stock::new(limit),
                    c"rcu_ptr_barn",
                    static_lock_class!()
                ),
                backlog <- RawSpinLock::new(
                    Backlog {
                        over: SheafChain::new(),
                        polled: Polled::new(),
                    },
                    c"rcu_ptr_backlog",
                    static_lock_class!()
                ),
                reserve,
                missed: Atomic::new(0),
            }),
            GFP_KERNEL,
        )
    }

    /// Calls `f` with the reserve.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    pub(super) fn with_reserve<R>(&self, f: impl FnOnce(&Ring) -> R) -> R {
        let _pin = PreemptOff::new();
        // ORDERING: Acquire pairs with the exchange in `grow_reserve()`.
        // SAFETY: By the type invariants of `ReserveBox`: `grow_reserve()` waits for a grace period
        // before it frees a ring.
        f(unsafe { &*self.reserve.0.load(Acquire) })
    }

    /// Removes an object from the reserve.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    pub(super) fn take_reserved(&self) -> Option<usize> {
        self.with_reserve(|ring| ring.take())
    }

    /// Adds `object` to the reserve. Returns `false` if it is full.
    pub(super) fn put_reserved(&self, object: usize) -> bool {
        // The lock serialises writers.
        self.with_locked(|_| self.with_reserve(|ring| ring.put(object)))
    }

    /// Adds `chain`, whose grace period is over, to the backlog.
    pub(super) fn add_backlog(&self, chain: SheafChain) {
        let irqs = IrqsOff::save();
        self.backlog.lock(&irqs).over.append(chain);
    }

    /// Adds `chain`, which was closed before the call, to the backlog, to be processed after a
    /// grace period.
    pub(super) fn add_polled(&self, chain: SheafChain) {
        let irqs = IrqsOff::save();
        let mut backlog = self.backlog.lock(&irqs);
        // Under the lock, so that snapshots are pushed in order.
        backlog.polled.push(chain, Snapshot::take());
    }

    /// Whether there is a backlog.
    pub(super) fn has_backlog(&self) -> bool {
        let irqs = IrqsOff::save();
        let backlog = self.backlog.lock(&irqs);
        !backlog.over.is_empty() || !backlog.polled.is_empty()
    }

    /// Whether the backlog has sheaves whose grace period was not over at the last
    /// [`Self::take_backlog()`].
    pub(super) fn has_polled(&self) -> bool {
        let irqs = IrqsOff::save();
        let backlog = self.backlog.lock(&irqs);
        !backlog.polled.is_empty()
    }

    /// Removes the sheaves of the backlog whose grace period is over.
    pub(super) fn take_backlog(&self) -> SheafChain {
        let irqs = IrqsOff::save();
        let mut backlog = self.backlog.lock(&irqs);
        let mut over = core::mem::replace(&mut backlog.over, SheafChain::new());
        over.append(backlog.polled.take());
        over
    }

    pub(super) fn with_locked<R>(&self, f: impl FnOnce(&mut Stock) -> R) -> R {
        let irqs = IrqsOff::save();
        let mut stock = self.stock.lock(&irqs);
        f(&mut stock)
    }

    /// Calls `f` with the lock held. In contexts that may have interrupted the holder, returns
    /// `None` if it is taken.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    pub(super) fn try_with_locked<R>(
        &self,
        ctx: CallerContext,
        f: impl FnOnce(&mut Stock) -> R,
    ) -> Option<R> {
        let irqs = IrqsOff::save();
        let guard: Option<RawGuard<'_, Stock>> = if ctx.may_lock() {
            Some(self.stock.lock(&irqs))
        } else {
            self.stock.try_lock(&irqs)
        };
        guard.map(|mut stock| f(&mut stock))
    }
}

/// Back reference to a cache from its work items and callbacks, which its destruction stops.
pub(crate) type CacheRef = OwnerRef<Cache>;

impl Cache {
    /// The number of possible nodes.
    #[inline]
    pub(super) fn nr_nodes(&self) -> usize {
        if node::MANY {
            self.barns.len()
        } else {
            1
        }
    }

    /// Sheaves that each barn may have on top of its limit: as many as were allocated from the slab
    /// lately.
    ///
    /// Without it a load with more objects in grace periods than a barn holds would free them to
    /// the slab each time, and allocate them again.
    pub(super) fn allowance(&self) -> usize {
        let obtained = self.slab_allocs.load(Relaxed);
        let lately = obtained.saturating_sub(self.past_slab_allocs[1].load(Relaxed)) as usize;
        (lately / self.capacity()).min(self.limits.extra())
    }

    /// Starts a new interval of the reaper.
    pub(super) fn next_interval(&self) {
        self.past_slab_allocs[1].store(self.past_slab_allocs[0].load(Relaxed), Relaxed);
        self.past_slab_allocs[0].store(self.slab_allocs.load(Relaxed), Relaxed);
    }

    /// Grows the reserve of `node` by `more` objects. `fill` is called with the ring and the number
    /// of objects that are missing, until none is; it returns `false` if it can add none.
    ///
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; the reserve is unchanged.
    pub(super) fn grow_reserve(
        &self,
        node: usize,
        more: usize,
        mut fill: impl FnMut(&Ring, usize) -> bool,
    ) -> Result {
        let _one = self.growing.lock();
        let barn = &self.barns[node];
        let keep = barn.with_reserve(|ring| ring.keep()) + more;
        if keep > MAX_RESERVE {
            return Err(ENOMEM);
        }
        let mut ring = new_ring(keep, self.capacity())?;
        let mut result = Ok(());
        // Including what was promised before, so that the promise holds at any moment.
        while result.is_ok() && ring.len() < keep {
            if !fill(&ring, keep - ring.len()) {
                result = Err(ENOMEM);
            }
        }
        if result.is_ok() {
            // INVARIANT: From a box.
            // ORDERING: Full: the ring is filled before others see it.
            let before = barn.reserve.0.xchg(KBox::into_raw(ring), Full);
            gp::synchronize();
            // SAFETY: By the type invariants of `ReserveBox`; it is no longer shared.
            ring = unsafe { KBox::from_raw(before) };
        }
        self.free_all_to_slab(|| ring.take(), usize::MAX);
        result
    }

    /// Frees to the slab up to `n` objects, which `take` returns one by one. Returns their number.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(super) fn free_all_to_slab(
        &self,
        mut take: impl FnMut() -> Option<usize>,
        n: usize,
    ) -> usize {
        let mut done = 0;
        loop {
            let mut objects = [ptr::null_mut(); SLOTS];
            let mut len = 0;
            for entry in objects.iter_mut().take(n - done) {
                let Some(object) = take() else { break };
                *entry = ptr::with_exposed_provenance_mut(object);
                len += 1;
            }
            if len == 0 {
                return done;
            }
            self.free_to_slab(&mut objects[..len]);
            done += len;
            gp::cond_resched();
        }
    }

    /// Calls the destructor for `object`, whose grace period is over.
    ///
    /// # Context
    ///
    /// May sleep, where there is a destructor.
    pub(super) fn destruct(&self, object: usize) {
        if let Some(dtor) = self.dtor {
            // SAFETY: The contract of rcu_ptr_cache_create(): for each object of the cache that was
            // freed, once, in process context.
            unsafe { callback::destruct(dtor, ptr::with_exposed_provenance_mut(object)) };
            unload::returned(dtor as *const () as usize);
            // ORDERING: Full: its frees are visible to a reader of the count.
            self.destructed.fetch_add(1, Full);
        }
    }

    /// Tells lockdep what the caller is about to wait for.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(super) fn will_wait(&self) {
        if self.dtor.is_some() {
            callback::will_wait_for_destructors();
        }
        if let Some(domain) = self.srcu {
            domain.will_wait();
        }
    }

    /// Zeroes `object`, which is free, before its next use, if the kernel's settings ask for that.
    #[inline]
    pub(super) fn zero_for_reuse(&self, object: NonNull<u8>) {
        if self.zero_on_reuse {
            // SAFETY: A live object of `full_size` bytes that is not in use.
            unsafe { object.write_bytes(0, self.full_size) };
        }
    }

    /// How objects are reused, for debugfs.
    pub(super) fn reuse(&self) -> &'static str {
        match (self.no_reuse, self.zero_on_reuse) {
            (true, _) => "none",
            (false, true) => "zeroed",
            (false, false) => "plain",
        }
    }

    /// Creates a cache, and adds it to `sheaves`.
    ///
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` for an unsupported size, alignment, capacity, limit, flag or field; `ENOMEM`;
    /// `ENODEV` if the module is being unloaded.
    pub(crate) fn create(
        sheaves: &Sheaves,
        name: &CStr,
        size: usize,
        args: Args,
        flags: u32,
    ) -> Result<NonNull<Self>> {
        let align = args.align.max(align_of::<u64>());
        if size == 0 || !align.is_power_of_two() || flags & slab::INVALID_FLAGS != 0 {
            return Err(EINVAL);
        }
        let (link, full_size) = match args.link_offset {
            Some(link) if link % 8 == 0 && link + 8 <= size => (link, size),
            Some(_) => return Err(EINVAL),
            // After the object, where neither readers nor the user access it.
            None => (size.next_multiple_of(8), size.next_multiple_of(8) + 8),
        };
        if link >= MAX_OFFSET {
            return Err(EINVAL);
        }
        let footprint = full_size.next_multiple_of(align);
        let limits = ActiveLimits::new(args.limits, footprint)?;
        let Limits { capacity, barn, .. } = limits.get();
        let checks = slab::checks();
        let no_reuse = checks.objects || flags & slab::DEBUG_FLAGS != 0;
        // As the slab does.
        let zero_on_reuse = !no_reuse
            && (checks.init_on_alloc || checks.init_on_free)
            && flags & slab::TYPESAFE_BY_RCU == 0
            && args.ctor.is_none();
        // No reuse slots, i.e. free() waits for a grace period, where reuse at once would skip
        // - the slab's checks, or zeroing on free;
        // - the destructor, which needs process context;
        // - the SRCU domain of a typesafe cache: the slab would free the memory without waiting for
        //   it.
        let reuse = if no_reuse
            || zero_on_reuse && checks.init_on_free
            || args.dtor.is_some()
            || args.srcu.is_some() && flags & slab::TYPESAFE_BY_RCU != 0
        {
            DISABLED
        } else {
            0
        };
        let module = ModuleRef::new()?;
        let nr_nodes = node::count();
        fault::point()?;
        let mut barns = KVec::with_capacity(nr_nodes, GFP_KERNEL)?;
        for _ in 0..nr_nodes {
            fault::point()?;
            barns.push(Barn::new(barn, capacity)?, GFP_KERNEL)?;
        }
        fault::point()?;
        let slab = SlabCache::new(name, full_size, align, args.ctor, flags)?;
        fault::point()?;
        let name = CString::try_from(name)?;
        fault::point()?;
        // SAFETY: The cache is pinned, and its destruction stops its work items and waits for what
        // is counted.
        let owner = |this| unsafe { CacheRef::new(this) };
        let cache = KBox::pin_init(
            try_pin_init!(&this in Self {
                _: {
                    fault::point()?;
                },
                pcs: PerCpu::new(|cpu| {
                    Pcs::new(cpu, reuse, owner(this))
                })?,
                limits,
                link,
                size,
                full_size,
                footprint,
                // kmalloc() objects are aligned to 8 bytes, and to the largest power of two that
                // divides their size class.
                accepts_nolock_objects: align <= align_of::<u64>()
                    && *full_size <= slab::MAX_NOLOCK_SIZE
                    && args.ctor.is_none()
                    && flags & slab::OWN_MEMORY_FLAGS == 0,
                no_reuse,
                zero_on_reuse,
                barns,
                slab,
                slab_allocs: Atomic::new(0),
                slab_frees: Atomic::new(0),
                past_slab_allocs: [Atomic::new(0), Atomic::new(0)],
                has_nolock_objects: AtomicFlag::new(false),
                wants_refill: AtomicFlag::new(false),
                flush_barns: AtomicFlag::new(false),
                growing <- new_mutex!((), "rcu_ptr_growing"),
                refill <- DelayedWork::for_refills(CacheRefillWork(owner(this))),
                backlog <- DelayedWork::for_destructors(
                    BacklogWork(owner(this)),
                    args.dtor.is_some(),
                ),
                trim <- DelayedWork::new(TrimWork(owner(this))),
                reap <- DelayedWork::new(ReapWork(owner(this))),
                sheaves: Atomic::new(0),
                freed_twice: Atomic::new(0),
                dtor: args.dtor,
                destructed: Atomic::new(0),
                has_ctor: args.ctor.is_some(),
                srcu: args.srcu,
                epochs: Epochs::new(),
                strays: Strays::new(),
                strays_pending: Pending::new(),
                lost_strays: AtomicFlag::new(false),
                running: RunningCallbacks::new(),
                batches <- CacheBatches::new(owner(this)),
                delays: Delays::new(),
                pins: Atomic::new(0),
                reap_due: Deadline::new(),
                reaping: AtomicFlag::new(false),
                name,
                _module: module,
            }? Error),
            GFP_KERNEL,
        )?;
        // SAFETY: The cache stays where it is until `destroy()` makes a pinned box of it again.
        let cache = NonNull::from(KBox::leak(unsafe { Pin::into_inner_unchecked(cache) }));
        if let Err(e) = sheaves.add(cache) {
            // SAFETY: From the box above, and not shared.
            drop(unsafe { KBox::from_raw(cache.as_ptr()) });
            return Err(e);
        }
        Ok(cache)
    }
}

/// Counting what waits for a grace period. Any context, NMI included.
impl Cache {
    /// Counts a sheaf of `cpu` that waits for a grace period. The stamp encodes the CPU and the
    /// epoch.
    pub(super) fn count(&self, cpu: i32) -> Stamp {
        self.count_on(&self.pcs.of(cpu))
    }

    /// The same for the CPU of `pcs`.
    pub(super) fn count_on(&self, pcs: &Pcs) -> Stamp {
        let epoch = self.epochs.current();
        pcs.pending.count(epoch);
        Stamp::of(pcs.cpu as u32 * EPOCHS as u32 + epoch as u32)
    }

    /// Counts a stray. Returns its epoch.
    pub(super) fn count_stray(&self) -> usize {
        let epoch = self.epochs.current();
        self.strays_pending.count(epoch);
        epoch
    }

    /// Reverts [`Self::count()`], without a wakeup. Returns whether the count dropped to zero.
    pub(super) fn uncount(&self, stamp: Stamp) -> bool {
        let index = stamp.number() as usize - 1;
        let pcs = self.pcs.of((index / EPOCHS) as i32);
        pcs.pending.uncount(index % EPOCHS)
    }
}

impl Cache {
    /// Whether nothing counted before `seq` ([`barrier::next_seq()`]) is left.
    pub(super) fn is_drained(&self, seq: u64) -> bool {
        let is_empty = |epoch| {
            let pcs = self.pcs.iter().all(|pcs| pcs.pending.is_empty(epoch));
            pcs && self.has_no_strays(epoch)
        };
        self.epochs.is_drained(seq, is_empty)
    }

    /// Whether nothing is counted and no callback runs.
    pub(super) fn is_quiet(&self) -> bool {
        let is_empty = |pending: &Pending| (0..EPOCHS).all(|epoch| pending.is_empty(epoch));
        self.running.is_idle_after(|| {
            self.pcs.iter().all(|pcs| is_empty(&pcs.pending))
                && (0..EPOCHS).all(|epoch| self.has_no_strays(epoch))
        })
    }

    /// Whether any barn has a backlog.
    pub(super) fn has_backlog(&self) -> bool {
        self.barns.iter().any(|barn| barn.has_backlog())
    }

    /// Queues the worker that processes the backlog.
    ///
    /// # Context
    ///
    /// As for [`DelayedWork::queue()`].
    pub(super) fn queue_backlog(&self) {
        let sheaves = Sheaves::get();
        let wq = if self.dtor.is_some() {
            &sheaves.dtor_wq
        } else {
            &sheaves.reclaim_wq
        };
        self.backlog.queue(wq, 0);
    }

    /// Ends an RCU callback, whose last access to the cache this is.
    pub(super) fn callback_done(&self) {
        if self.running.leave() {
            barrier::wake();
        }
    }

    /// Reverts [`Self::count()`], and wakes waiters. The cache may be freed once nothing is
    /// counted.
    pub(super) fn uncount_and_wake(&self, stamp: Option<Stamp>) {
        if stamp.is_some_and(|stamp| self.uncount(stamp)) {
            barrier::wake();
        }
    }

    /// The barn of the CPU's node.
    pub(super) fn barn_of(&self, pcs: &Pcs) -> &Barn {
        &self.barns[pcs.node()]
    }

    /// Creates an empty sheaf in memory of `alloc`.
    fn sheaf_in(&self, alloc: impl FnOnce() -> Option<NonNull<u8>>) -> Option<EmptySheaf> {
        fault::point().ok()?;
        let memory = alloc()?;
        self.sheaves.add(1, Relaxed);
        // SAFETY: Fresh, and aligned to its size, as it is a power of two.
        Some(unsafe { EmptySheaf::from_memory(memory, (&raw const *self).cast()) })
    }

    /// Allocates an empty sheaf.
    ///
    /// # Context
    ///
    /// As `gfp` says, never NMI.
    pub(super) fn new_sheaf(&self, gfp: u32) -> Option<EmptySheaf> {
        self.sheaf_in(|| slab::kmalloc(SHEAF_BYTES, gfp))
    }

    /// As [`Self::new_sheaf()`], in any context.
    pub(super) fn new_sheaf_in(&self, ctx: CallerContext) -> Option<EmptySheaf> {
        if !context::may_alloc_nolock() {
            return None;
        }
        if !cfg!(CONFIG_DEBUG_KMEMLEAK) {
            return self.sheaf_in(|| slab::kmalloc_nolock(SHEAF_BYTES));
        }
        // kmemleak would report what only memory of kmalloc_nolock() points to.
        if cfg!(not(CONFIG_PREEMPT_RT)) && ctx.preemptible() {
            self.new_sheaf(slab::GFP_ATOMIC)
        } else {
            None
        }
    }

    /// Frees the memory of a sheaf.
    pub(super) fn free_sheaf(&self, sheaf: EmptySheaf) {
        self.sheaves.fetch_sub(1, Relaxed);
        // SAFETY: An empty sheaf is exclusively owned; its memory is from kmalloc().
        unsafe { slab::kfree(sheaf.into_memory()) };
    }

    /// Reports a double free of `object`, of which the second copy was dropped: counts it, and
    /// warns once.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    #[cold]
    pub(crate) fn warn_freed_twice(&self, object: usize, caller: usize) {
        self.freed_twice.add(1, Relaxed);
        debug::warn_freed_twice(&self.name, object, caller);
    }

    /// Frees the objects of a sheaf to the slab.
    pub(super) fn flush(&self, sheaf: FullSheaf) -> EmptySheaf {
        let mut objects = [core::ptr::null_mut(); SLOTS];
        let (n, empty) = sheaf.empty_into(&mut objects);
        self.free_to_slab(&mut objects[..n]);
        empty
    }

    /// Frees objects to the slab.
    pub(super) fn free_to_slab(&self, objects: &mut [*mut u8]) {
        self.slab_frees.add(objects.len() as u64, Relaxed);
        if self.has_nolock_objects.load(Relaxed) {
            // SAFETY: Objects of sheaves are live ones of the slab or of kmalloc_nolock(), and
            // exclusively owned.
            unsafe { crate::sys::mem::kfree_bulk(objects) };
        } else {
            trace::free(objects);
            // SAFETY: As above, and there are none of kmalloc_nolock().
            unsafe { self.slab.free_bulk(objects) };
        }
    }

    /// Puts a sheaf into the barn of `node`.
    pub(super) fn put_rest(&self, node: usize, rest: Rest) {
        self.barns[node].with_locked(|stock| match rest {
            Rest::Full(sheaf) => stock.put_full(sheaf),
            Rest::Empty(sheaf) => stock.put_empty(sheaf),
        });
    }
}
