// SPDX-License-Identifier: GPL-2.0

//! From a closed block to its allocators: the monitor closes and collects, batches wait for a grace
//! period, a worker frees them.
//!
//! The monitor is a pinned timer per CPU that collects closed blocks and, once per drain interval, closes
//! the current one; docs/lockless.md has the whole of it.
//!
//! ```text
//!            first block opened, first object linked: tick
//!   Idle ─────────────────────────────────────────────────> Armed ──┐ every jiffy while it finds some,
//!     ^                                                        │    │ then after twice as long each
//!     └── a whole drain interval without an object ────────────┘ <──┘ time, at last once per interval
//! ```
//!
//! An object is closed within the drain interval wherever it is: its block was opened after the monitor
//! last closed the current block, and an interval after that the monitor does so again.
//!
//! A batch is freed by its work item, after its grace period, or before that when this CPU polls it
//! and finds it over ([`PolledWork`]). Under the lock it is only decided what to do: no workqueue, no RCU and no
//! trace event is called there.
//!
//! With debugobjects what was registered when it was queued (which NMI can't do) has [`TRACKED`] set in its slot.
//! The others are registered here, all of a batch before the first is freed: one that was queued twice comes
//! up twice.

use super::{
    batches::{self, Batch, Fill, Start, N_BATCHES},
    block::{self, Blocks, Layout},
    insert::{self, Close},
    krcp::{Krcp, KrcpRef, Slow},
    refill, Lockless, Page,
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

/// With this number of uncollected objects the monitor is brought forward to the next jiffy. Where the tick
/// is stopped that costs an interrupt, hence several blocks' worth.
const FAST_OBJECTS: usize = 4 * Page::CAPACITY;

/// On PREEMPT_RT irq_works and timers run in threads, which a more urgent task keeps from running. With
/// this number of uncollected objects they are collected in hardirq.
const HARD_OBJECTS: usize = 2 * FAST_OBJECTS;

/// Set in `expires` of an armed monitor, so that one that expires at jiffy 0 does not look idle.
const ARMED: usize = 1 << (usize::BITS - 1);

/// Arms the monitor if it is idle, or armed for later than the current drain interval.
///
/// # Context
///
/// Any, NMI included, on this CPU.
#[inline]
pub(super) fn kick(krcp: &Krcp, on: &impl OnCpu) {
    let expires = krcp.expires.load(Relaxed);
    if expires == 0 || remaining(expires) > params::drain_jiffies() {
        krcp.kick_work.queue(on);
    }
}

/// A block is full, or a block's worth of objects is linked. With interrupts on it is collected here: no
/// lock is held that call_rcu() or a wakeup takes. Otherwise the monitor is armed, or brought forward if it
/// would come in more than a second.
///
/// # Context
///
/// As for [`kick()`].
#[inline]
pub(super) fn full_block(krcp: &Krcp, on: &impl OnCpu) {
    if context::may_lock() {
        start_batch(krcp, &IrqsOff::save());
        // The monitor, which would do so, may sleep for long.
        refill::start(krcp);
        return;
    }
    let waiting = krcp.waiting();
    if cfg!(CONFIG_PREEMPT_RT) && waiting >= HARD_OBJECTS {
        krcp.hard_kick_work.queue(on);
    }
    let expires = krcp.expires.load(Relaxed);
    let wait = if waiting < FAST_OBJECTS {
        params::second_jiffies()
    } else {
        1
    };
    let timer_slack = slack(krcp.period.load(Relaxed));
    if expires == 0 || remaining(expires) + timer_slack > wait {
        krcp.kick_work.queue(on);
    }
}

/// About how many jiffies the timer wheel may be late with a timer of `delay` jiffies: each of its levels takes delays from
/// 63 times its granularity, which is eight times that of the one below (`LVL_START()` in kernel/time/timer.c).
fn slack(delay: usize) -> usize {
    let level = ((delay / 63 * 8) | 1).ilog2() / 3;
    (1 << (3 * level)) - 1
}

/// Jiffies until `at`, of which [`ARMED`] is ignored; 0: it is over.
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
    let delay = period.min(remaining(krcp.drain_at.load(Relaxed))).max(1);
    krcp.period.store(period, Relaxed);
    let at = jiffies().wrapping_add(delay);
    // Before the timer is set: it can't run before interrupts are on.
    krcp.expires.store(at | ARMED, Relaxed);
    krcp.monitor.set(at, irqs);
}

/// The drain interval of the monitor: a jiffy less than the parameter, for the tick that may pass before
/// the irq_work runs.
fn interval() -> usize {
    params::drain_jiffies().saturating_sub(1).max(1)
}

/// Sets when the current block is closed next, if the monitor was idle or the drain interval has become
/// shorter.
fn schedule_close(krcp: &Krcp, idle: bool) {
    if idle || remaining(krcp.drain_at.load(Relaxed)) > interval() {
        krcp.drain_at
            .store(jiffies().wrapping_add(interval()), Relaxed);
    }
}

