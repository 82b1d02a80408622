// SPDX-License-Identifier: GPL-2.0

//! Engine `lockless`: no lock and no special case for NMI. Each CPU has a block that any context
//! fills by one addition to a word of that CPU; docs/lockless.md says why that is enough.
//!
//! ```text
//!  word.rs         block and next slot in one word
//!  insert.rs       the algorithm: object -> slot, and closing a block      (any context)
//!  cpu.rs          the kernel's CPUs under it
//!  block.rs        closed blocks              spare.rs    unused ones      refill.rs  brings more
//!  monitor.rs      collects and closes, by a timer of each CPU
//!  batch.rs        closed blocks wait for a grace period in batches
//!  reclaim.rs      objects go back
//!  barrier.rs      until all of that is done
//!  shrink.rs       memory is short            hotplug.rs  a CPU comes or goes
//! ```

mod barrier;
mod batch;
mod block;
mod cpu;
mod hotplug;
mod insert;
mod krcp;
mod monitor;
mod reclaim;
mod refill;
mod shrink;
mod spare;
mod word;

use crate::{
    engine::{Engine, Gauges, Stats},
    fault, params,
    rfc::list::Pushed,
    sys::{
        current_block,
        debug::{self, Misuse},
        gp,
        hotplug::{Hotplug, IrqWorksRun},
        irq::IrqsOff,
        mem::{self, VmallocArea},
        percpu::PerCpu,
        preempt::{OnCpu, PreemptOff},
        shrinker::Shrinker,
        trace, work,
    },
};
use core::ptr::{self, NonNull};
use cpu::{This, Unused, Word};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
    },
};
use krcp::Krcp;
use word::Layout;

/// Blocks are pages, with room for 480 objects where pages have 4 KiB.
pub(crate) struct Page;

impl Layout for Page {
    const BLOCK: u64 = mem::PAGE_SIZE as u64;
    const HEADER: u64 = 256;
}

/// The engine as loaded.
pub(crate) struct Lockless {
    krc: PerCpu<Krcp>,
    vmalloc: VmallocArea,
}

/// The instance, from [`Lockless::start()`] to the drop of [`Running`].
static INSTANCE: Atomic<*mut Lockless> = Atomic::new(ptr::null_mut());

/// Keeps the engine running; dropping it drains and stops it.
pub(crate) struct Running {
    shrinker: Option<Shrinker<shrink::LocklessShrinker>>,
    hotplug: Option<Hotplug<hotplug::LocklessHotplug>>,
}

impl Lockless {
    /// Sets up every possible CPU, the shrinker and the hotplug callbacks.
    ///
    /// # Context
    ///
    /// May sleep. At module init.
    pub(crate) fn start(irq_works: &IrqWorksRun) -> Result<Running> {
        let wq = Arc::new(work::WorkQueue::new(c"rcu_ptr_reclaim")?, GFP_KERNEL)?;
        let refill_wq = Arc::new(work::WorkQueue::for_refills(c"rcu_ptr_refill")?, GFP_KERNEL)?;
        let krc = PerCpu::new(|cpu| Krcp::new(cpu, wq.clone(), refill_wq.clone()))?;
        for krcp in krc.iter() {
            krcp.current.store(Page::NONE, Relaxed);
        }
        let lockless = KBox::into_raw(KBox::new(
            Lockless {
                krc,
                vmalloc: VmallocArea::get(),
            },
            GFP_KERNEL,
        )?);
        // ORDERING: Nobody can look before module init has returned, or before the registrations
        // below, which order it themselves.
        INSTANCE.store(lockless, Relaxed);
        let mut running = Running {
            shrinker: None,
            hotplug: None,
        };
        // On an error the drop of `running` undoes what was done.
        running.hotplug = Some(Hotplug::register(c"rcu_ptr:krc", irq_works)?);
        running.shrinker = Some(Shrinker::register(c"rcu_ptr-krc")?);
        current_block::put_in_charge();
        Ok(running)
    }

