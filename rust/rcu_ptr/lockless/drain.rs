// SPDX-License-Identifier: GPL-2.0

//! From the closed block to the allocator: the monitor closes and collects blocks, batches wait for
//! a grace period, workers free them.
//!
//! The monitor is a pinned timer per CPU. It collects closed blocks and, once per drain interval,
//! closes the current one; see docs/lockless.md.
//!
//! ```text
//!         first block opened, first object linked: tick
//!   Idle ────────────────────────────────────────────> Armed ──┐ every jiffy while it collects,
//!     ^                                                  │     │ then after twice as long each
//!     └── a whole drain interval without an object ──────┘ <───┘ time, at last once per interval
//! ```
//!
//! Every block is closed within a drain interval: it was opened after the monitor last closed the
//! current block, and an interval after that the monitor closes the current block again.
//!
//! A batch is freed by its work item after a grace period, or before that by [`PolledWork`], when a
//! context that collects finds the grace period ended. Only decisions are made under the lock;
//! workqueues, RCU callbacks and trace events are used after it is dropped.
//!
//! With debugobjects, objects that were registered when they were queued (not possible in NMI) have
//! [`TRACKED`] set in their slots. The others are registered here, all of a batch before the first
//! one is freed, so that an object that is in it twice is detected.

use super::{
    batches::{self, Batch, Fill, Start, N_BATCHES},
    block::{self, Blocks, Layout},
    insert::{self, Close},
    krcp::{Krcp, KrcpRef, Slow},
    Lockless, Page,
};
use crate::{
    calls::FoundCallbacks,
    delays,
    entry::{split_calls, Call, TRACKED},
    list::{LinkChain, Linked, ListEnd},
    params,
    stats::Counter,
    sys::{
        context,
        debug::{self, Misuse},
        gp::{self, Snapshot},
        irq::{self, IrqsOff},
        mem::{self, VmallocArea},
        pinned_timer::jiffies,
        preempt::OnCpu,
        trace,
        work::Handler,
    },
};
use core::ptr::{self, NonNull};
use kernel::sync::atomic::{Acquire, Atomic, Relaxed};

/// Uncollected objects that make the monitor run at the next jiffy. Several blocks' worth, as that
/// costs an interrupt where the tick is stopped.
const FAST_OBJECTS: usize = 4 * Page::CAPACITY;

/// Uncollected objects that are collected in hardirq on PREEMPT_RT, where irq_works and timers run
/// in threads, which FIFO tasks can starve.
const HARD_OBJECTS: usize = 2 * FAST_OBJECTS;

/// Set in `expires` while the monitor is armed, so that jiffy 0 is not taken for idle.
const ARMED: usize = 1 << (usize::BITS - 1);

/// Arms the monitor, by an irq_work, if it is idle or armed for later than the current drain
/// interval.
///
/// # Context
///
/// Any, NMI included, on the CPU of `krcp`.
#[inline]
pub(super) fn arm_monitor(krcp: &Krcp, on: &impl OnCpu) {
    let expires = krcp.expires.load(Relaxed);
    if expires == 0 || remaining(expires) > params::drain_jiffies() {
        krcp.irq_work.queue(on);
    }
}

/// To be called when a block was closed, or a block's worth of objects is linked. Collects them if
/// interrupts are enabled, as no lock is held then that call_rcu() or a wakeup takes. Otherwise
/// the irq_work collects them at the next tick, unless the monitor is due within a second (within a
/// jiffy if [`FAST_OBJECTS`] wait). On PREEMPT_RT, from [`HARD_OBJECTS`] on, another irq_work
/// collects them in hardirq.
///
/// # Context
///
/// As for [`arm_monitor()`].
#[inline]
pub(super) fn collect_soon(krcp: &Krcp, on: &impl OnCpu) {
    if context::may_lock() {
        start_batch(krcp, &IrqsOff::save());
        // Otherwise the monitor starts it, possibly much later.
        krcp.start_refill();
        return;
    }
    let waiting = krcp.waiting();
    if cfg!(CONFIG_PREEMPT_RT) && waiting >= HARD_OBJECTS {
        krcp.hard_irq_work.queue(on);
    }
    let expires = krcp.expires.load(Relaxed);
    let wait = if waiting < FAST_OBJECTS {
        params::second_jiffies()
    } else {
        1
    };
    let timer_slack = slack(krcp.period.load(Relaxed));
    if expires == 0 || remaining(expires) + timer_slack > wait {
        krcp.irq_work.queue(on);
    }
}

