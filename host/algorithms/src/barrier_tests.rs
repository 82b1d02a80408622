// SPDX-License-Identifier: GPL-2.0

//! The barrier of engine `rfc`, in a model: whatever moves objects between its steps, all objects
//! that were queued before are freed, and none before its grace period.

use crate::{
    rfc::barrier::{barrier, RfcBarrier},
    sync::AtomicLink,
};
use std::cell::{Cell, RefCell};

/// An event between two steps.
#[derive(Clone, Copy, Debug)]
enum Event {
    Nothing,
    /// An object is deferred.
    Defer,
    /// The irq_work queues deferred objects.
    TakeOver,
    /// The monitor detaches ready objects, and makes a batch of the rest.
    Monitor,
    /// The monitor frees the detached objects.
    Monitored,
    /// The work of the batch starts, after the grace period.
    Work,
    /// The work ends.
    Worked,
}

const EVENTS: [Event; 7] = [
    Event::Nothing,
    Event::Defer,
    Event::TakeOver,
    Event::Monitor,
    Event::Monitored,
    Event::Work,
    Event::Worked,
];

/// A step that the model omits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    TakeOver,
    GracePeriod,
    Free,
    WaitForOthers,
}

/// An object: its number, and the number of grace periods when it was queued.
type Object = (usize, usize);

#[derive(Default)]
struct Places {
    deferred: Vec<Object>,
    queued: Vec<Object>,
    detached: Vec<Object>,
    /// The batches of the work and of the barrier, with the grace period that they wait for.
    batches: [(Vec<Object>, usize); 2],
    running: Vec<Object>,
    freed: Vec<usize>,
    gp: usize,
}

impl Places {
    fn free(&mut self, objects: Vec<Object>) {
        for (object, came) in objects {
            assert!(came < self.gp, "freed too early");
            self.freed.push(object);
        }
    }

    fn fill(&mut self, batch: usize) {
        if !self.queued.is_empty() && self.batches[batch].0.is_empty() {
            self.batches[batch] = (std::mem::take(&mut self.queued), self.gp + 1);
        }
    }

    fn take(&mut self, batch: usize) -> Vec<Object> {
        if self.gp < self.batches[batch].1 {
            return Vec::new();
        }
        std::mem::take(&mut self.batches[batch].0)
    }
}

struct Model {
    turns: AtomicLink,
    places: RefCell<Places>,
    pushed: Cell<usize>,
    events: RefCell<Vec<Event>>,
    flaw: Flaw,
}

impl Model {
    fn new(events: &[Event], flaw: Flaw) -> Self {
        Self {
            turns: AtomicLink::new(0),
            places: RefCell::default(),
            pushed: Cell::new(0),
            events: RefCell::new(events.iter().rev().copied().collect()),
            flaw,
        }
    }

    fn event(&self) {
        let event = self.events.borrow_mut().pop();
        event.into_iter().for_each(|event| self.run(event));
    }

    fn run(&self, event: Event) {
        let places = &mut *self.places.borrow_mut();
        match event {
            Event::Nothing => {}
            Event::Defer => {
                places.deferred.push((self.pushed.get(), places.gp));
                self.pushed.set(self.pushed.get() + 1);
            }
            Event::TakeOver => places.queued.append(&mut places.deferred),
            Event::Monitor => {
                if places.detached.is_empty() {
                    let queued = std::mem::take(&mut places.queued);
                    let is_ready = |&(_, came): &Object| came < places.gp;
                    (places.detached, places.queued) = queued.into_iter().partition(is_ready);
                }
                places.fill(0);
            }
            Event::Monitored => {
                let detached = std::mem::take(&mut places.detached);
                places.free(detached);
            }
            Event::Work => {
                // A grace period may end at any time before the callback.
                places.gp += 1;
                if places.running.is_empty() {
                    places.running = places.take(0);
                }
            }
            Event::Worked => {
                let running = std::mem::take(&mut places.running);
                places.free(running);
            }
        }
    }
}

impl RfcBarrier for Model {
    type Cpu = ();

    fn turns(&self) -> &AtomicLink {
        &self.turns
    }

    fn with_mutex(&self, f: impl FnOnce()) {
        f();
    }

    fn mb(&self) {}

    fn each(&self, mut f: impl FnMut(&())) {
        self.event();
        f(&());
        self.event();
    }

    fn requeue_deferred(&self, (): &()) {
        if self.flaw != Flaw::TakeOver {
            self.run(Event::TakeOver);
        }
        self.event();
    }

    fn start(&self, (): &()) -> bool {
        let places = &mut *self.places.borrow_mut();
        places.fill(1);
        places.batches.iter().any(|batch| !batch.0.is_empty())
    }

    fn grace_period(&self) {
        self.event();
        self.places.borrow_mut().gp += usize::from(self.flaw != Flaw::GracePeriod);
    }

    fn free_expired_batches(&self, (): &()) {
        if self.flaw != Flaw::Free {
            let places = &mut *self.places.borrow_mut();
            for batch in 0..2 {
                let objects = places.take(batch);
                places.free(objects);
            }
        }
    }

    fn wait_for_others(&self, (): &()) {
        if self.flaw != Flaw::WaitForOthers {
            self.run(Event::Monitored);
            self.run(Event::Worked);
        }
    }
}

/// The number of events before the barrier and between its steps.
const STEPS: usize = 10;

/// Calls `f` with all sequences of [`STEPS`] events that start with `some` and have at most `left`
/// further events that are not `Nothing`.
fn orders(some: &mut Vec<Event>, left: usize, f: &dyn Fn(&[Event])) {
    if some.len() == STEPS {
        return f(some);
    }
    for event in EVENTS {
        let left = match event {
            Event::Nothing => left,
            _ if left == 0 => break,
            _ => left - 1,
        };
        some.push(event);
        orders(some, left, f);
        some.pop();
    }
}

/// Runs the barrier with two events before it and the others between its steps, in every order.
fn every_order(flaw: Flaw) {
    orders(&mut Vec::new(), 4, &|events| {
        let model = Model::new(events, flaw);
        model.run(Event::Defer);
        model.event();
        model.event();
        let before = model.pushed.get();
        barrier(&model);
        let places = model.places.borrow();
        for object in 0..before {
            let freed = places.freed.iter().filter(|&&other| other == object);
            assert_eq!(freed.count(), 1, "the barrier missed an object: {events:?}");
        }
        assert_eq!(model.turns.load_relaxed(), 2);
    });
}

tests! {
    has_all_that_was_there: every_order(Flaw::None);
    needs_the_deferred, "the barrier missed an object": every_order(Flaw::TakeOver);
    needs_a_grace_period, "the barrier missed an object": every_order(Flaw::GracePeriod);
    frees_what_waited, "the barrier missed an object": every_order(Flaw::Free);
    waits_for_others, "the barrier missed an object": every_order(Flaw::WaitForOthers);
}

/// A barrier takes a turn of its own unless another one started after it.
#[test]
fn each_takes_a_turn() {
    let model = Model::new(&[], Flaw::None);
    for turn in 1..=3 {
        model.run(Event::Defer);
        barrier(&model);
        assert_eq!(model.places.borrow().freed.len(), turn as usize);
        assert_eq!(model.turns.load_relaxed(), 2 * turn);
    }
}
