// SPDX-License-Identifier: GPL-2.0

//! The batches of a CPU: which one what is collected waits in, and for which grace period. No kernel in here: the
//! host tests compile it too.
//!
//! A batch is freed by the callback of its grace period, or before that by a worker that finds it over.

/// A grace period that covers all that was done before this was taken.
pub(crate) trait GracePeriod: Copy {
    /// Whether it is over.
    fn is_over(&self) -> bool;

    /// Whether both are over at the same time.
    fn is_same(&self, other: &Self) -> bool;
}

/// Objects that wait together: blocks, and at most one list.
pub(crate) trait Objects: Default {
    /// Numbers of objects by kind.
    type Counts: Copy;

    /// Whether there is none.
    fn is_empty(&self) -> bool;

    /// Whether there is a list.
    fn has_list(&self) -> bool;

    /// The numbers of its objects.
    fn counts(&self) -> Self::Counts;

    /// Takes `newer` in; one of the two has no list.
    fn join(&mut self, newer: Self);
}

/// A CPU whose objects are collected.
pub(crate) trait Collect {
    /// What there is.
    type Objects: Objects;
    /// What it waits for.
    type GracePeriod: GracePeriod;

    /// Calls `f` with the lock of the batches held.
    fn with<R>(&self, f: impl FnOnce(&mut Batches<Self::Objects, Self::GracePeriod>) -> R) -> R;

    /// Whether objects are linked.
    fn has_list(&self) -> bool;

    /// Moves closed blocks to `objects`, and linked ones unless it has a list. The lock is held.
    fn collect(&self, objects: &mut Self::Objects);

    /// The next grace period. The lock is held.
    fn snapshot(&self) -> Self::GracePeriod;

    /// Has the worker free the batches whose grace period is over.
    fn queue_polled(&self);

    /// Lets the work of a new batch wait for its grace period; tells about what was filled.
    fn batch_filled(&self, fill: &FillOf<Self>);
}

/// Objects that wait for a grace period.
pub(crate) struct Batch<O, G> {
    pub(crate) objects: O,
    pub(crate) snap: G,
}

/// The place of a batch.
enum Place<O, G> {
    /// Empty, and its work item is idle.
    Free,
    /// Waits for its grace period, and so does its work item.
    Waiting(Batch<O, G>),
    /// Freed before its callback came: its work item finds nothing to do.
    Polled,
}

/// Batches per CPU. Two grace periods can be waited for at a time, as a snapshot names the next or the
/// one after it; the others are for batches that wait for their worker or their callback, and for
/// second lists.
pub(crate) const N_BATCHES: usize = 4;

/// The batches of a CPU.
pub(crate) struct Batches<O, G> {
    places: [Place<O, G>; N_BATCHES],
    /// Collected objects that are in no batch yet, as no place was free.
    overflow: O,
    /// The next place that becomes free starts a batch of them.
    retry: bool,
}

/// What [`Batches::fill()`] did.
pub(crate) enum Fill<C, G> {
    /// There was nothing.
    Nothing,
    /// No place is free for so many objects: the first that becomes so makes a batch.
    Busy(C),
    /// `counts` objects joined batch `index`, which is `new` or not.
    Batch {
        index: usize,
        new: bool,
        counts: C,
        snap: G,
    },
}

/// That of a CPU.
pub(crate) type FillOf<C> =
    Fill<<<C as Collect>::Objects as Objects>::Counts, <C as Collect>::GracePeriod>;

impl<O: Objects, G: GracePeriod> Batches<O, G> {
    /// No batches.
    pub(crate) fn new() -> Self {
        Self {
            places: [const { Place::Free }; N_BATCHES],
            overflow: O::default(),
            retry: false,
        }
    }

    fn waiting(&self) -> impl Iterator<Item = &Batch<O, G>> {
        self.places.iter().filter_map(|place| match place {
            Place::Waiting(batch) => Some(batch),
            _ => None,
        })
    }

