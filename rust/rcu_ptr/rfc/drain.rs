// SPDX-License-Identifier: GPL-2.0

//! The monitor drains queued objects `drain_interval_msec` after the first one, or within two ticks
//! of a block's worth (`kfree_rcu_monitor()`). Batches wait for a grace period and are freed in a
//! worker (`kfree_rcu_work()`).
//!
//! # Context
//!
//! Functions that free may sleep, and allocate nothing, as memory reclaim calls them.

use super::{
    arm::{self, Arming, Monitor, Timed},
    bnode::Bnode,
    counts,
    krcp::{Krcp, KrcpRef},
    state::{BatchFill, Channel, ObjectSet, State, BARRIER_BATCH, CHANNELS},
    Rcu,
};
use crate::{
    calls::FoundCallbacks,
    delays,
    entry::Call,
    list::{Linked, ObjectList, RESCHED_EVERY},
    params,
    stats::Counter,
    sys::{
        debug,
        gp::{self, Snapshot},
        irq::IrqsOff,
        mem::{self, VmallocArea},
        pinned_timer::jiffies,
        slab, trace,
        work::Handler,
    },
};
use core::{iter, ptr};

impl Timed for Krcp {
    fn with_locked<R>(&self, f: impl FnOnce(&mut Arming, Monitor) -> R) -> R {
        self.with_locked(|state| {
            let wanted = state.wanted_monitor();
            f(&mut state.arming, wanted)
        })
    }

    fn now(&self) -> usize {
        jiffies()
    }

    fn interval(&self) -> usize {
        params::drain_jiffies()
    }

    fn set(&self, delay: usize) {
        self.monitor.modify(&self.common.queues.reclaim, delay);
    }

    fn cancel(&self) {
        self.monitor.cancel_sync();
    }
}

/// Calls [`arm::arm()`] with interrupts off.
pub(super) fn arm(krcp: &Krcp, fast_delay: usize) {
    let _irqs = IrqsOff::save();
    arm::arm(krcp, fast_delay);
}

/// Frees the objects whose grace period has ended, makes a batch of the others and, if both batches
/// are busy, arms the monitor: for the next jiffy if there is a block's worth. Returns the number
/// of freed objects.
pub(super) fn run(krcp: &Krcp) -> usize {
    let mut freed = 0;
    loop {
        // Held while removed objects are in no batch: see `barrier()`.
        let _reclaim = krcp.reclaim.lock();
        let ready = krcp.with_locked(State::take_ready);
        if ready.is_empty() {
            break;
        }
        freed += free_objects(krcp, ready, None);
    }
    start_batch(krcp);
    arm(krcp, 1);
    freed
}

/// The work item of the monitor.
pub(super) struct MonitorWork(pub(super) KrcpRef);

impl Handler for MonitorWork {
    fn run(&self) {
        // Objects that are queued after this arm it again.
        self.0.with_locked(|state| state.arming.monitor_runs());
        run(&self.0);
    }
}

// Batches.

/// Makes a batch of the queued objects, which waits for a grace period
/// (`kvfree_rcu_queue_batch()`).
fn start_batch(krcp: &Krcp) {
    let (fill, n, gp, waiting) = krcp.with_locked(|state| {
        let fill = state.fill_batch();
        let (n, gp) = match fill {
            BatchFill::Batch(i) => batch_info(state, i),
            _ => Default::default(),
        };
        (fill, n, gp, state.queued.len())
    });
    match fill {
        BatchFill::Batch(i) => {
            trace::batch_start(krcp.common.cpu, i, n, gp);
            // Does nothing if the work item still waits for a batch that a barrier has freed since:
            // when it runs it takes the new one.
            krcp.common.batch_works[i].queue(&krcp.common.queues.reclaim);
        }
        BatchFill::Busy => trace::defer(krcp.common.cpu, trace::DEFER_BATCH, waiting),
        BatchFill::Nothing => {}
    }
}

/// The counts and the grace period of batch `i`, for tracepoints.
fn batch_info(state: &State<Rcu>, i: usize) -> (trace::Counts, usize) {
    let (objects, snap) = state.batch(i);
    (counts(objects), snap.map_or(0, |snap| snap.number()))
}

/// Makes a batch of the queued objects, for a barrier that waits for the grace period itself.
/// Returns whether any batch is waiting. The barriers' mutex is held.
pub(super) fn start_for_barrier(krcp: &Krcp) -> bool {
    let (filled, n, gp, waiting) = krcp.with_locked(|state| {
        let filled = state.fill_barrier_batch();
        let (n, gp) = batch_info(state, BARRIER_BATCH);
        (filled, n, gp, state.is_waiting())
    });
    if filled {
        trace::batch_start(krcp.common.cpu, BARRIER_BATCH, n, gp);
    }
    waiting
}

/// Frees the batches whose grace period has ended, whether their RCU callbacks have run or not. The
/// barriers' mutex is held.
pub(super) fn free_expired_batches(krcp: &Krcp) {
    for i in 0..=BARRIER_BATCH {
        match krcp.with_locked(|state| state.take_batch(i)) {
            Some(objects) if !objects.is_empty() => {
                free_objects(krcp, objects, Some(i));
            }
            _ => {}
        }
    }
}