/// By about how many jiffies the timer wheel may be late with a timer of `delay` jiffies. Each
/// level is for delays from 63 times its granularity, which is eight times that of the level below
/// (`LVL_START()` in kernel/time/timer.c).
fn slack(delay: usize) -> usize {
    let level = ((delay / 63 * 8) | 1).ilog2() / 3;
    (1 << (3 * level)) - 1
}

/// Jiffies until `at`, without [`ARMED`]; 0 if it has expired.
fn remaining(at: usize) -> usize {
    let left = at.wrapping_sub(jiffies()) & !ARMED;
    // Already expired: the difference has wrapped.
    if left > ARMED / 2 {
        0
    } else {
        left
    }
}

fn arm(krcp: &Krcp, period: usize, irqs: &IrqsOff) {
    set_timer(krcp, period, irqs);
    // ORDERING: Full; pairs with the exchange of the parameter: a setter that did not see this
    // timer has set the interval that is read here.
    gp::mb();
    if is_late(&krcp.drain_at) {
        shorten(krcp, irqs);
    }
}

/// Whether `at` is further away than the drain interval, which has become shorter.
fn is_late(at: &Atomic<usize>) -> bool {
    remaining(at.load(Relaxed)) > interval()
}

/// Applies a drain interval that has become shorter.
#[cold]
#[inline(never)]
fn shorten(krcp: &Krcp, irqs: &IrqsOff) {
    schedule_close(krcp, false);
    // A timer that expires earlier closes the current block in time.
    if is_late(&krcp.expires) {
        set_timer(krcp, interval(), irqs);
    }
}

fn set_timer(krcp: &Krcp, period: usize, irqs: &IrqsOff) {
    let delay = period.min(remaining(krcp.drain_at.load(Relaxed))).max(1);
    krcp.period.store(period, Relaxed);
    let at = jiffies().wrapping_add(delay);
    // Stored before the timer is set, which can't run before interrupts are enabled.
    krcp.expires.store(at | ARMED, Relaxed);
    krcp.monitor.set(at, irqs);
}

/// The drain interval of the monitor: a jiffy less than the parameter, for the tick before the
/// irq_work runs.
fn interval() -> usize {
    params::drain_jiffies().saturating_sub(1).max(1)
}

/// Sets the time at which the current block is closed next, if the monitor was `idle` or the drain
/// interval has become shorter.
fn schedule_close(krcp: &Krcp, idle: bool) {
    if idle || is_late(&krcp.drain_at) {
        krcp.drain_at
            .store(jiffies().wrapping_add(interval()), Relaxed);
    }
}

/// Applies a new drain interval to what is queued.
///
/// # Context
///
/// Process context, interrupts on.
pub(super) fn update_drain_interval(krcp: &Krcp) {
    let is_armed = |krcp: &Krcp| krcp.expires.load(Relaxed) != 0;
    if is_armed(krcp) && is_late(&krcp.drain_at) {
        // Only the CPU itself sets its timer. If it is going down its hotplug callback drains it.
        irq::call_on(krcp.common.cpu, krcp, |krcp, irqs| {
            if is_armed(krcp) {
                shorten(krcp, irqs);
            }
        });
    }
}

/// The irq_work: collects, and arms the monitor.
pub(super) struct CollectWork(pub(super) KrcpRef);

