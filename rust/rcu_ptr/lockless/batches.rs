// SPDX-License-Identifier: GPL-2.0

//! The batches of a CPU: chooses the batch, and so the grace period, of collected blocks and lists.
//! No kernel dependencies: compiled by the host tests.
//!
//! A batch is freed by its work item, after a grace period, or before that by a worker that polls.

/// A snapshot: a grace period that covers everything done before.
pub(crate) trait GracePeriod: Copy {
    /// Whether the grace period has ended.
    fn is_over(&self) -> bool;

    /// Whether both end at the same time.
    fn is_same(&self, other: &Self) -> bool;
}

/// The objects of a batch: blocks, and at most one list.
pub(crate) trait Objects: Default {
    /// Numbers of objects by kind.
    type Counts: Copy;

    fn is_empty(&self) -> bool;

    /// Whether there is a list.
    fn has_list(&self) -> bool;

    fn counts(&self) -> Self::Counts;

    /// Adds `newer`; one of the two has no list.
    fn join(&mut self, newer: Self);
}

/// Access to the queued objects and the batches of a CPU.
pub(crate) trait Collect {
    type Objects: Objects;
    type GracePeriod: GracePeriod;

    /// Calls `f` with the lock of the batches held.
    fn with_locked<R>(
        &self,
        f: impl FnOnce(&mut Batches<Self::Objects, Self::GracePeriod>) -> R,
    ) -> R;

    /// Whether objects are linked.
    fn has_list(&self) -> bool;

    /// Moves closed blocks to `objects`; the list too, unless there is one already. The lock is
    /// held.
    fn collect(&self, objects: &mut Self::Objects);

    /// A snapshot of the grace period to wait for. The lock is held.
    fn snapshot(&self) -> Self::GracePeriod;

    /// Queues the worker that frees the batches whose grace period has ended.
    fn queue_polled(&self);

    /// Queues the work item of a new batch, and emits the trace event.
    fn batch_filled(&self, fill: &FillOf<Self>);
}

/// Objects that wait for a grace period.
pub(crate) struct Batch<O, G> {
    pub(crate) objects: O,
    pub(crate) snap: G,
}

/// The slot of a batch.
enum BatchSlot<O, G> {
    /// Unused. Its work item is not pending, but may still be freeing the previous batch.
    Free,
    /// In use; the work item waits for the grace period.
    Waiting(Batch<O, G>),
    /// Freed by a poll; the work item has not run yet, and will have nothing to do.
    Polled,
}

/// Batches per CPU. At most two grace periods are waited for at a time, as a snapshot is of the
/// next or of the one after that. The others are for batches that wait for their worker, and for
/// second lists.
pub(crate) const N_BATCHES: usize = 4;

/// The batches of a CPU.
pub(crate) struct Batches<O, G> {
    slots: [BatchSlot<O, G>; N_BATCHES],
    /// Collected objects for which no slot was free.
    overflow: O,
    /// Start a batch of `overflow` when a slot becomes free.
    retry: bool,
}

/// What [`Batches::fill()`] did.
pub(crate) enum Fill<C, G> {
    /// There was nothing.
    Nothing,
    /// All slots are busy; retried when one becomes free. Number of objects.
    Busy(C),
    /// `counts` objects were added to batch `index`, which is `new` or not.
    Batch {
        index: usize,
        new: bool,
        counts: C,
        snap: G,
    },
}

/// [`Fill`] for a [`Collect`].
pub(crate) type FillOf<C> =
    Fill<<<C as Collect>::Objects as Objects>::Counts, <C as Collect>::GracePeriod>;

impl<O: Objects, G: GracePeriod> Batches<O, G> {
    pub(crate) fn new() -> Self {
        Self {
            slots: [const { BatchSlot::Free }; N_BATCHES],
            overflow: O::default(),
            retry: false,
        }
    }

    fn waiting(&self) -> impl Iterator<Item = &Batch<O, G>> {
        self.slots.iter().filter_map(|slot| match slot {
            BatchSlot::Waiting(batch) => Some(batch),
            _ => None,
        })
    }