/// Applies a drain interval that was set just now: no queued object waits for longer.
///
/// # Context
///
/// Process context, interrupts on.
pub(super) fn update_drain_interval(krcp: &Krcp) {
    let is_late = |krcp: &Krcp, at: &Atomic<usize>| {
        krcp.expires.load(Relaxed) != 0 && remaining(at.load(Relaxed)) > interval()
    };
    if is_late(krcp, &krcp.drain_at) {
        // Only that CPU sets its timer. Where it is going down, its hotplug callback drains it.
        irq::call_on(krcp.common.cpu, krcp, |krcp, irqs| {
            schedule_close(krcp, false);
            // A timer that expires earlier is left alone: it closes the current block in time.
            if is_late(krcp, &krcp.expires) {
                arm(krcp, interval(), irqs);
            }
        });
    }
}

/// The irq_work of the next tick: collects, and arms the monitor.
pub(super) struct KickWork(pub(super) KrcpRef);

impl Handler for KickWork {
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
        refill::start(krcp);
        let busy = start_batch(krcp, &irqs) != Start::Nothing;
        schedule_close(krcp, krcp.expires.load(Relaxed) == 0);
        arm(krcp, if busy { 1 } else { interval() }, &irqs);
    }
}

/// The timer.
pub(super) struct MonitorTimer(pub(super) KrcpRef);

impl Handler for MonitorTimer {
    fn run(&self) {
        let krcp = &*self.0;
        let irqs = IrqsOff::save();
        if !Lockless::get().is_this_cpu(krcp, &irqs) {
            // The CPU has died, and its hotplug callback has drained it.
            return;
        }
        // An NMI from here on arms the monitor again; what an NMI queued before is seen below.
        krcp.expires.store(0, Relaxed);
        let mut came = false;
        schedule_close(krcp, false);
        let due = remaining(krcp.drain_at.load(Relaxed)) == 0;
        if due {
            let this = Slow::new(&irqs, krcp);
            // A block with objects is replaced by an empty one: more objects are likely, and the
            // monitor stays armed for them.
            came = insert::close(&this, true) != Close::Nothing;
            krcp.drain_at
                .store(jiffies().wrapping_add(interval()), Relaxed);
        }
        refill::start(krcp);
        came |= start_batch(krcp, &irqs) != Start::Nothing;
        if due && !came {
            // Neither a block nor a linked object: idle. (An NMI that opens a block now arms the
            // monitor.)
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

/// Closes the current block of a CPU, on that CPU, if there are objects in it. A CPU that is offline has
/// closed its block on the way down.
///
/// # Context
///
/// Process context, interrupts on.
pub(super) fn close_current(krcp: &Krcp) {
    // ORDERING: Before `slow` is read; pairs with `Slow`.
    let word = krcp.current.load(Acquire) as usize;
    if Page::base(word) != 0 && Page::filled(word) != 0 {
        close_there(krcp);
    }
}

/// As [`close_current()`], with an object or not.
pub(super) fn close_any(krcp: &Krcp) {
    if Page::base(krcp.current.load(Relaxed) as usize) != 0 {
        close_there(krcp);
    }
}

fn close_there(krcp: &Krcp) {
    if !irq::call_on(krcp.common.cpu, krcp, |krcp, irqs| {
        insert::close(&Slow::new(irqs, krcp), false);
    }) {
        // ORDERING: The CPU was seen offline, so what it did before is to be seen.
        gp::mb();
    }
}

/// Registers blocks that were allocated in NMI with kmemleak.
fn scan_current(krcp: &Krcp) {
    let base = Page::base(krcp.current.load(Relaxed) as usize);
    // SAFETY: Only irq_works get here, in hardirq or in the irq_work thread of a CPU, which is in an RCU
    // read-side critical section: a block that was current stays.
    if cfg!(CONFIG_DEBUG_KMEMLEAK) && base != 0 && !unsafe { block::is_scanned(base, true) } {
        debug::kmemleak_scan(base, Page::BLOCK);
    }
}

// Batches.

/// Closed blocks and linked objects.
pub(super) struct BatchObjects {
    blocks: Blocks<Page>,
    list: LinkChain,
    /// When the first object of the list came, in jiffies.
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

/// Objects that wait in batches, or for one: in blocks, and linked.
pub(super) fn counts(batches: &CpuBatches) -> (usize, usize) {
    batches.objects().fold((0, 0), |(mixed, list), objects| {
        (mixed + objects.counts.mixed, list + objects.counts.list)
    })
}

/// A CPU that is collected, with interrupts off.
struct CollectCtx<'a> {
    krcp: &'a Krcp,
    irqs: &'a IrqsOff,
}

impl batches::Collect for CollectCtx<'_> {
    type Objects = BatchObjects;
    type GracePeriod = Snapshot;

    fn with<R>(&self, f: impl FnOnce(&mut CpuBatches) -> R) -> R {
        self.krcp.with(self.irqs, f)
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
                    // Never refused: the place was free, so its work item is idle, or in the last steps of a
                    // run. And the place stays taken until this has run: with interrupts off here the grace
                    // period can't be over yet.
                    krcp.common.batch_works[index].queue(&krcp.common.queues.reclaim);
                }
            }
        }
    }
}