impl Handler for CollectWork {
    fn run(&self) {
        let krcp = &*self.0;
        // kmemleak allocates, which PREEMPT_RT does not allow in hardirq.
        if !cfg!(CONFIG_PREEMPT_RT) || context::may_lock() {
            scan_current(krcp);
        }
        let irqs = IrqsOff::save();
        if !Lockless::get().is_this_cpu(krcp, &irqs) {
            return;
        }
        krcp.start_refill();
        let busy = start_batch(krcp, &irqs) != Start::Nothing;
        schedule_close(krcp, krcp.expires.load(Relaxed) == 0);
        arm(krcp, if busy { 1 } else { interval() }, &irqs);
    }
}

/// The timer of the monitor.
pub(super) struct MonitorTimer(pub(super) KrcpRef);

impl Handler for MonitorTimer {
    fn run(&self) {
        let krcp = &*self.0;
        let irqs = IrqsOff::save();
        if !Lockless::get().is_this_cpu(krcp, &irqs) {
            // The CPU has died; its hotplug callback has drained it.
            return;
        }
        // Marked as idle first: an NMI after this arms the monitor again, objects of one before are
        // seen below.
        krcp.expires.store(0, Relaxed);
        let mut came = false;
        schedule_close(krcp, false);
        let due = remaining(krcp.drain_at.load(Relaxed)) == 0;
        if due {
            let this = Slow::new(&irqs, krcp);
            // A block with objects is replaced by an empty one, as more objects are likely, and the
            // monitor stays armed for them.
            came = insert::close(&this, true) != Close::Nothing;
            krcp.drain_at
                .store(jiffies().wrapping_add(interval()), Relaxed);
        }
        krcp.start_refill();
        came |= start_batch(krcp, &irqs) != Start::Nothing;
        if due && !came {
            // There was no object in an interval: stay idle. An NMI that opens a block arms the
            // monitor.
            return;
        }
        let period = if came && !due {
            1
        } else {
            (krcp.period.load(Relaxed).saturating_mul(2)).clamp(1, interval())
        };
        arm(krcp, period, &irqs);
    }
}

/// Closes the current block of a CPU, on that CPU, if it has objects. An offline CPU has closed its
/// block itself.
///
/// # Context
///
/// Process context, interrupts on.
pub(super) fn close_current(krcp: &Krcp) {
    // ORDERING: Acquire: before `slow` is read. Pairs with `Slow`.
    let word = krcp.current.load(Acquire) as usize;
    if Page::base(word) != 0 && Page::filled(word) != 0 {
        close_there(krcp);
    }
}

/// As [`close_current()`], whether there are objects or not.
pub(super) fn close_any(krcp: &Krcp) {
    if Page::base(krcp.current.load(Relaxed) as usize) != 0 {
        close_there(krcp);
    }
}

fn close_there(krcp: &Krcp) {
    if !irq::call_on(krcp.common.cpu, krcp, |krcp, irqs| {
        insert::close(&Slow::new(irqs, krcp), false);
    }) {
        // ORDERING: The CPU was seen offline: what it has stored before is visible after this.
        gp::mb();
    }
}

/// Registers the current block with kmemleak, if it came from `alloc_page_nolock()`.
fn scan_current(krcp: &Krcp) {
    let base = Page::base(krcp.current.load(Relaxed) as usize);
    // SAFETY: Called by irq_works only, in hardirq or in an irq_work thread, which are RCU
    // read-side critical sections: a block that was current is not freed.
    if cfg!(CONFIG_DEBUG_KMEMLEAK) && base != 0 && !unsafe { block::is_scanned(base, true) } {
        debug::kmemleak_scan(base, Page::BLOCK);
    }
}

// Batches.

/// The objects of a batch: closed blocks, and a list.
pub(super) struct BatchObjects {
    blocks: Blocks<Page>,
    list: LinkChain,
    /// When the first object of the list was linked, in jiffies.
    list_since: u32,
    counts: trace::Counts,
}

impl Default for BatchObjects {
    fn default() -> Self {
        Self {
            blocks: Blocks::new(),
            list: LinkChain::new(),
            list_since: 0,
            counts: trace::Counts::new(),
        }
    }
}

impl batches::Objects for BatchObjects {
    type Counts = trace::Counts;

    fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.list.is_empty()
    }

    fn has_list(&self) -> bool {
        !self.list.is_empty()
    }

    fn counts(&self) -> trace::Counts {
        self.counts
    }

    fn join(&mut self, newer: Self) {
        self.blocks.append(newer.blocks);
        if self.list.is_empty() {
            self.list = newer.list;
            self.list_since = newer.list_since;
        }
        self.counts.mixed += newer.counts.mixed;
        self.counts.list += newer.counts.list;
    }
}

impl batches::GracePeriod for Snapshot {
    #[inline]
    fn is_over(&self) -> bool {
        Snapshot::is_over(self)
    }

    #[inline]
    fn is_same(&self, other: &Self) -> bool {
        Snapshot::is_same(self, other)
    }
}

/// The batches of a CPU.
pub(super) type CpuBatches = batches::Batches<BatchObjects, Snapshot>;

/// The numbers of objects in batches and in the overflow: in blocks, and linked.
pub(super) fn counts(batches: &CpuBatches) -> (usize, usize) {
    batches.objects().fold((0, 0), |(mixed, list), objects| {
        (mixed + objects.counts.mixed, list + objects.counts.list)
    })
}

/// [`batches::Collect`] for `krcp`, with interrupts off.
struct CollectCtx<'a> {
    krcp: &'a Krcp,
    irqs: &'a IrqsOff,
}

impl batches::Collect for CollectCtx<'_> {
    type Objects = BatchObjects;
    type GracePeriod = Snapshot;

    fn with_locked<R>(&self, f: impl FnOnce(&mut CpuBatches) -> R) -> R {
        self.krcp.with_locked(self.irqs, f)
    }

    #[inline(always)]
    fn has_list(&self) -> bool {
        !self.krcp.list.is_empty()
    }

    #[inline(always)]
    fn collect(&self, objects: &mut BatchObjects) {
        let krcp = self.krcp;
        if !krcp.closed.is_empty() {
            let blocks = krcp.closed.take();
            let n = blocks.objects();
            krcp.closed_objects.add(0usize.wrapping_sub(n), Relaxed);
            objects.counts.mixed += n;
            objects.blocks.append(blocks);
        }
        if objects.list.is_empty() && !krcp.list.is_empty() {
            objects.list_since = krcp.list_since.load(Relaxed);
            objects.list = krcp.list.take();
            objects.counts.list = krcp.nr_listed.xchg(0, Relaxed);
        }
    }

    #[inline(always)]
    fn snapshot(&self) -> Snapshot {
        Snapshot::take()
    }

    fn queue_polled(&self) {
        self.krcp.polled.queue(&self.krcp.common.queues.reclaim, 0);
    }

    fn batch_filled(&self, fill: &Fill<trace::Counts, Snapshot>) {
        let krcp = self.krcp;
        match fill {
            Fill::Nothing => {}
            Fill::Busy(counts) => {
                krcp.counters.add(Counter::BatchesBusy, 1);
                let pending = counts.mixed + counts.list + krcp.waiting();
                trace::defer(krcp.common.cpu, trace::DEFER_BATCH, pending);
            }
            &Fill::Batch {
                index,
                new,
                counts,
                snap,
            } => {
                trace::batch_start(krcp.common.cpu, index, counts, snap.number());
                if new {
                    krcp.counters.add(Counter::Batches, 1);
                    // Always queued: the slot was free, so its work item is not pending, though
                    // it may be running. The slot can't be reused before this, as the grace period
                    // can't end while interrupts are off.
                    krcp.common.batch_works[index].queue(&krcp.common.queues.reclaim);
                }
            }
        }
    }
}

/// [`batches::start()`] for the kernel: makes a batch of the closed blocks and of the list.
pub(super) fn start_batch(krcp: &Krcp, irqs: &IrqsOff) -> Start {
    batches::start(&CollectCtx { krcp, irqs })
}