    /// The running engine.
    #[inline]
    fn get() -> &'static Lockless {
        // SAFETY: Set by `start()` before anything that calls this is reachable: the exports are
        // resolved after module init, the callbacks registered after the store. Reset in the drop
        // of `Running`, when the users of the exports are gone and the callbacks unregistered.
        unsafe { &*INSTANCE.load(Relaxed) }
    }

    fn vmalloc_area() -> VmallocArea {
        Self::get().vmalloc
    }

    /// Whether `krcp` is that of the CPU this runs on.
    fn is_this_cpu(&self, krcp: &Krcp, on: &impl OnCpu) -> bool {
        ptr::eq(&*self.krc.this(on), krcp)
    }

    /// Makes a block of a page.
    fn begin_block(page: NonNull<u8>) -> u64 {
        let base = page.as_ptr().expose_provenance() as u64;
        // SAFETY: The caller gives the page away.
        unsafe { block::begin::<Page>(base, true) };
        debug::kmemleak_scan(base, mem::PAGE_SIZE);
        base
    }

    /// Gives the page of a block back.
    fn free_block(base: u64) {
        // SAFETY: The caller gives the block away, which nobody else knows any more.
        if cfg!(CONFIG_DEBUG_KMEMLEAK) && unsafe { block::is_scanned(base, false) } {
            debug::kmemleak_free(base);
        }
        if let Some(page) = NonNull::new(ptr::with_exposed_provenance_mut(base as usize)) {
            // SAFETY: As above; every block is a page of `alloc_page()` or `alloc_page_nolock()`.
            unsafe { mem::free_page(page) };
        }
    }

    /// Ends all work items and gives all blocks back. Nothing is queued any more, as the module has no
    /// users, and all that was queued is freed.
    fn stop(&self) {
        for krcp in self.krc.iter() {
            // In this order, as the monitor can queue the tick.
            krcp.monitor.shutdown_sync();
            krcp.tick.sync();
            krcp.refill.cancel_sync();
            krcp.flush_batches();
            // An empty block may be current still. The word is no longer used, whether the CPU is up
            // or not.
            {
                let irqs = IrqsOff::save();
                let unused = Unused {
                    _on: &irqs,
                    krcp: &krcp,
                };
                insert::close(&unused, false);
                batch::start(&krcp, &irqs);
            }
            krcp.flush_batches();
            batch::trim_spares(&krcp, 0);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shrinker = None;
        // While CPUs that go down still close their blocks.
        barrier::barrier(Lockless::get());
        self.hotplug = None;
        Lockless::get().stop();
        let lockless = INSTANCE.load(Relaxed);
        INSTANCE.store(ptr::null_mut(), Relaxed);
        // SAFETY: `start()` made it with `KBox::into_raw()`; `stop()` has ended all its work, and
        // nobody else can reach it any more.
        drop(unsafe { KBox::from_raw(lockless) });
    }
}

/// Takes `object` if this CPU's block has a slot: the common path, a few instructions.
///
/// # Context
///
/// Any, NMI included.
#[inline(always)]
pub(crate) fn insert(object: *mut u8, on: &PreemptOff) -> bool {
    insert::insert(&Word(on), object as u64)
}

/// Takes `object` when [`insert()`] found no slot. `false`: there is no block to be had.
///
/// # Context
///
/// Any, NMI included.
#[cold]
pub(crate) fn insert_slow(object: NonNull<u8>, on: &PreemptOff) -> bool {
    insert_word_slow(object.as_ptr() as u64, None, on)
}

/// Takes `word`, an object with or without its mark, when [`insert::insert()`] found no slot.
fn insert_word_slow(word: u64, fresh: Option<u64>, on: &PreemptOff) -> bool {
    let krcp = Lockless::get().krc.this(on);
    let this = This::new(on, &krcp);
    insert::insert_slow(&this, word, fresh)
}