/// Makes a batch of what is closed and linked: [`batches::start()`], whose context it has.
pub(super) fn start_batch(krcp: &Krcp, irqs: &IrqsOff) -> Start {
    batches::start(&CollectCtx { krcp, irqs })
}

/// Has a worker free the batches whose grace period is over, in the context of [`start_batch()`].
pub(super) fn free_polled(krcp: &Krcp, irqs: &IrqsOff) {
    if krcp.with(irqs, |batches| batches.is_any_over()) {
        krcp.polled.queue(&krcp.common.queues.reclaim, 0);
    }
}

/// Frees batches whose grace period is over and whose callback has not run yet.
pub(super) struct PolledWork(pub(super) KrcpRef);

impl Handler for PolledWork {
    /// Each batch whose grace period is over now. One whose grace period ends meanwhile queues this again:
    /// a flush of this work waits for no later batch.
    fn run(&self) {
        let krcp = &*self.0;
        for index in 0..N_BATCHES {
            let irqs = IrqsOff::save();
            let taken = krcp.with(&irqs, |batches| batches.take_polled(index));
            drop(irqs);
            if let Some(batch) = taken {
                let freed = free(krcp, index, batch);
                krcp.counters.add(Counter::FreedPolled, freed as u64);
            }
        }
    }
}

/// Frees a batch whose grace period is over, and hands its callbacks over. Returns how many objects it had.
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
    let mut list = mark(krcp, &mut blocks, list);
    // Newest first, as blocks and lists are.
    let mut found = FoundCallbacks::new();
    while let Some(mut block) = blocks.pop() {
        let since = block.since();
        // SAFETY: The block was closed before the grace period of the batch started, which is over.
        let has_calls = unsafe { block.take_calls() };
        // SAFETY: As above.
        let mut objects = unsafe { block.objects() };
        if has_calls {
            let all = objects.len();
            // SAFETY: The grace period is over.
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
                // SAFETY: Objects of the list are live and owned by it (the contract of `queue()`); their
                // grace period is over, so no reader has them.
                gp::as_callback(|| unsafe { mem::kvfree(object.as_ptr()) });
            }
            Linked::Call(call) => {
                linked_calls += 1;
                // SAFETY: The grace period of the batch is over.
                unsafe { found.push(call) };
            }
        }
        gp::cond_resched();
    }
    delays::ENGINE.add(list_since, counts.list);
    // Last: their worker may take the CPU at once.
    krcp.common.calls.add(found);
    let freed = counts.mixed + counts.list;
    counts.list += linked_calls;
    trace::batch_end(krcp.common.cpu, Some(index), counts, batch.snap.number());
    freed
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
    krcp.counters.add(Counter::Shrunk, dropped as u64);
    dropped
}

// Back to the allocators, in workers.

const DEBUG_OBJECTS: bool = cfg!(CONFIG_DEBUG_OBJECTS_RCU_HEAD);

/// Registers the objects of a batch with debugobjects, unless that was done when they were queued. The slot
/// of an object that is queued elsewhere is cleared, and a list is cut there: its link is that of another
/// list by now.
fn mark(krcp: &Krcp, blocks: &mut Blocks<Page>, mut list: LinkChain) -> LinkChain {
    if !DEBUG_OBJECTS {
        return list;
    }
    blocks.for_each(|block| {
        // SAFETY: The grace period of the batch is over.
        for slot in unsafe { block.objects() } {
            let word = slot.addr();
            if word & TRACKED != 0 {
                *slot = slot.map_addr(|a| a & !TRACKED);
                continue;
            }
            let start = Call::from_word(word).map_or(*slot, |call| call.head().as_ptr());
            if !NonNull::new(start).is_none_or(debug::queue) {
                report_double(krcp, start, start);
                *slot = ptr::null_mut();
            }
        }
        gp::cond_resched();
    });
    let mut marked = LinkChain::new();
    while let Some(linked) = list.pop() {
        let is_tracked = matches!(linked, Linked::Call(call) if call.is_tracked());
        if !is_tracked && !debug::queue(linked.start()) {
            report_double(krcp, linked.start().as_ptr(), linked.link().as_ptr());
            break;
        }
        // SAFETY: The contract under which it was pushed.
        unsafe { marked.push(linked) };
    }
    // Newest first again.
    let mut list = LinkChain::new();
    while let Some(linked) = marked.pop() {
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

/// Frees the objects of a block. Their order changes.
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
            // of these is from vmalloc; their grace period is over, so no reader has them.
            unsafe { mem::kfree_bulk(slab) };
        }
        for &mut object in vmalloc {
            // SAFETY: As above, and from vmalloc.
            unsafe { mem::vfree(object) };
        }
    });
}

/// Slab objects to the front, vmalloc ones to the back.
#[inline]
fn sort(objects: &mut [*mut u8], area: VmallocArea) -> (&mut [*mut u8], &mut [*mut u8]) {
    // Most blocks have no vmalloc object, which the greatest address shows: three instructions an object.
    if area.is_above(objects) {
        return (objects, &mut []);
    }
    partition(objects, |object| area.contains(object))
}

/// Those of which `is_back` is true to the back.
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