/// Frees `objects`, whose grace periods have ended, queues the callbacks among them to their
/// workers, and emits the trace event. Returns the number of freed objects.
pub(super) fn free_objects(
    krcp: &Krcp,
    mut objects: ObjectSet<Rcu>,
    batch: Option<usize>,
) -> usize {
    let n = counts(&objects);
    let (mut gp, mut freed, mut calls) = (0, 0, FoundCallbacks::new());
    for channel in CHANNELS {
        while let Some(bnode) = objects.bnodes[channel as usize].pop() {
            gp = gp.max(bnode.snap().number());
            freed += free_bnode(krcp, bnode, channel, &mut calls);
        }
    }
    if let Some(snap) = objects.list_snap {
        gp = gp.max(snap.number());
        freed += free_list(krcp, objects.list, snap, objects.list_since, &mut calls);
    }
    // Last, as their worker may preempt this one at once.
    krcp.common.calls.add(calls);
    if batch.is_none() {
        krcp.with_locked(|state| state.stats[Counter::FreedPolled] += freed as u64);
    }
    trace::batch_end(krcp.common.cpu, batch, n, gp);
    freed
}

fn account(krcp: &Krcp, freed: usize) -> usize {
    krcp.with_locked(|state| state.stats[Counter::Freed] += freed as u64);
    freed
}

/// Reports and counts objects that are leaked, as their grace period has not ended.
#[cold]
fn leak(krcp: &Krcp, objects: usize, what: *const u8) {
    debug::warn_early(what);
    krcp.with_locked(|state| state.stats[Counter::Leaked] += objects as u64);
}

fn free_bnode(
    krcp: &Krcp,
    mut bnode: Bnode<Rcu>,
    channel: Channel,
    calls: &mut FoundCallbacks,
) -> usize {
    if !bnode.is_ready() {
        leak(krcp, bnode.len(), bnode.into_page().as_ptr());
        return 0;
    }
    let since = bnode.since();
    let objects = bnode.objects();
    if channel == Channel::Call {
        take_calls(objects, calls);
        krcp.put_block(bnode);
        gp::cond_resched();
        return 0;
    }
    let freed = objects.len();
    delays::ENGINE.add(since, freed);
    for &mut object in &mut *objects {
        debug::unqueue(object);
    }
    gp::as_callback(|| match channel {
        Channel::Call => {}
        // SAFETY: Objects of a block are live and owned by it (the contract of `queue()`), slab or
        // large kmalloc ones in this channel; their grace period has ended, so no reader has them.
        Channel::Slab => unsafe { mem::kfree_bulk(objects) },
        Channel::Vmalloc => {
            for &mut object in objects {
                // SAFETY: As above, and vmalloc objects in this channel.
                unsafe { mem::vfree(object) };
            }
        }
    });
    krcp.put_block(bnode);
    gp::cond_resched();
    account(krcp, freed)
}

/// Adds the callbacks of a block, whose grace period has ended, to `calls`.
fn take_calls(words: &[*mut u8], calls: &mut FoundCallbacks) {
    let mut found = FoundCallbacks::new();
    // Newest first, as `push()` adds in front.
    for call in words
        .iter()
        .rev()
        .filter_map(|word| Call::from_entry(word.addr()))
    {
        // SAFETY: The caller has checked that the grace period has ended.
        unsafe { found.push(call) };
    }
    calls.append(found);
}

fn free_list(
    krcp: &Krcp,
    mut list: ObjectList,
    snap: Snapshot,
    since: u32,
    calls: &mut FoundCallbacks,
) -> usize {
    if !snap.is_over() {
        leak(krcp, list.len(), ptr::null());
        return 0;
    }
    // A broken list may lead to objects of other lists: all of it is leaked.
    if !list.is_sound(gp::cond_resched) {
        debug::warn_endless(list.len());
        krcp.with_locked(|state| state.stats[Counter::Leaked] += list.len() as u64);
        return 0;
    }
    // What is freed one by one: all of it if the slab checks objects. kfree_bulk() writes to them
    // before the slab checks them: one that was freed before would corrupt others.
    let singly = if slab::checks().objects {
        VmallocArea::ALL
    } else {
        VmallocArea::get()
    };
    let mut freed = 0;
    let mut found = FoundCallbacks::new();
    let mut bulk = [ptr::null_mut(); RESCHED_EVERY];
    while !list.is_empty() {
        gp::as_callback(|| {
            let mut n = 0;
            for linked in iter::from_fn(|| list.pop()).take(RESCHED_EVERY) {
                match linked {
                    Linked::Object { object, .. } => {
                        let object = object.as_ptr();
                        freed += 1;
                        debug::unqueue(object);
                        if singly.contains(object) {
                            // SAFETY: Objects of the list are live and owned by it (the contract of
                            // `queue()`), and kvfree() accepts them; their grace period has ended,
                            // so no reader has them. `pop()` has read the link.
                            unsafe { mem::kvfree(object) };
                        } else {
                            bulk[n] = object;
                            n += 1;
                        }
                    }
                    // SAFETY: The grace period has ended.
                    Linked::Call(call) => unsafe { found.push(call) },
                }
            }
            if n > 0 {
                // SAFETY: As above, and none is from vmalloc.
                unsafe { mem::kfree_bulk(&mut bulk[..n]) };
            }
        });
        gp::cond_resched();
    }
    calls.append(found);
    delays::ENGINE.add(since, freed);
    account(krcp, freed)
}
