// SPDX-License-Identifier: GPL-2.0

//! Deferred objects, in a model: whatever happens between two steps of the contexts that queue
//! them, each is queued once, a barrier includes all that were deferred before it, and there is
//! always a context or work item for the rest.

use super::list_tests::linked;
use crate::{
    list::{LinkList, Linked, Pushed},
    rfc::deferred::{self, Deferred, DeferredState, Progress, BUDGET},
};
use proptest::prelude::*;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    ptr::NonNull,
};

/// An event between two steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Nothing,
    /// This many objects are deferred.
    Push(usize),
    /// The handler of the irq_work runs, if it is queued.
    Handler,
    /// The worker for the rest runs, if it is queued.
    Worker,
    /// A barrier runs.
    Barrier,
    /// A barrier on another CPU starts, which checks the progress at every step.
    BarrierElsewhere,
}

struct Cpu {
    deferred: RefCell<DeferredState>,
    list: LinkList,
    pushed: RefCell<Vec<NonNull<u8>>>,
    queued: RefCell<Vec<NonNull<u8>>>,
    handler: Cell<bool>,
    worker: Cell<bool>,
    endless: Cell<usize>,
    /// In an interrupt: the number of objects that it has queued.
    atomic: Cell<Option<usize>>,
    /// Barriers elsewhere: how often the list had been removed, and the objects that had been
    /// deferred.
    waiting: RefCell<Vec<(usize, Vec<NonNull<u8>>)>>,
    events: RefCell<VecDeque<Event>>,
    depth: Cell<usize>,
}

impl Cpu {
    fn new(events: impl IntoIterator<Item = Event>) -> Self {
        Self {
            deferred: RefCell::new(DeferredState::new()),
            list: LinkList::new(),
            pushed: RefCell::default(),
            queued: RefCell::default(),
            handler: Cell::new(false),
            worker: Cell::new(false),
            endless: Cell::new(0),
            atomic: Cell::new(None),
            waiting: RefCell::default(),
            events: RefCell::new(events.into_iter().collect()),
            depth: Cell::new(0),
        }
    }

    fn push(&self) {
        let object = NonNull::from(Box::leak(Box::new(0u64))).cast();
        self.pushed.borrow_mut().push(object);
        // SAFETY: The field is the only word.
        match unsafe { self.list.push(linked(object)) } {
            Pushed::First => self.handler.set(true),
            Pushed::Another => {}
            Pushed::Twice => unreachable!(),
        }
    }

    /// Runs the next event, as another context.
    fn event(&self) {
        self.check_barriers();
        if self.depth.get() == 3 {
            return;
        }
        let Some(event) = self.events.borrow_mut().pop_front() else {
            return;
        };
        self.depth.set(self.depth.get() + 1);
        match event {
            Event::Nothing => {}
            Event::Push(n) => (0..n).for_each(|_| self.push()),
            Event::Handler => self.handler(),
            Event::Worker => self.worker(),
            // Not in an interrupt: it would wait for the context that it has interrupted.
            Event::Barrier if self.depth.get() > 1 => {}
            Event::Barrier => self.barrier(),
            Event::BarrierElsewhere => {
                let before = self.deferred.borrow().taken;
                let pushed = self.pushed.borrow().clone();
                self.waiting.borrow_mut().push((before, pushed));
            }
        }
        self.depth.set(self.depth.get() - 1);
    }

    /// Checks the objects of barriers elsewhere that can return now.
    fn check_barriers(&self) {
        let (deferred, queued) = (self.deferred.borrow(), self.queued.borrow());
        self.waiting.borrow_mut().retain(|(before, objects)| {
            let is_past = deferred.is_past(*before);
            let all = || objects.iter().all(|object| queued.contains(object));
            assert!(!is_past || all(), "a barrier elsewhere missed objects");
            !is_past
        });
    }

    fn handler(&self) {
        if !self.handler.replace(false) {
            return;
        }
        let outer = self.atomic.replace(Some(0));
        let progress = deferred::requeue_some(self, true);
        self.atomic.set(outer);
        self.leave(progress == Progress::More);
    }

    /// As `DeferRest`; what waits is a context of its own, so only where it interrupts no other.
    fn worker(&self) {
        if self.depth.get() > 1 || !self.worker.replace(false) {
            return;
        }
        self.leave(deferred::requeue_all(self));
    }

    /// Leaves the rest to the worker.
    fn leave(&self, more: bool) {
        self.worker.set(self.worker.get() || more);
    }

    fn barrier(&self) {
        let before: Vec<_> = self.pushed.borrow().clone();
        self.leave(deferred::requeue_all(self));
        let queued = self.queued.borrow();
        let all = before.iter().all(|object| queued.contains(object));
        assert!(all, "the barrier missed objects");
    }