/// Queues the worker that frees the batches whose grace period has ended, in the context of
/// [`start_batch()`].
pub(super) fn free_polled(krcp: &Krcp, irqs: &IrqsOff) {
    if krcp.with_locked(irqs, |batches| batches.is_any_over()) {
        krcp.polled.queue(&krcp.common.queues.reclaim, 0);
    }
}

/// The worker that polls: frees batches whose grace period has ended and whose work item has not
/// run yet.
pub(super) struct PolledWork(pub(super) KrcpRef);

impl Handler for PolledWork {
    /// Polls each batch once, so that a flush waits for no later ones: if a grace period ends
    /// meanwhile, this is queued again.
    fn run(&self) {
        let krcp = &*self.0;
        for index in 0..N_BATCHES {
            let irqs = IrqsOff::save();
            let taken = krcp.with_locked(&irqs, |batches| batches.take_polled(index));
            drop(irqs);
            if let Some(batch) = taken {
                let freed = free(krcp, index, batch);
                krcp.counters.add(Counter::FreedPolled, freed as u64);
            }
        }
    }
}

/// Frees the objects of a batch whose grace period has ended, and queues its callbacks. Returns the
/// number of objects.
pub(super) fn free(krcp: &Krcp, index: usize, batch: Batch<BatchObjects, Snapshot>) -> usize {
    let mut counts = trace::Counts::new();
    let BatchObjects {
        mut blocks,
        mut list,
        list_since,
        counts: all,
    } = batch.objects;
    if !batch.snap.is_over() {
        debug::warn_early(ptr::null());
        let lost = all.mixed + all.list;
        krcp.counters.add(Counter::Leaked, lost as u64);
        return 0;
    }
    if let ListEnd::Cyclic(_) = list.check(usize::MAX, gp::cond_resched) {
        debug::warn_endless(all.list);
        krcp.counters.add(Counter::Leaked, all.list as u64);
        list = LinkChain::new();
    }
    let mut list = register(krcp, &mut blocks, list);
    // Newest first, as blocks and lists are.
    let mut found = FoundCallbacks::new();
    while let Some(mut block) = blocks.pop() {
        let since = block.since();
        // SAFETY: The block was closed before the grace period of the batch started, which has
        // ended.
        let has_calls = unsafe { block.take_call_mark() };
        // SAFETY: As above.
        let mut objects = unsafe { block.objects() };
        if has_calls {
            let all = objects.len();
            // SAFETY: The grace period has ended.
            objects = split_calls(objects, |call| unsafe { found.push(call) });
            counts.calls += all - objects.len();
        }
        counts.mixed += objects.len();
        delays::ENGINE.add(since, objects.len());
        free_objects(krcp, objects);
        krcp.put_spare(block.base(), Lockless::free_block);
        gp::cond_resched();
    }
    krcp.counters.add(Counter::QueuedCall, counts.calls as u64);
    let mut linked_calls = 0;
    while let Some(linked) = list.pop() {
        match linked {
            Linked::Object { object, .. } => {
                counts.list += 1;
                debug::unqueue(object.as_ptr());
                krcp.counters.add(Counter::Freed, 1);
                // SAFETY: Objects of the list are live and owned by it (the contract of `queue()`);
                // their grace period has ended, so no reader has them.
                gp::as_callback(|| unsafe { mem::kvfree(object.as_ptr()) });
            }
            Linked::Call(call) => {
                linked_calls += 1;
                // SAFETY: The grace period of the batch has ended.
                unsafe { found.push(call) };
            }
        }
        gp::cond_resched();
    }
    delays::ENGINE.add(list_since, counts.list);
    // Last, as their worker may preempt this one at once.
    krcp.common.calls.add(found);
    let freed = counts.mixed + counts.list;
    counts.list += linked_calls;
    trace::batch_end(krcp.common.cpu, Some(index), counts, batch.snap.number());
    freed
}

/// Frees the spare blocks of a CPU beyond `limit`. Returns how many.
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
    krcp.counters.add(Counter::Shrunk, dropped as u64);
    dropped
}

// Freeing, in workers.

