// SPDX-License-Identifier: GPL-2.0

//! Engine `lockless`: objects are queued without a lock, in NMI as everywhere else. Each CPU has a
//! block, and any context reserves a slot of it by one addition to a word of that CPU;
//! docs/lockless.md explains why that is enough.
//!
//! | file | what |
//! |---|---|
//! | block.rs, insert.rs | blocks, and how objects get slots of them, in any context |
//! | batches.rs, barrier.rs | batches, and the choice of the grace period; `rcu_ptr_barrier()` |
//! | krcp.rs | the per-CPU state, refills of spare blocks, CPU hotplug |
//! | drain.rs | the monitor, and freeing |
//!
//! The files of the first two rows have no kernel dependencies: the host tests compile them.

mod barrier;
mod batches;
mod block;
mod drain;
mod insert;
mod krcp;

use crate::{
    calls,
    engine::Engine,
    entry::{Call, TRACKED},
    fault,
    instance::{single, Service},
    krcp::{self as common, KrcShrinker},
    list::{Linked, Pushed},
    params,
    stats::Counter,
    sys::{
        debug::{self, Misuse},
        gp::{self, Snapshot},
        irq::IrqsOff,
        mem::{self, VmallocArea},
        percpu::PerCpu,
        pinned_timer::jiffies,
        preempt::{OnCpu, PreemptOff},
        slab, trace,
        work::WorkQueues,
    },
};
use barrier::LocklessBarrier;
use batches::Start;
use block::Layout;
use core::ptr::{self, NonNull};
pub(crate) use insert::Kind;
use kernel::{
    prelude::*,
    sync::atomic::{Acquire, Relaxed},
};
use krcp::{CurrentWord, Krcp, LocklessHotplug, Slow};

/// Blocks are pages; a page of 4 KiB has 480 slots.
pub(crate) struct Page;

impl Layout for Page {
    const BLOCK: usize = mem::PAGE_SIZE;
    const HEADER: usize = 256;
}

/// The engine.
#[pin_data]
pub(crate) struct Lockless {
    krc: PerCpu<Krcp>,
    vmalloc: VmallocArea,
}

single!(Lockless);

impl Service for Lockless {
    type Shrinker = KrcShrinker<Self>;
    const SHRINKER: &'static CStr = common::SHRINKER;
    type Hotplug = LocklessHotplug;
    const HOTPLUG: &'static CStr = common::HOTPLUG;

    /// CPUs that go down meanwhile close their blocks in the hotplug callback.
    fn drain(&self) {
        barrier::barrier(self);
    }

    fn stop(&self) {
        for krcp in self.krc.iter() {
            // In this order, as the monitor can queue the irq_work.
            krcp.monitor.shutdown_sync();
            krcp.irq_work.sync();
            krcp.hard_irq_work.sync();
            krcp.common.refill.cancel_sync();
            barrier::wait_for_all(&*krcp);
            // Again: a batch may have been made of the overflow meanwhile.
            barrier::wait_for_all(&*krcp);
            krcp.common.calls.wait();
            drain::trim_spares(&krcp, 0);
            // No CPU uses its word any more. After the barrier there is an empty block at most.
            Self::free_block(Page::base(
                krcp.current.xchg(Page::NONE as u64, Relaxed) as usize
            ));
        }
    }
}

impl Lockless {
    /// The engine, idle. May sleep; at module init.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            krc: {
                let queues = WorkQueues::new()?;
                let krc = PerCpu::new(|cpu| Krcp::new(cpu, queues.clone()))?;
                for krcp in krc.iter() {
                    krcp.current.store(Page::NONE as u64, Relaxed);
                }
                krc
            },
            vmalloc: VmallocArea::get(),
        })
    }

    fn vmalloc_area() -> VmallocArea {
        Self::get().vmalloc
    }

    /// Whether `krcp` is the one of this CPU.
    fn is_this_cpu(&self, krcp: &Krcp, on: &impl OnCpu) -> bool {
        ptr::eq(&*self.krc.this(on), krcp)
    }

    /// Makes a block of a page that the caller gives away.
    fn begin_block(page: NonNull<u8>) -> usize {
        let base = page.as_ptr().expose_provenance();
        // SAFETY: The caller gives the page away.
        unsafe { block::begin::<Page>(base, true) };
        // For a block that is opened at once; a spare block is stamped again.
        // SAFETY: Begun above, and owned.
        unsafe { block::stamp(base, jiffies() as u32) };
        debug::kmemleak_scan(base, mem::PAGE_SIZE);
        base
    }

    /// Frees the page of a block, if `base` is not 0.
    fn free_block(base: usize) {
        let Some(page) = NonNull::new(ptr::with_exposed_provenance_mut(base)) else {
            return;
        };
        // SAFETY: The caller gives the block away, and nothing else refers to it.
        if cfg!(CONFIG_DEBUG_KMEMLEAK) && unsafe { block::is_scanned(base, false) } {
            debug::kmemleak_free(base);
        }
        // SAFETY: As above; every block is a page of `alloc_page()` or `alloc_page_nolock()`.
        unsafe { mem::free_page(page) };
    }
}