    /// Without further events pending work runs.
    fn end(&self) {
        self.events.borrow_mut().clear();
        while self.handler.get() || self.worker.get() {
            self.handler();
            self.depth.set(1);
            self.worker();
            self.depth.set(0);
        }
        let mut pushed = self.pushed.borrow().clone();
        let mut queued = self.queued.borrow().clone();
        pushed.sort();
        queued.sort();
        assert_eq!(pushed.len(), queued.len(), "objects are lost");
        assert!(pushed == queued, "objects are queued twice");
    }
}

impl Deferred for Cpu {
    fn with_locked<R>(&self, f: impl FnOnce(&mut DeferredState) -> R) -> R {
        self.event();
        let ret = f(&mut self.deferred.borrow_mut());
        self.event();
        ret
    }

    fn list(&self) -> &LinkList {
        &self.list
    }

    fn queue(&self, linked: Linked) -> bool {
        let object = linked.start();
        self.event();
        if let Some(n) = self.atomic.get() {
            assert!(n < BUDGET, "an interrupt has no bound");
            self.atomic.set(Some(n + 1));
        }
        // The link is reused by now.
        // SAFETY: The object is a word of its own.
        unsafe { object.cast::<u64>().write(u64::MAX) };
        self.queued.borrow_mut().push(object);
        self.event();
        true
    }

    fn report_cyclic(&self, steps: usize) {
        self.endless.set(steps);
    }

    fn pause(&self) {
        assert!(self.atomic.get().is_none(), "an interrupt sleeps");
    }

    fn wait(&self) {
        unreachable!("no other context could continue");
    }
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => Just(Event::Nothing),
        2 => (1usize..5).prop_map(Event::Push),
        1 => (60usize..70).prop_map(Event::Push),
        3 => Just(Event::Handler),
        2 => Just(Event::Worker),
        1 => Just(Event::Barrier),
        2 => Just(Event::BarrierElsewhere),
    ];
    prop::collection::vec(event, 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn nothing_is_lost_or_left(events in events()) {
        let cpu = Cpu::new(events);
        while !cpu.events.borrow().is_empty() {
            cpu.event();
        }
        cpu.end();
    }
}

/// A cyclic list is cut, in any context, and objects that are deferred later are queued.
#[test]
fn a_cycle_is_cut() {
    for (n, atomic) in [
        (3, true),
        (3, false),
        (100, true),
        (100, false),
        (1000, false),
    ] {
        let cpu = Cpu::new([]);
        (0..n).for_each(|_| cpu.push());
        let first = cpu.pushed.borrow()[0];
        // SAFETY: The field is the only word.
        assert_eq!(unsafe { cpu.list.push(linked(first)) }, Pushed::Another);
        cpu.atomic.set(atomic.then_some(0));
        let progress = deferred::requeue_some(&cpu, atomic);
        cpu.atomic.set(None);
        if atomic && n > BUDGET {
            // Too long for an interrupt.
            assert_eq!(progress, Progress::More);
            assert_eq!(deferred::requeue_some(&cpu, false), Progress::Done);
        } else {
            assert_eq!(progress, Progress::Done);
        }
        assert!(cpu.endless.get() >= n && cpu.queued.borrow().is_empty());
        cpu.pushed.borrow_mut().clear();
        cpu.push();
        cpu.handler();
        cpu.end();
    }
}

/// is_past() is true as soon as the objects that were there are queued, and not while some of them
/// are in the rest.
#[test]
fn is_past_in_time() {
    let cpu = Cpu::new([]);
    let is_past = |before| cpu.deferred.borrow().is_past(before);
    for before in 0..3 {
        (0..=BUDGET).for_each(|_| cpu.push());
        assert!(!is_past(before));
        assert_eq!(deferred::requeue_some(&cpu, false), Progress::More);
        assert!(!is_past(before) && (before == 0 || is_past(before - 1)));
        assert_eq!(deferred::requeue_some(&cpu, false), Progress::Done);
        assert!(is_past(before));
    }
    cpu.end();
}

/// No worker is queued for objects that another context has processed meanwhile.
#[test]
fn nothing_more() {
    let events = std::iter::repeat_n(Event::Nothing, 5).chain([
        Event::Push(1),
        Event::Nothing,
        Event::Handler,
    ]);
    let cpu = Cpu::new(events);
    cpu.push();
    cpu.handler.set(false);
    assert!(!deferred::requeue_all(&cpu));
    assert!(cpu.events.borrow().is_empty());
    assert_eq!(cpu.queued.borrow().len(), 2);
    cpu.end();
}
