// SPDX-License-Identifier: GPL-2.0

//! Batches: closed blocks and linked objects of a CPU that wait for a grace period together, and are
//! freed in a worker after it.

use super::{
    block::{Block, Blocks},
    krcp::{Krcp, KrcpRef},
    reclaim, Lockless, Page,
};
use crate::{
    params,
    rfc::list::Chain,
    sys::{
        debug,
        gp::{self, Snapshot},
        irq::IrqsOff,
        trace,
        work::Handler,
    },
};
use kernel::sync::atomic::Relaxed;

/// Batches in flight per CPU: what fills while one waits, and while another is freed.
pub(super) const N_BATCHES: usize = 3;

/// Objects that wait for a grace period.
pub(super) struct Batch {
    blocks: Blocks<Page>,
    list: Chain,
    counts: trace::Counts,
    snap: Snapshot,
}

/// The batches of a CPU.
pub(super) struct Batches {
    in_flight: [Option<Batch>; N_BATCHES],
    /// Somebody found no batch free.
    turned_away: bool,
}

impl Batches {
    /// None in flight.
    pub(super) const fn new() -> Self {
        Self {
            in_flight: [const { None }; N_BATCHES],
            turned_away: false,
        }
    }

    /// Objects that wait in batches: in blocks, and linked.
    pub(super) fn objects(&self) -> (usize, usize) {
        let all = self.in_flight.iter().flatten();
        all.fold((0, 0), |(mixed, list), batch| {
            (mixed + batch.counts.mixed, list + batch.counts.list)
        })
    }
}

/// What [`start()`] did.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// There was nothing.
    Nothing,
    /// All batches are in flight: the first that is freed makes another.
    Busy,
    /// A batch waits for its grace period.
    Started,
}

/// Makes a batch of what is closed and linked, in a few steps whatever their number.
///
/// # Context
///
/// Any but NMI, on any CPU.
pub(super) fn start(krcp: &Krcp, irqs: &IrqsOff) -> Start {
    krcp.with(irqs, |batches| {
        if krcp.closed.is_empty() && krcp.list.is_empty() {
            return Start::Nothing;
        }
        let Some(i) = batches.in_flight.iter().position(Option::is_none) else {
            batches.turned_away = true;
            krcp.events.batches_busy.add(1, Relaxed);
            trace::defer(krcp.cpu, trace::DEFER_BATCH, krcp.waiting());
            return Start::Busy;
        };
        let blocks = krcp.closed.take();
        let list = krcp.list.take();
        let counts = trace::Counts {
            mixed: blocks.objects(),
            list: krcp.listed.xchg(0, Relaxed),
            ..Default::default()
        };
        krcp.closed_objects
            .add(0usize.wrapping_sub(counts.mixed), Relaxed);
        // ORDERING: The grace period starts here or later: after the exchanges above, each of which
        // is after the push of every block and object it took, which are after the unlink of every
        // object in the program order of the CPU that pushed.
        let snap = Snapshot::take();
        trace::batch_start(krcp.cpu, i, counts, snap.number());
        batches.in_flight[i] = Some(Batch {
            blocks,
            list,
            counts,
            snap,
        });
        krcp.events.batches.add(1, Relaxed);
        // Never refused: the batch was empty, so its work has taken the last objects off and is no
        // longer pending.
        krcp.batch_work(i).queue(&krcp.wq);
        Start::Started
    })
}

/// Frees a batch when its grace period is over.
pub(super) struct BatchWork {
    pub(super) krcp: KrcpRef,
    pub(super) index: usize,
}

impl Handler for BatchWork {
    fn run(&self) {
        let krcp = &*self.krcp;
        let irqs = IrqsOff::save();
        // From here on the batch can be made again, while these objects are freed.
        let batch = krcp.with(&irqs, |batches| batches.in_flight[self.index].take());
        drop(irqs);
        if let Some(batch) = batch {
            free(krcp, self.index, batch);
        }
        let irqs = IrqsOff::save();
        if krcp.with(&irqs, |batches| core::mem::take(&mut batches.turned_away)) {
            start(krcp, &irqs);
        }
    }
}

fn free(krcp: &Krcp, index: usize, mut batch: Batch) {
    let number = batch.snap.number();
    let mut counts = trace::Counts::default();
    let ready = batch.snap.is_over();
    if !ready {
        debug::warn_early(core::ptr::null());
        let lost = batch.counts.mixed + batch.counts.list;
        krcp.events.leaked.add(lost as u64, Relaxed);
        return;
    }
    let mut list = reclaim::mark(krcp, &mut batch.blocks, batch.list);
    while let Some(mut block) = batch.blocks.pop() {
        // SAFETY: The block was closed before the grace period of the batch started, which is over.
        let objects = unsafe { block.objects() };
        counts.mixed += objects.len();
        reclaim::free_objects(krcp, objects);
        keep_or_free(krcp, block);
        gp::cond_resched();
    }
    while let Some((object, _)) = list.pop() {
        counts.list += 1;
        reclaim::free_linked(krcp, object);
        gp::cond_resched();
    }
    trace::batch_end(krcp.cpu, Some(index), counts, number);
}

/// Keeps an emptied block as a spare, or gives its page back.
fn keep_or_free(krcp: &Krcp, block: Block<Page>) {
    let limit = if krcp.online.load(Relaxed) {
        params::min_cached_objs()
    } else {
        0
    };
    let base = block.base();
    if !krcp.spares.put(base, limit) {
        Lockless::free_block(base);
    }
}

/// Gives all spare blocks of a CPU back. Returns how many.
///
/// # Context
///
/// Any but NMI, no raw spinlock held.
pub(super) fn drop_spares(krcp: &Krcp) -> usize {
    let mut dropped = 0;
    while let Some(base) = krcp.spares.take(usize::MAX) {
        Lockless::free_block(base);
        dropped += 1;
    }
    krcp.events.shrunk.add(dropped as u64, Relaxed);
    dropped
}