    /// The objects of all batches and of the overflow.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &O> {
        let all = self.waiting().map(|batch| &batch.objects);
        all.chain(core::iter::once(&self.overflow))
    }

    /// Whether the grace period of any batch has ended.
    pub(crate) fn is_any_over(&self) -> bool {
        self.waiting().any(|batch| batch.snap.is_over())
    }

    /// Whether any batch still waits for its grace period.
    pub(crate) fn is_any_waiting(&self) -> bool {
        self.waiting().any(|batch| !batch.snap.is_over())
    }

    /// Removes batch `i` if its grace period has ended. The slot stays busy until its work item has
    /// run.
    pub(crate) fn take_polled(&mut self, i: usize) -> Option<Batch<O, G>> {
        let slot = self.slots.get_mut(i)?;
        if !matches!(slot, BatchSlot::Waiting(batch) if batch.snap.is_over()) {
            return None;
        }
        match core::mem::replace(slot, BatchSlot::Polled) {
            BatchSlot::Waiting(batch) => Some(batch),
            _ => None,
        }
    }

    /// Removes batch `i` for its work item, unless a poll has. The slot is free afterwards.
    pub(crate) fn take(&mut self, i: usize) -> Option<Batch<O, G>> {
        match core::mem::replace(self.slots.get_mut(i)?, BatchSlot::Free) {
            BatchSlot::Waiting(batch) => Some(batch),
            _ => None,
        }
    }

    /// Returns whether the overflow waits for a free slot, and resets that.
    pub(crate) fn retry(&mut self) -> bool {
        core::mem::take(&mut self.retry)
    }

    /// The slot in which the overflow can wait for `snap`.
    fn slot_for(&self, snap: &G) -> Option<usize> {
        let listed = self.overflow.has_list();
        let joins = |slot: &BatchSlot<O, G>| {
            matches!(slot, BatchSlot::Waiting(batch)
                if batch.snap.is_same(snap) && (!listed || !batch.objects.has_list()))
        };
        let free = |slot: &BatchSlot<O, G>| matches!(slot, BatchSlot::Free);
        let first = |is: &dyn Fn(&BatchSlot<O, G>) -> bool| self.slots.iter().position(is);
        first(&joins).or_else(|| first(&free))
    }

    /// Collects, then takes the snapshot, then adds the objects to a batch of the same grace period
    /// or to a new one. The lock is held.
    fn fill<C>(&mut self, cpu: &C) -> FillOf<C>
    where
        C: Collect<Objects = O, GracePeriod = G> + ?Sized,
    {
        cpu.collect(&mut self.overflow);
        if self.overflow.is_empty() {
            return Fill::Nothing;
        }
        // ORDERING: The grace period of the snapshot starts after this, so after the exchanges in
        // `collect()`. These are after the pushes of all blocks and objects that they return, and
        // each push is after the unlink of its objects in the program order of its CPU.
        let snap = cpu.snapshot();
        let found = self.slot_for(&snap);
        let Some((index, slot)) = found.and_then(|i| Some((i, self.slots.get_mut(i)?))) else {
            self.retry = true;
            return Fill::Busy(self.overflow.counts());
        };
        let objects = core::mem::take(&mut self.overflow);
        let counts = objects.counts();
        let new = match slot {
            BatchSlot::Waiting(batch) => {
                batch.objects.join(objects);
                // The same grace period. (Were it not, the check before freeing would leak the
                // objects.)
                batch.snap = snap;
                false
            }
            slot => {
                *slot = BatchSlot::Waiting(Batch { objects, snap });
                true
            }
        };
        Fill::Batch {
            index,
            new,
            counts,
            snap,
        }
    }
}

/// What [`start()`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// There was nothing.
    Nothing,
    /// All slots are busy; retried when one becomes free.
    Busy,
    /// The objects are in a batch.
    Started,
}

/// Makes a batch of the closed blocks and of the list, in constant time. Queues a worker for
/// batches whose grace period has ended already.
///
/// This is where the grace period is chosen: by the snapshot in [`Batches::fill()`].
///
/// # Context
///
/// Any but NMI, with interrupts disabled, on any CPU; no lock is held that call_rcu() or a wakeup
/// takes.
pub(crate) fn start(cpu: &impl Collect) -> Start {
    let mut is_any_over = false;
    // The overflow holds one list, and there may be another.
    let mut is_another = false;
    let first = cpu.with_locked(|batches| {
        is_any_over = batches.is_any_over();
        is_another = batches.overflow.has_list() && cpu.has_list();
        batches.fill(cpu)
    });
    if is_any_over {
        cpu.queue_polled();
    }
    let started = act(cpu, &first);
    if is_another && started == Start::Started {
        let second = cpu.with_locked(|batches| batches.fill(cpu));
        return act(cpu, &second);
    }
    started
}

/// Carries out what was decided under the lock.
fn act<C: Collect>(cpu: &C, fill: &FillOf<C>) -> Start {
    cpu.batch_filled(fill);
    match fill {
        Fill::Nothing => Start::Nothing,
        Fill::Busy(_) => Start::Busy,
        Fill::Batch { .. } => Start::Started,
    }
}
