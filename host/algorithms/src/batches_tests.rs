// SPDX-License-Identifier: GPL-2.0

//! Batches and the barrier of engine `lockless`, in a model of a CPU: whatever happens between two
//! steps, each object is freed once, after its grace period, and a barrier frees all that were
//! queued before it.

use crate::lockless::{
    barrier::{barrier, wait_for_all, LocklessBarrier, Works},
    batches::{self, Batches, Collect, Fill, FillOf, GracePeriod, Start, N_BATCHES},
};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};

thread_local! {
    /// The number of grace periods that are over.
    static OVER: Cell<usize> = const { Cell::new(0) };
}

/// A snapshot: over when this many grace periods are.
#[derive(Clone, Copy)]
struct Gp(usize);

impl GracePeriod for Gp {
    fn is_over(&self) -> bool {
        OVER.get() >= self.0
    }

    fn is_same(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

/// An object: its number, and how many grace periods had started when it was queued. Readers of the
/// last of these may still have it when that ends.
type Object = (usize, usize);

#[derive(Default)]
struct Objects {
    blocks: Vec<Object>,
    list: Vec<Object>,
}

impl Objects {
    fn all(&self) -> Vec<Object> {
        [&self.blocks[..], &self.list].concat()
    }
}

impl batches::Objects for Objects {
    type Counts = usize;

    fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.list.is_empty()
    }

    fn has_list(&self) -> bool {
        !self.list.is_empty()
    }

    fn counts(&self) -> usize {
        self.blocks.len() + self.list.len()
    }

    fn join(&mut self, mut newer: Self) {
        assert!(
            self.list.is_empty() || newer.list.is_empty(),
            "two lists are joined"
        );
        self.blocks.append(&mut newer.blocks);
        self.list.append(&mut newer.list);
    }
}

/// An event between two steps.
#[derive(Clone, Copy, Debug)]
enum Event {
    Nothing,
    /// An object gets a slot.
    Queue,
    /// An object is linked.
    Link,
    /// A context closes the block, and is interrupted.
    Close,
    /// That context pushes the block to the closed blocks.
    HandOver,
    /// The monitor makes a batch.
    Start,
    /// Another CPU makes a batch, and is interrupted before it queues the work.
    StartThere,
    /// That CPU queues the work.
    QueueThere,
    /// The next grace period starts.
    GracePeriod,
    /// The grace period ends.
    GracePeriodEnds,
    /// The work of this batch starts, after its grace period.
    Work(usize),
    /// The work of this batch ends.
    Worked(usize),
    /// The worker that frees expired batches starts.
    Polled,
    /// That worker ends.
    PolledEnds,
}

#[derive(Default)]
struct Cpu {
    current: RefCell<Vec<Object>>,
    closing: RefCell<Vec<Object>>,
    closed: RefCell<Vec<Object>>,
    list: RefCell<Vec<Object>>,
    batches: RefCell<Option<Batches<Objects, Gp>>>,
    /// The grace periods that work items wait for.
    works: [Cell<Option<Gp>>; N_BATCHES],
    /// The objects of running work items.
    running: [RefCell<Option<Vec<Object>>>; N_BATCHES],
    /// Whether the worker for expired batches is queued.
    polled: Cell<bool>,
    /// The objects of that worker while it runs.
    polling: RefCell<Option<Vec<Object>>>,
    pushed: Cell<usize>,
    freed: RefCell<Vec<usize>>,
    begun: Cell<usize>,
    /// Grace periods that had started when a context closed a block: no later one ends meanwhile.
    closing_since: Cell<usize>,
    /// Grace periods that had started when interrupts were disabled: no later one ends meanwhile.
    irqs_off: Cell<Option<usize>>,
    /// Whether another CPU is making batches.
    is_there: Cell<bool>,
    /// Batches of the other CPU whose work is not queued yet.
    there: RefCell<Vec<(usize, Gp)>>,
    /// Grace periods that had started when the other CPU disabled interrupts.
    there_since: Cell<usize>,
    locked: Cell<bool>,
    events: RefCell<Vec<Event>>,
}

impl Cpu {
    fn new(events: Vec<Event>) -> Self {
        OVER.set(0);
        Self {
            batches: RefCell::new(Some(Batches::new())),
            events: RefCell::new(events),
            ..Self::default()
        }
    }