// Insertion, in any context.

/// Stores `word` in this CPU's current block, in a few instructions. Returns `false` if that has no
/// free slot: then [`store_in_next()`] or [`store_or_link()`] has to follow before preemption is
/// enabled.
#[inline(always)]
pub(crate) fn store_in_current(word: usize, kind: Kind, on: &PreemptOff) -> bool {
    insert::insert(&CurrentWord::new(on), word, kind)
}

/// Stores `word` after [`store_in_current()`] has failed: in `fresh`, or in a block that this
/// opens. Returns `false` if there is none.
pub(crate) fn store_in_next(word: usize, fresh: Option<usize>, on: &PreemptOff) -> bool {
    let krcp = Lockless::get().krc.this(on);
    let cpu = Slow::new(on, &krcp);
    insert::insert_slow(&cpu, word, fresh)
}

/// Stores `linked` after [`store_in_current()`] has failed: in another block, or else on the list,
/// linked through its field or its head.
///
/// # Safety
///
/// As for [`Engine::queue()`] and [`Engine::call()`].
#[cold]
pub(crate) unsafe fn store_or_link(linked: Linked, caller: usize, on: &PreemptOff) {
    if store_in_next(linked.entry().as_ptr().expose_provenance(), None, on) {
        return;
    }
    let krcp = Lockless::get().krc.this(on);
    // Counted before it is pushed: `collect()` of drain.rs removes the list and then reads the
    // count, which must not be too low.
    if krcp.nr_listed.fetch_add(1, Relaxed) == 0 {
        krcp.list_since.store(jiffies() as u32, Relaxed);
    }
    // SAFETY: By the safety requirements of this function.
    if unsafe { krcp.list.push(linked) } == Pushed::Twice {
        // `nr_listed` stays too high by one until the list is collected, which may have reset it
        // already.
        krcp.counters.add(Counter::Leaked, 1);
        let (start, link) = (linked.start(), linked.link());
        return debug::warn(Misuse::Double, start.as_ptr(), link.as_ptr(), caller);
    }
    krcp.counters.add(linked.counter(), 1);
    drain::arm_monitor(&krcp, on);
    if krcp.nr_listed.load(Relaxed) >= Page::CAPACITY {
        drain::collect_soon(&krcp, on);
    }
}

fn channel(object: NonNull<u8>) -> u32 {
    if Lockless::vmalloc_area().contains(object.as_ptr()) {
        trace::CHANNEL_VMALLOC
    } else {
        trace::CHANNEL_SLAB
    }
}

/// Stores `object` with the tag `mark` in a block, and traces it. Returns `false` if there is no
/// block.
fn store_traced(object: NonNull<u8>, mark: usize, caller: usize) -> bool {
    let on = PreemptOff::new();
    let word = object.as_ptr().expose_provenance() | mark;
    let stored = store_in_current(word, Kind::Free, &on) || store_in_next(word, None, &on);
    if stored {
        // It is still there: its grace period can't end while preemption is off.
        trace::queue(trace::ENGINE_LOCKLESS, channel(object), object, caller);
    }
    stored
}

/// The tag of an object that was registered with debugobjects when it was queued.
const TRACKED_TAG: usize = if cfg!(CONFIG_DEBUG_OBJECTS_RCU_HEAD) {
    TRACKED
} else {
    0
};

/// Traces `object`, for which there was no block just now, and then queues it by
/// [`store_or_link()`].
///
/// # Safety
///
/// As for [`Engine::queue()`].
unsafe fn link_traced(object: NonNull<u8>, field: NonNull<u8>, caller: usize) {
    trace::queue(trace::ENGINE_LOCKLESS, trace::CHANNEL_LIST, object, caller);
    let on = PreemptOff::new();
    // SAFETY: By the safety requirements of this function.
    unsafe { store_or_link(Linked::Object { object, field }, caller, &on) };
}

impl LocklessBarrier for Lockless {
    type Cpu = Krcp;

    fn each(&self, mut f: impl FnMut(&Krcp)) {
        self.krc.iter().for_each(|krcp| f(&krcp));
    }

    fn close_current(&self, krcp: &Krcp) {
        drain::close_current(krcp);
    }

    fn is_slow(&self, krcp: &Krcp) -> bool {
        // ORDERING: Acquire: before the batch is made. Pairs with `Slow`.
        krcp.slow.load(Acquire) != 0
    }