/// Takes `object` when [`insert()`] found no slot: in another block, else linked through its
/// `field`.
///
/// # Context
///
/// Any, NMI included.
///
/// # Safety
///
/// As for [`Engine::queue()`].
#[cold]
pub(crate) unsafe fn insert_or_link(
    object: NonNull<u8>,
    field: NonNull<u8>,
    caller: usize,
    on: &PreemptOff,
) {
    if insert_slow(object, on) {
        return;
    }
    let krcp = Lockless::get().krc.this(on);
    // Before it is there: who takes the list takes the count after it.
    krcp.listed.add(1, Relaxed);
    // SAFETY: By the safety requirements of this function.
    if unsafe { krcp.list.push(object, field) } == Pushed::Twice {
        // The count is one too high until the list is freed: somebody may have taken it already.
        krcp.events.leaked.add(1, Relaxed);
        return debug::warn(Misuse::Double, object.as_ptr(), field.as_ptr(), caller);
    }
    krcp.events.list.add(1, Relaxed);
    monitor::wake(&krcp, on);
    if krcp.listed.load(Relaxed) >= Page::CAPACITY {
        monitor::collect(&krcp, on);
    }
}

fn channel(object: NonNull<u8>) -> u32 {
    if Lockless::vmalloc_area().contains(object.as_ptr()) {
        trace::CHANNEL_VMALLOC
    } else {
        trace::CHANNEL_SLAB
    }
}

/// Takes `word`, an object with or without its mark; traces it before it may be gone.
fn try_insert(object: NonNull<u8>, mark: u64, caller: usize) -> bool {
    let on = PreemptOff::new();
    let word = object.as_ptr() as u64 | mark;
    let taken = insert::insert(&Word(&on), word) || insert_word_slow(word, None, &on);
    if taken {
        // Its grace period can't be over: preemption is off.
        trace::queue(trace::ENGINE_LOCKLESS, channel(object), object, caller);
    }
    taken
}

/// # Safety
///
/// As for [`Engine::queue()`].
unsafe fn link(object: NonNull<u8>, field: NonNull<u8>, caller: usize) {
    trace::queue(trace::ENGINE_LOCKLESS, trace::CHANNEL_LIST, object, caller);
    let on = PreemptOff::new();
    // SAFETY: By the safety requirements of this function.
    unsafe { insert_or_link(object, field, caller, &on) };
}

impl Engine for Lockless {
    unsafe fn queue(object: NonNull<u8>, field: NonNull<u8>, caller: usize) {
        debug::kmemleak_ignore(object);
        let mark = if cfg!(CONFIG_DEBUG_OBJECTS_RCU_HEAD) {
            reclaim::MARKED
        } else {
            0
        };
        if !try_insert(object, mark, caller) {
            // The link has no room for the mark: reclaim finds out again.
            debug::unqueue(object.as_ptr());
            // SAFETY: By the safety requirements of this function.
            unsafe { link(object, field, caller) };
        }
    }

    unsafe fn queue_nolock(object: NonNull<u8>, field: NonNull<u8>, caller: usize) {
        if !try_insert(object, 0, caller) {
            // SAFETY: By the safety requirements of this function.
            unsafe { link(object, field, caller) };
        }
    }

    unsafe fn try_queue_nolock(object: NonNull<u8>, caller: usize) -> bool {
        try_insert(object, 0, caller)
    }