    fn object(&self) -> Object {
        let number = self.pushed.get();
        self.pushed.set(number + 1);
        (number, self.begun.get())
    }

    fn free(&self, objects: Vec<Object>) {
        for (object, came) in objects {
            assert!(came < OVER.get(), "freed too early");
            self.freed.borrow_mut().push(object);
        }
    }

    fn lock<R>(&self, f: impl FnOnce(&mut Batches<Objects, Gp>) -> R) -> R {
        let ret = self.with_irqs_off(|| {
            self.locked.set(true);
            f(self.batches.borrow_mut().as_mut().unwrap())
        });
        self.locked.set(false);
        ret
    }

    fn with_irqs_off<R>(&self, f: impl FnOnce() -> R) -> R {
        let outer = self.irqs_off.get();
        self.irqs_off.set(outer.or(Some(self.begun.get())));
        let ret = f();
        self.irqs_off.set(outer);
        ret
    }

    fn queue_work(&self, index: usize, snap: Gp) {
        assert!(self.works[index].get().is_none(), "a work item is refused");
        self.works[index].set(Some(snap));
    }

    /// Waits for a grace period.
    fn synchronize(&self) {
        let snap = Gp(self.begun.get() + 1);
        while !snap.is_over() {
            self.event();
            self.run(Event::GracePeriod);
            self.event();
            self.run(Event::GracePeriodEnds);
        }
    }

    fn event(&self) {
        let event = self.events.borrow_mut().pop();
        event.into_iter().for_each(|event| self.run(event));
    }

    fn run(&self, event: Event) {
        match event {
            Event::Nothing => {}
            Event::Queue => self.current.borrow_mut().push(self.object()),
            Event::Link => self.list.borrow_mut().push(self.object()),
            Event::Close => {
                if self.closing.borrow().is_empty() {
                    self.closing_since.set(self.begun.get());
                }
                let mut current = self.current.borrow_mut();
                self.closing.borrow_mut().append(&mut current);
            }
            Event::HandOver => self
                .closed
                .borrow_mut()
                .append(&mut self.closing.borrow_mut()),
            Event::GracePeriod => self.begun.set(OVER.get() + 1),
            Event::GracePeriodEnds => {
                let is_last = |since: usize| self.begun.get() > since;
                if self.begun.get() == OVER.get() || self.irqs_off.get().is_some_and(is_last) {
                    return;
                }
                // The grace period waits for contexts with preemption off.
                if is_last(self.closing_since.get()) {
                    self.run(Event::HandOver);
                }
                if is_last(self.there_since.get()) {
                    self.run(Event::QueueThere);
                }
                OVER.set(self.begun.get());
            }
            Event::QueueThere => {
                for (index, snap) in self.there.take() {
                    self.queue_work(index, snap);
                }
            }
            // Events that take the lock can't happen while it is held.
            _ if self.locked.get() => {}
            Event::Start => {
                self.with_irqs_off(|| batches::start(self));
            }
            Event::StartThere => {
                if self.there.borrow().is_empty() {
                    self.there_since.set(self.begun.get());
                }
                if !self.is_there.replace(true) {
                    self.with_irqs_off(|| batches::start(self));
                    self.is_there.set(false);
                }
            }
            Event::Work(i) => {
                let is_over = self.works[i].get().is_some_and(|gp| gp.is_over());
                if is_over && self.running[i].borrow().is_none() {
                    self.works[i].set(None);
                    let taken = self.with_locked(|batches| batches.take(i));
                    let objects = taken.map(|batch| batch.objects.all());
                    *self.running[i].borrow_mut() = Some(objects.unwrap_or_default());
                }
            }
            Event::Worked(i) => {
                let Some(objects) = self.running[i].take() else {
                    return;
                };
                self.free(objects);
                self.with_irqs_off(|| {
                    if self.with_locked(Batches::retry) {
                        batches::start(self);
                    }
                });
            }
            Event::Polled => {
                if self.polling.borrow().is_none() && self.polled.replace(false) {
                    let mut all = vec![];
                    for i in 0..N_BATCHES {
                        let taken = self.lock(|batches| batches.take_polled(i));
                        all.extend(taken.into_iter().flat_map(|batch| batch.objects.all()));
                    }
                    *self.polling.borrow_mut() = Some(all);
                }
            }
            Event::PolledEnds => self
                .polling
                .take()
                .into_iter()
                .for_each(|all| self.free(all)),
        }
    }

