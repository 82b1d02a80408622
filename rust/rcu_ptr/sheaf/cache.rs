// SPDX-License-Identifier: GPL-2.0

//! The cache: a kmem_cache, and the sheaves around it.

use super::{
    barn::Stock,
    geometry::{SHEAF_BYTES, SLOTS},
    pcs::Pcs,
    reclaim::BacklogWork,
    refill::RefillWork,
    sheaf::{Chain, Empty, Full, Rest},
    shrink::{ReapWork, TrimWork},
    Sheaves,
};
use crate::{
    fault,
    link::MAX_OFFSET,
    sys::{
        context::Context,
        debug,
        irq::IrqsOff,
        node,
        percpu::PerCpu,
        raw_lock::{RawGuard, RawSpinLock},
        slab::{self, SlabCache},
        work::DelayedWork,
    },
};
use core::ptr::NonNull;
use kernel::{
    prelude::*,
    static_lock_class,
    str::CString,
    sync::atomic::{Atomic, AtomicFlag, Relaxed},
};

/// What a user asks for. 0 stands for the usual.
#[derive(Clone, Copy, Default)]
pub(crate) struct Args {
    /// Alignment of the objects.
    pub(crate) align: usize,
    /// Where in the object the `struct rcu_ptr` is, if there is one.
    pub(crate) link_offset: Option<usize>,
    /// Objects in a sheaf.
    pub(crate) sheaf_capacity: usize,
    /// Full sheaves to keep per node, and as many empty ones.
    pub(crate) barn_limit: usize,
}

/// Bytes of free objects that a barn keeps at most, unless told otherwise.
const BARN_BYTES: usize = 4 << 20;
/// Bounds of that in sheaves.
const BARN_SHEAVES: core::ops::RangeInclusive<usize> = 10..=1024;
/// A barn keeps so many times as much on top of that while the slab is asked for as many: objects
/// that are not back yet when they are needed again.
const BARN_MORE: usize = 3;
/// A user may ask for this much.
const MAX_BARN_LIMIT: usize = 1 << 16;

/// Objects in a sheaf: fewer of large ones, as the slab's own (`calculate_sheaf_capacity()`).
fn usual_capacity(size: usize) -> usize {
    match size {
        4096.. => 4,
        1024.. => 12,
        256.. => 26,
        _ => SLOTS,
    }
}

/// A cache with sheaves.
#[pin_data]
#[repr(C)]
pub(crate) struct Cache {
    /// First, as every call needs it.
    pub(super) pcs: PerCpu<Pcs>,
    /// Objects in a sheaf.
    pub(super) capacity: usize,
    /// Where the link of an object is.
    pub(super) link: usize,
    /// Bytes of an object as the user sees it.
    pub(crate) size: usize,
    /// Bytes of an object.
    pub(super) full_size: usize,
    /// Whether kmalloc_nolock() gives objects that are as good.
    pub(super) takes_foreign: bool,
    pub(super) barns: KVec<Pin<KBox<Barn>>>,
    pub(super) slab: SlabCache,
    /// Objects that came from the slab or from kmalloc_nolock(), and that went back, to it or to
    /// the engine.
    pub(super) obtained: Atomic<u64>,
    pub(super) returned: Atomic<u64>,
    /// `obtained` as it was when the last two intervals of the reaper began, the older one last.
    marks: [Atomic<u64>; 2],
    /// Sheaves that a barn may have on top of its limit.
    most_more: usize,
    /// Objects of kmalloc_nolock() are among them.
    pub(super) has_foreign: AtomicFlag,
    /// The worker has to bring full sheaves.
    pub(super) wants_refill: AtomicFlag,
    #[pin]
    pub(super) refill: DelayedWork<RefillWork>,
    /// Takes in what callbacks left.
    #[pin]
    pub(super) backlog: DelayedWork<BacklogWork>,
    #[pin]
    pub(super) trim: DelayedWork<TrimWork>,
    #[pin]
    pub(super) reap: DelayedWork<ReapWork>,
    /// Sheaves in memory.
    pub(super) sheaves: Atomic<u64>,
    /// Objects that were freed twice, as far as that was found.
    pub(super) freed_twice: Atomic<u64>,
    /// The reaper will come.
    pub(super) reaping: AtomicFlag,
    pub(crate) name: CString,
}

/// A barn with its lock.
#[pin_data]
pub(crate) struct Barn {
    #[pin]
    stock: RawSpinLock<Stock>,
    /// Sheaves whose grace period is over, for the worker.
    #[pin]
    backlog: RawSpinLock<Chain>,
}

impl Barn {
    fn new(limit: usize) -> impl PinInit<Self> {
        pin_init!(Self {
            stock <- RawSpinLock::new(Stock::new(limit), c"rcu_ptr_barn", static_lock_class!()),
            backlog <- RawSpinLock::new(
                Chain::new(),
                c"rcu_ptr_backlog",
                static_lock_class!()
            ),
        })
    }

    /// Leaves `chain` to the worker.
    ///
    /// # Context
    ///
    /// Any but NMI.
    pub(super) fn leave(&self, chain: Chain) {
        let irqs = IrqsOff::save();
        self.backlog.lock(&irqs).append(chain);
    }