const DEBUG_OBJECTS: bool = cfg!(CONFIG_DEBUG_OBJECTS_RCU_HEAD);

/// Registers the objects of a batch with debugobjects, unless that was done when they were queued.
/// If an object is queued elsewhere as well, its slot is cleared; a list ends before it, as its
/// link belongs to another list.
fn register(krcp: &Krcp, blocks: &mut Blocks<Page>, mut list: LinkChain) -> LinkChain {
    if !DEBUG_OBJECTS {
        return list;
    }
    blocks.for_each(|block| {
        // SAFETY: The grace period of the batch has ended.
        for slot in unsafe { block.objects() } {
            let word = slot.addr();
            if word & TRACKED != 0 {
                *slot = slot.map_addr(|a| a & !TRACKED);
                continue;
            }
            let start = Call::from_entry(word).map_or(*slot, |call| call.head().as_ptr());
            if !NonNull::new(start).is_none_or(debug::queue) {
                report_double(krcp, start, start);
                *slot = ptr::null_mut();
            }
        }
        gp::cond_resched();
    });
    let mut registered = LinkChain::new();
    while let Some(linked) = list.pop() {
        let is_tracked = matches!(linked, Linked::Call(call) if call.is_tracked());
        if !is_tracked && !debug::queue(linked.start()) {
            report_double(krcp, linked.start().as_ptr(), linked.link().as_ptr());
            break;
        }
        // SAFETY: The contract under which it was pushed.
        unsafe { registered.push(linked) };
    }
    // Back to the order of the list.
    let mut list = LinkChain::new();
    while let Some(linked) = registered.pop() {
        // SAFETY: As above.
        unsafe { list.push(linked) };
    }
    list
}

#[cold]
fn report_double(krcp: &Krcp, object: *mut u8, field: *mut u8) {
    debug::warn(Misuse::Double, object, field, 0);
    krcp.counters.add(Counter::Leaked, 1);
}

/// Frees the objects of a block, in any order.
fn free_objects(krcp: &Krcp, mut objects: &mut [*mut u8]) {
    if DEBUG_OBJECTS {
        (objects, _) = partition(objects, <*mut u8>::is_null);
        for &mut object in &mut *objects {
            debug::unqueue(object);
        }
    }
    let (slab, vmalloc) = sort(objects, Lockless::vmalloc_area());
    let (nr_slab, nr_vmalloc) = (slab.len() as u64, vmalloc.len() as u64);
    krcp.counters.add(Counter::QueuedSlab, nr_slab);
    krcp.counters.add(Counter::QueuedVmalloc, nr_vmalloc);
    krcp.counters.add(Counter::Freed, nr_slab + nr_vmalloc);
    gp::as_callback(|| {
        if !slab.is_empty() {
            // SAFETY: Objects of a block are live and owned by it (the contract of `queue()`), none
            // of these is from vmalloc; their grace period has ended, so no reader has them.
            unsafe { mem::kfree_bulk(slab) };
        }
        for &mut object in vmalloc {
            // SAFETY: As above, and from vmalloc.
            unsafe { mem::vfree(object) };
        }
    });
}

/// Sorts slab objects to the front, vmalloc ones to the back.
#[inline]
fn sort(objects: &mut [*mut u8], area: VmallocArea) -> (&mut [*mut u8], &mut [*mut u8]) {
    // Most blocks have no vmalloc object, as a comparison with the highest address shows: three
    // instructions per object.
    if area.is_above(objects) {
        return (objects, &mut []);
    }
    partition(objects, |object| area.contains(object))
}

/// Moves those for which `is_back` is true to the back.
#[inline]
fn partition(
    objects: &mut [*mut u8],
    is_back: impl Fn(*mut u8) -> bool,
) -> (&mut [*mut u8], &mut [*mut u8]) {
    let mut end = objects.len();
    let mut i = 0;
    while i < end {
        if is_back(objects[i]) {
            end -= 1;
            objects.swap(i, end);
        } else {
            i += 1;
        }
    }
    objects.split_at_mut(end)
}