    /// Without further events all objects are freed, once.
    fn end(&self) {
        self.events.borrow_mut().clear();
        self.run(Event::Close);
        self.run(Event::HandOver);
        self.run(Event::QueueThere);
        self.run(Event::Start);
        for _ in 0..8 {
            self.synchronize();
            for i in 0..N_BATCHES {
                self.run(Event::Worked(i));
                self.run(Event::Work(i));
                self.run(Event::Worked(i));
            }
            self.run(Event::PolledEnds);
        }
        let mut freed = self.freed.borrow().clone();
        freed.sort_unstable();
        assert!(freed.into_iter().eq(0..self.pushed.get()), "lost or twice");
    }
}

impl Collect for Cpu {
    type Objects = Objects;
    type GracePeriod = Gp;

    fn with_locked<R>(&self, f: impl FnOnce(&mut Batches<Objects, Gp>) -> R) -> R {
        self.event();
        self.lock(f)
    }

    fn has_list(&self) -> bool {
        !self.list.borrow().is_empty()
    }

    fn collect(&self, objects: &mut Objects) {
        self.event();
        objects.blocks.append(&mut self.closed.borrow_mut());
        self.event();
        if objects.list.is_empty() {
            objects.list.append(&mut self.list.borrow_mut());
        }
        self.event();
    }

    fn snapshot(&self) -> Gp {
        self.event();
        let snap = Gp(self.begun.get() + 1);
        self.event();
        snap
    }

    fn queue_polled(&self) {
        self.polled.set(true);
    }

    fn batch_filled(&self, fill: &FillOf<Self>) {
        // An event on another CPU.
        self.event();
        if let Fill::Batch {
            index, new, snap, ..
        } = *fill
        {
            match new {
                true if self.is_there.get() => self.there.borrow_mut().push((index, snap)),
                true => self.queue_work(index, snap),
                false => {}
            }
        }
    }
}

impl Works for Cpu {
    fn flush_polled(&self) {
        self.event();
        self.run(Event::PolledEnds);
        self.run(Event::Polled);
        self.run(Event::PolledEnds);
        self.event();
    }

    fn flush_running(&self) {
        self.event();
        (0..N_BATCHES).for_each(|i| self.run(Event::Worked(i)));
        self.event();
    }

    fn flush_waiting(&self) {
        self.event();
        for i in 0..N_BATCHES {
            while let Some(gp) = self.works[i].get() {
                self.run(Event::Worked(i));
                if !gp.is_over() {
                    self.synchronize();
                }
                self.run(Event::Work(i));
            }
            self.run(Event::Worked(i));
        }
        self.event();
    }
}

/// An engine with one CPU.
struct Engine<'a>(&'a Cpu);

impl LocklessBarrier for Engine<'_> {
    type Cpu = Cpu;

    fn each(&self, mut f: impl FnMut(&Cpu)) {
        self.0.event();
        f(self.0);
        self.0.event();
    }

    fn close_current(&self, cpu: &Cpu) {
        cpu.event();
        // In an interrupt.
        let mut current = cpu.current.borrow_mut();
        cpu.closed.borrow_mut().append(&mut current);
    }

    fn is_slow(&self, cpu: &Cpu) -> bool {
        cpu.event();
        !cpu.closing.borrow().is_empty()
    }

    fn start(&self, cpu: &Cpu) -> (Start, bool) {
        cpu.event();
        cpu.with_irqs_off(|| {
            let started = batches::start(cpu);
            (started, cpu.with_locked(|batches| batches.is_any_waiting()))
        })
    }

    fn grace_period(&self) {
        self.0.synchronize();
    }

    fn free_polled(&self, cpu: &Cpu) {
        cpu.event();
        if cpu.with_locked(|batches| batches.is_any_over()) {
            cpu.polled.set(true);
        }
    }
}