    fn start(&self, krcp: &Krcp) -> (Start, bool) {
        let irqs = IrqsOff::save();
        let started = drain::start_batch(krcp, &irqs);
        let is_any_waiting = krcp.with_locked(&irqs, |batches| batches.is_any_waiting());
        (started, is_any_waiting)
    }

    fn grace_period(&self) {
        Snapshot::take().wait();
    }

    fn free_polled(&self, krcp: &Krcp) {
        drain::free_polled(krcp, &IrqsOff::save());
    }
}

impl Engine for Lockless {
    type Krcp = Krcp;

    fn krc() -> &'static PerCpu<Krcp> {
        &Self::get().krc
    }

    unsafe fn queue(object: NonNull<u8>, field: NonNull<u8>, caller: usize) {
        debug::kmemleak_ignore(object);
        if !store_traced(object, TRACKED_TAG, caller) {
            // The link has no bit for [`TRACKED`], so the object is unregistered here and reclaim
            // registers it again.
            debug::unqueue(object.as_ptr());
            // SAFETY: By the safety requirements of this function.
            unsafe { link_traced(object, field, caller) };
        }
    }

    unsafe fn queue_nolock(object: NonNull<u8>, field: NonNull<u8>, caller: usize) {
        if !store_traced(object, 0, caller) {
            // SAFETY: By the safety requirements of this function.
            unsafe { link_traced(object, field, caller) };
        }
    }

    unsafe fn call(call: Call, caller: usize) {
        let on = PreemptOff::new();
        let stored = store_in_current(call.entry(), Kind::Call, &on)
            || store_in_next(call.entry(), None, &on);
        let channel = if stored {
            trace::CHANNEL_CALL
        } else {
            trace::CHANNEL_LIST
        };
        // The head is still there, as above.
        calls::trace(trace::ENGINE_LOCKLESS, channel, call, caller);
        if !stored {
            // SAFETY: By the safety requirements of this function.
            unsafe { store_or_link(Linked::Call(call), caller, &on) };
        }
    }

    unsafe fn try_queue_nolock(object: NonNull<u8>, caller: usize) -> bool {
        store_traced(object, 0, caller)
    }

    unsafe fn queue_mightsleep(object: NonNull<u8>, caller: usize) {
        debug::kmemleak_ignore(object);
        if store_traced(object, TRACKED_TAG, caller) {
            return;
        }
        if let Some(page) = fault::alloc_page(slab::GFP_TASK) {
            let fresh = Lockless::begin_block(page);
            let on = PreemptOff::new();
            if Lockless::get().krc.this(&on).online.load(Relaxed) {
                // Always stored: there is a block.
                store_in_next(
                    object.as_ptr().expose_provenance() | TRACKED_TAG,
                    Some(fresh),
                    &on,
                );
                trace::queue(trace::ENGINE_LOCKLESS, channel(object), object, caller);
                return;
            }
            // This CPU is going down and opens no more blocks.
            drop(on);
            Lockless::free_block(fresh);
        }
        trace::queue(trace::ENGINE_LOCKLESS, trace::CHANNEL_SYNC, object, caller);
        gp::synchronize();
        debug::unqueue(object.as_ptr());
        // SAFETY: By the safety requirements of this function; no reader has the object any more,
        // as a grace period has passed since the call.
        unsafe { mem::kvfree(object.as_ptr()) };
        let on = PreemptOff::new();
        let krcp = Lockless::get().krc.this(&on);
        krcp.counters.add(Counter::QueuedSync, 1);
        krcp.counters.add(Counter::Freed, 1);
    }

    fn barrier() {
        barrier::barrier(Self::get());
    }

    fn trim() {
        let limit = params::min_cached_objs();
        for krcp in Self::get().krc.iter() {
            drain::trim_spares(&krcp, limit);
            if limit == 0 {
                // Nor may there be a current block.
                drain::close_any(&krcp);
                drain::start_batch(&krcp, &IrqsOff::save());
            }
        }
    }

    fn count_leaked() {
        let on = PreemptOff::new();
        let krcp = Self::get().krc.this(&on);
        krcp.counters.add(Counter::Leaked, 1);
    }

    fn update_drain_interval() {
        for krcp in Self::get().krc.iter() {
            drain::update_drain_interval(&krcp);
        }
    }

    /// The current word, the head of the closed blocks, the head of the list.
    fn watch_address(cpu: i32, index: usize) -> usize {
        let krcp = Self::get().krc.of(cpu);
        match index {
            0 => ptr::from_ref(krcp.current).addr(),
            1 => krcp.closed.head_address(),
            2 => krcp.list.head_address(),
            _ => 0,
        }
    }
}