    /// Takes what was left.
    ///
    /// # Context
    ///
    /// Any but NMI.
    pub(super) fn take_backlog(&self) -> Chain {
        let irqs = IrqsOff::save();
        let mut backlog = self.backlog.lock(&irqs);
        core::mem::replace(&mut backlog, Chain::new())
    }

    /// Calls `f` with the lock held.
    ///
    /// # Context
    ///
    /// Any but NMI.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut Stock) -> R) -> R {
        let irqs = IrqsOff::save();
        let mut stock = self.stock.lock(&irqs);
        f(&mut stock)
    }

    /// Calls `f` with the lock held; does not where the interrupted code may hold it, and it is
    /// taken.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    pub(super) fn try_with<R>(&self, ctx: Context, f: impl FnOnce(&mut Stock) -> R) -> Option<R> {
        let irqs = IrqsOff::save();
        let guard: Option<RawGuard<'_, Stock>> = if ctx.may_lock {
            Some(self.stock.lock(&irqs))
        } else {
            self.stock.try_lock(&irqs)
        };
        guard.map(|mut stock| f(&mut stock))
    }
}

/// A cache as its own work items know it.
///
/// # Invariants
///
/// The cache outlives every run of the handlers (`destroy`).
#[derive(Clone, Copy)]
pub(crate) struct CacheRef(pub(super) *const Cache);

// SAFETY: `Cache` is shared between CPUs anyway.
unsafe impl Sync for CacheRef {}
// SAFETY: As above.
unsafe impl Send for CacheRef {}

impl core::ops::Deref for CacheRef {
    type Target = Cache;

    fn deref(&self) -> &Cache {
        // SAFETY: By the type invariants.
        unsafe { &*self.0 }
    }
}

impl Cache {
    /// Nodes that may exist.
    #[inline]
    pub(super) fn nr_nodes(&self) -> usize {
        if node::MANY {
            self.barns.len()
        } else {
            1
        }
    }

    /// Sheaves that each barn may have on top of its limit: as many as the slab had to give lately.
    ///
    /// A load that has more objects on their way than a barn holds would otherwise give them back
    /// to the slab each time they come, and ask for them again.
    pub(super) fn allowance(&self) -> usize {
        let obtained = self.obtained.load(Relaxed);
        let lately = obtained.wrapping_sub(self.marks[1].load(Relaxed)) as usize;
        (lately / self.capacity).min(self.most_more)
    }

    /// The reaper has come.
    pub(super) fn next_interval(&self) {
        self.marks[1].store(self.marks[0].load(Relaxed), Relaxed);
        self.marks[0].store(self.obtained.load(Relaxed), Relaxed);
    }

    /// Makes a cache, and tells `sheaves` of it.
    ///
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a size, alignment, capacity, limit, flag or field that can't be served,
    /// `ENOMEM`.
    pub(crate) fn create(
        sheaves: &Sheaves,
        name: &CStr,
        size: usize,
        args: Args,
        flags: u32,
    ) -> Result<NonNull<Self>> {
        let align = args.align.max(align_of::<u64>());
        if size == 0
            || !align.is_power_of_two()
            || flags & slab::REFUSED_FLAGS != 0
            || args.sheaf_capacity > SLOTS
            || args.barn_limit > MAX_BARN_LIMIT
        {
            return Err(EINVAL);
        }
        let (link, full_size) = match args.link_offset {
            Some(link) if link % 8 == 0 && link + 8 <= size => (link, size),
            Some(_) => return Err(EINVAL),
            // Behind the object, out of readers' and the user's way.
            None => (size.next_multiple_of(8), size.next_multiple_of(8) + 8),
        };
        if link >= MAX_OFFSET {
            return Err(EINVAL);
        }
        let capacity = match args.sheaf_capacity {
            0 => usual_capacity(full_size),
            n => n,
        };
        let (limit, most_more) = match args.barn_limit {
            0 => {
                let usual = (BARN_BYTES / (capacity * full_size))
                    .clamp(*BARN_SHEAVES.start(), *BARN_SHEAVES.end());
                (usual, usual * BARN_MORE)
            }
            n => (n, 0),
        };
        let nr_nodes = node::count();
        fault::point()?;
        let mut barns = KVec::with_capacity(nr_nodes, GFP_KERNEL)?;
        for _ in 0..nr_nodes {
            fault::point()?;
            barns.push(KBox::pin_init(Barn::new(limit), GFP_KERNEL)?, GFP_KERNEL)?;
        }
        fault::point()?;
        let slab = SlabCache::new(name, full_size, align, flags)?;
        fault::point()?;
        let name = CString::try_from(name)?;
        fault::point()?;
        // INVARIANT: The work items get a reference to the cache that they are part of.
        let cache = KBox::pin_init(
            try_pin_init!(&this in Self {
                _: {
                    fault::point()?;
                },
                pcs: PerCpu::new(|cpu| {
                    Pcs::new(cpu, node::of_cpu(cpu).min(nr_nodes - 1), CacheRef(this.as_ptr()))
                })?,
                capacity,
                link,
                size,
                full_size,
                // kmalloc() objects are aligned to 8 bytes, and to the largest power of two that
                // divides their size class.
                takes_foreign: align <= align_of::<u64>()
                    && *full_size <= slab::MAX_NOLOCK_SIZE
                    && flags & slab::OWN_MEMORY_FLAGS == 0,
                barns,
                slab,
                obtained: Atomic::new(0),
                returned: Atomic::new(0),
                marks: [Atomic::new(0), Atomic::new(0)],
                most_more,
                has_foreign: AtomicFlag::new(false),
                wants_refill: AtomicFlag::new(false),
                refill <- DelayedWork::new(RefillWork(CacheRef(this.as_ptr()))),
                backlog <- DelayedWork::new(BacklogWork(CacheRef(this.as_ptr()))),
                trim <- DelayedWork::new(TrimWork(CacheRef(this.as_ptr()))),
                reap <- DelayedWork::new(ReapWork(CacheRef(this.as_ptr()))),
                sheaves: Atomic::new(0),
                freed_twice: Atomic::new(0),
                reaping: AtomicFlag::new(false),
                name,
            }? Error),
            GFP_KERNEL,
        )?;
        // SAFETY: The cache stays where it is until `destroy()` makes a pinned box of it again.
        let cache = NonNull::from(KBox::leak(unsafe { Pin::into_inner_unchecked(cache) }));
        if let Err(e) = sheaves.add(cache) {
            // SAFETY: From the box above, and nobody knows it.
            drop(unsafe { KBox::from_raw(cache.as_ptr()) });
            return Err(e);
        }
        Ok(cache)
    }