fn events(n: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        8 => Just(Event::Nothing),
        3 => Just(Event::Queue),
        2 => Just(Event::Link),
        3 => Just(Event::Close),
        2 => Just(Event::HandOver),
        3 => Just(Event::Start),
        2 => Just(Event::StartThere),
        1 => Just(Event::QueueThere),
        2 => Just(Event::GracePeriod),
        2 => Just(Event::GracePeriodEnds),
        4 => (0..N_BATCHES).prop_map(Event::Work),
        3 => (0..N_BATCHES).prop_map(Event::Worked),
        2 => Just(Event::Polled),
        2 => Just(Event::PolledEnds),
    ];
    prop::collection::vec(event, n)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]
    #[test]
    fn barriers_have_all(before in events(0..60), during in events(0..60), all in any::<bool>()) {
        let cpu = Cpu::new(vec![]);
        for event in before {
            cpu.run(event);
        }
        *cpu.events.borrow_mut() = during;
        let pushed = cpu.pushed.get();
        if all {
            // At unload, no other CPU makes batches.
            cpu.run(Event::QueueThere);
            cpu.events.borrow_mut().retain(|event| !matches!(event, Event::StartThere));
            let waiting: Vec<_> = cpu.with_locked(|batches| {
                let mut all: Vec<_> = batches.objects().collect();
                let _overflow = all.pop();
                let objects = all.iter().flat_map(|some| some.all());
                objects.map(|object| object.0).collect()
            });
            wait_for_all(&cpu);
            let freed = cpu.freed.borrow();
            prop_assert!(waiting.iter().all(|object| freed.contains(object)));
        } else {
            barrier(&Engine(&cpu));
            let freed = cpu.freed.borrow();
            prop_assert!(
                (0..pushed).all(|object| freed.contains(&object)),
                "the barrier missed an object"
            );
        }
        cpu.end();
    }
}

/// Objects that wait for the same grace period share a batch, except second lists; objects without
/// a free batch are processed later.
#[test]
fn batches_are_shared() {
    let cpu = Cpu::new(vec![]);
    let start = || {
        let started = cpu.with_irqs_off(|| batches::start(&cpu));
        (
            started,
            cpu.with_locked(|batches| batches.objects().count() - 1),
        )
    };
    let queue = |is_list| {
        if is_list {
            return cpu.run(Event::Link);
        }
        [Event::Queue, Event::Close, Event::HandOver]
            .iter()
            .for_each(|&event| cpu.run(event));
    };
    assert_eq!(start(), (Start::Nothing, 0));
    for (is_list, waiting) in [
        (false, 1),
        (true, 1),
        (false, 1),
        (true, 2),
        (true, 3),
        (true, 4),
        (false, 4),
    ] {
        queue(is_list);
        assert_eq!(start(), (Start::Started, waiting));
        assert!(!cpu.with_locked(Batches::retry));
    }
    for _ in 0..2 {
        queue(true);
        assert_eq!(start(), (Start::Busy, 4));
        assert!(cpu.with_locked(Batches::retry) && !cpu.with_locked(Batches::retry));
    }
    assert!(!cpu.polled.get());
    let state = || cpu.with_locked(|batches| (batches.is_any_over(), batches.is_any_waiting()));
    assert_eq!(state(), (false, true));
    cpu.synchronize();
    assert_eq!(state(), (true, false));
    for i in 0..N_BATCHES {
        cpu.run(Event::Work(i));
        cpu.run(Event::Worked(i));
    }
    assert_eq!(state(), (false, false));
    // Both lists at once.
    assert_eq!(start(), (Start::Started, 2));
    assert!(!cpu.has_list());
    cpu.end();
}