    /// What waits in batches, or for one.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &O> {
        let all = self.waiting().map(|batch| &batch.objects);
        all.chain(core::iter::once(&self.overflow))
    }

    /// Whether there is a batch whose grace period is over.
    pub(crate) fn is_any_over(&self) -> bool {
        self.waiting().any(|batch| batch.snap.is_over())
    }

    /// Whether there is a batch whose grace period is not over.
    pub(crate) fn is_any_waiting(&self) -> bool {
        self.waiting().any(|batch| !batch.snap.is_over())
    }

    /// Takes batch `i` if its grace period is over. Its place stays taken until its work has run.
    pub(crate) fn take_polled(&mut self, i: usize) -> Option<Batch<O, G>> {
        let place = self.places.get_mut(i)?;
        if !matches!(place, Place::Waiting(batch) if batch.snap.is_over()) {
            return None;
        }
        match core::mem::replace(place, Place::Polled) {
            Place::Waiting(batch) => Some(batch),
            _ => None,
        }
    }

    /// The work of batch `i` runs: takes it, unless it was polled. Its place can be used again.
    pub(crate) fn take(&mut self, i: usize) -> Option<Batch<O, G>> {
        match core::mem::replace(self.places.get_mut(i)?, Place::Free) {
            Place::Waiting(batch) => Some(batch),
            _ => None,
        }
    }

    /// Whether something waits for a place that has become free.
    pub(crate) fn retry(&mut self) -> bool {
        core::mem::take(&mut self.retry)
    }

    /// The place where the overflow can wait for `snap`.
    fn place_for(&self, snap: &G) -> Option<usize> {
        let listed = self.overflow.has_list();
        let joins = |place: &Place<O, G>| {
            matches!(place, Place::Waiting(batch)
                if batch.snap.is_same(snap) && (!listed || !batch.objects.has_list()))
        };
        let free = |place: &Place<O, G>| matches!(place, Place::Free);
        let first = |is: &dyn Fn(&Place<O, G>) -> bool| self.places.iter().position(is);
        first(&joins).or_else(|| first(&free))
    }

    /// With the lock held: takes what is closed and linked, then the snapshot, then a batch that waits for the same
    /// grace period, or a free one.
    fn fill<C>(&mut self, cpu: &C) -> FillOf<C>
    where
        C: Collect<Objects = O, GracePeriod = G> + ?Sized,
    {
        cpu.collect(&mut self.overflow);
        if self.overflow.is_empty() {
            return Fill::Nothing;
        }
        // ORDERING: The grace period of the snapshot starts here or later: after the exchanges in `collect()`,
        // each of which is after the push of every block and object it took, which are after the unlink
        // of every object in the program order of the CPU that pushed.
        let snap = cpu.snapshot();
        let found = self.place_for(&snap);
        let Some((index, place)) = found.and_then(|i| Some((i, self.places.get_mut(i)?))) else {
            self.retry = true;
            return Fill::Busy(self.overflow.counts());
        };
        let objects = core::mem::take(&mut self.overflow);
        let counts = objects.counts();
        let new = match place {
            Place::Waiting(batch) => {
                batch.objects.join(objects);
                // The same grace period. If it were not, what joined too early would be leaked, not freed.
                batch.snap = snap;
                false
            }
            place => {
                *place = Place::Waiting(Batch { objects, snap });
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
    /// No place is free: the first that becomes so makes a batch.
    Busy,
    /// A batch waits for its grace period.
    Started,
}

/// Makes a batch of all closed and linked objects, in a bounded number of steps. Batches whose grace period
/// is over already are handed to a worker.
///
/// This is where a grace period is chosen: the snapshot that [`Batches::fill()`] takes.
///
/// # Context
///
/// Any but NMI, interrupts off, on any CPU; no lock is held that call_rcu() takes, or a wakeup.
pub(crate) fn start(cpu: &impl Collect) -> Start {
    let mut is_any_over = false;
    // The overflow holds one list at a time, and there may be another.
    let mut is_another = false;
    let first = cpu.with(|batches| {
        is_any_over = batches.is_any_over();
        is_another = batches.overflow.has_list() && cpu.has_list();
        batches.fill(cpu)
    });
    if is_any_over {
        cpu.queue_polled();
    }
    let started = act(cpu, &first);
    if is_another && started == Start::Started {
        let second = cpu.with(|batches| batches.fill(cpu));
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