    /// The barn of a CPU's node.
    pub(super) fn barn_of(&self, pcs: &Pcs) -> &Barn {
        &self.barns[pcs.node]
    }

    /// An empty sheaf in fresh memory.
    ///
    /// # Context
    ///
    /// As `gfp` says, never NMI.
    pub(super) fn new_sheaf(&self, gfp: u32) -> Option<Empty> {
        fault::point().ok()?;
        let memory = slab::kmalloc(SHEAF_BYTES, gfp)?;
        self.sheaves.add(1, Relaxed);
        // SAFETY: Fresh, and aligned to its size, as it is a power of two.
        Some(unsafe { Empty::from_memory(memory, (&raw const *self).cast()) })
    }

    /// As [`Self::new_sheaf()`], in any context.
    pub(super) fn new_sheaf_in(&self, ctx: Context) -> Option<Empty> {
        // What only points into memory that kmemleak was not told of would count as leaked.
        if cfg!(CONFIG_DEBUG_KMEMLEAK) {
            return if cfg!(not(CONFIG_PREEMPT_RT)) && ctx.preemptible {
                self.new_sheaf(slab::GFP_ATOMIC)
            } else {
                None
            };
        }
        fault::point().ok()?;
        let memory = slab::kmalloc_nolock(SHEAF_BYTES)?;
        self.sheaves.add(1, Relaxed);
        // SAFETY: As above.
        Some(unsafe { Empty::from_memory(memory, (&raw const *self).cast()) })
    }

    /// Gives the memory of a sheaf back.
    ///
    /// # Context
    ///
    /// Any but NMI, no raw spinlock held.
    pub(super) fn free_sheaf(&self, sheaf: Empty) {
        self.sheaves.fetch_sub(1, Relaxed);
        // SAFETY: Nobody else knows an empty sheaf; its memory is from kmalloc().
        unsafe { slab::kfree(sheaf.into_memory()) };
    }

    /// Counts `object`, of which a copy was dropped, and warns once.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    #[cold]
    pub(super) fn tell_twice(&self, object: usize, caller: usize) {
        self.freed_twice.add(1, Relaxed);
        debug::warn_freed_twice(&self.name, object, caller);
    }

    /// Gives the objects of a sheaf back to the slab.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(super) fn flush(&self, sheaf: Full) -> Empty {
        let mut objects = [core::ptr::null_mut(); SLOTS];
        let (n, empty) = sheaf.empty_into(&mut objects);
        self.give_back(&mut objects[..n]);
        empty
    }

    /// Gives objects back to the slab.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(super) fn give_back(&self, objects: &mut [*mut u8]) {
        self.returned.add(objects.len() as u64, Relaxed);
        if self.has_foreign.load(Relaxed) {
            // SAFETY: Objects of sheaves are live ones of the slab or of kmalloc_nolock(), and
            // belong to nobody else.
            unsafe { crate::sys::mem::kfree_bulk(objects) };
        } else {
            // SAFETY: As above, and there are none of kmalloc_nolock().
            unsafe { self.slab.free_bulk(objects) };
        }
    }

    /// Puts what is left of a sheaf into a barn.
    ///
    /// # Context
    ///
    /// Any but NMI.
    pub(super) fn store(&self, node: usize, rest: Rest) {
        self.barns[node].with(|stock| match rest {
            Rest::Full(sheaf) => stock.put_full(sheaf),
            Rest::Empty(sheaf) => stock.put_empty(sheaf),
        });
    }
}