    unsafe fn queue_mightsleep(object: NonNull<u8>, caller: usize) {
        debug::kmemleak_ignore(object);
        let mark = if cfg!(CONFIG_DEBUG_OBJECTS_RCU_HEAD) {
            reclaim::MARKED
        } else {
            0
        };
        if try_insert(object, mark, caller) {
            return;
        }
        if let Some(page) = fault::alloc_page() {
            let fresh = Lockless::begin_block(page);
            let on = PreemptOff::new();
            if Lockless::get().krc.this(&on).online.load(Relaxed) {
                // Never refused: there is a block.
                insert_word_slow(object.as_ptr() as u64 | mark, Some(fresh), &on);
                trace::queue(trace::ENGINE_LOCKLESS, channel(object), object, caller);
                return;
            }
            // A thread of a CPU on its way down, which opens no block any more.
            drop(on);
            Lockless::free_block(fresh);
        }
        trace::queue(trace::ENGINE_LOCKLESS, trace::CHANNEL_SYNC, object, caller);
        gp::synchronize();
        debug::unqueue(object.as_ptr());
        // SAFETY: By the safety requirements of this function, and no reader can have it any more:
        // a grace period has passed since it became the caller's to free.
        unsafe { mem::kvfree(object.as_ptr()) };
        let on = PreemptOff::new();
        let krcp = Lockless::get().krc.this(&on);
        krcp.events.sync.add(1, Relaxed);
        krcp.events.freed.add(1, Relaxed);
    }

    fn barrier() {
        barrier::barrier(Self::get());
    }

    fn trim() {
        let limit = params::min_cached_objs();
        for krcp in Self::get().krc.iter() {
            batch::trim_spares(&krcp, limit);
            if limit == 0 {
                // Not even one that waits for objects.
                barrier::close_any(&krcp);
                batch::start(&krcp, &IrqsOff::save());
            }
        }
    }

    fn leaked() {
        let on = PreemptOff::new();
        let krcp = Self::get().krc.this(&on);
        krcp.events.leaked.add(1, Relaxed);
    }

    fn heed_interval() {
        for krcp in Self::get().krc.iter() {
            monitor::heed_interval(&krcp);
        }
    }

    /// The current word, the head of the closed blocks, the head of the list.
    fn word(cpu: i32, index: usize) -> usize {
        let krcp = Self::get().krc.of(cpu);
        match index {
            0 => ptr::from_ref(krcp.current).addr(),
            1 => krcp.closed.word(),
            2 => krcp.list.word(),
            _ => 0,
        }
    }

    fn gauges(cpu: i32) -> Gauges {
        Self::get().krc.of(cpu).gauges()
    }
}

impl Krcp {
    /// Objects in the current block.
    fn in_current(&self) -> usize {
        let word = self.current.load(Relaxed);
        if Page::base(word) == 0 {
            0
        } else {
            Page::filled(word)
        }
    }

    /// Objects that are closed or linked.
    fn waiting(&self) -> usize {
        self.closed_objects.load(Relaxed) + self.listed.load(Relaxed)
    }

    /// Objects that wait for no grace period yet.
    fn queued(&self) -> usize {
        self.in_current() + self.waiting()
    }

    fn gauges(&self) -> Gauges {
        let irqs = IrqsOff::save();
        let (mixed, list) = self.with(&irqs, |batches| batches.objects());
        let e = &self.events;
        let sorted = [e.slab.load(Relaxed), e.vmalloc.load(Relaxed)];
        Gauges {
            cpu: self.cpu,
            stats: Stats {
                queued: sorted,
                queued_mixed: (self.in_current() + self.closed_objects.load(Relaxed) + mixed)
                    as u64,
                queued_list: e.list.load(Relaxed),
                queued_sync: e.sync.load(Relaxed),
                freed: e.freed.load(Relaxed),
                freed_early: e.freed_early.load(Relaxed),
                leaked: e.leaked.load(Relaxed),
                batches: e.batches.load(Relaxed),
                batches_busy: e.batches_busy.load(Relaxed),
                refilled: e.refilled.load(Relaxed),
                backoffs: e.backoffs.load(Relaxed),
                shrunk: e.shrunk.load(Relaxed),
                ..Stats::default()
            },
            queued: self.queued(),
            in_batches: mixed + list,
            cached: self.spares.len(),
        }
    }
}
