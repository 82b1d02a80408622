// SPDX-License-Identifier: GPL-2.0

//! Refills of engine `rfc`, in a model: whatever happens between a decision under the lock and its
//! action, one refill runs at a time, and each call that found no block is followed by one.

use super::state_tests::{free_page, new_page, PAGES};
use crate::{
    platform::Platform,
    rfc::{
        arm::Kick,
        blocks::{self, Refill},
        bnode::Bnode,
        state::{Channel, Push, State},
    },
    stats::Counter as Count,
};
use proptest::prelude::*;
use std::{
    cell::{Cell, RefCell},
    ptr::NonNull,
};

/// Blocks of one slot.
struct Model;

impl Platform for Model {
    type Snap = ();
    const BLOCK_BYTES: usize = 24 + 8;

    fn snapshot() {}

    fn now() -> u32 {
        0
    }

    fn is_over((): &()) -> bool {
        true
    }
}

/// An event between two steps.
#[derive(Clone, Copy, Debug)]
enum Event {
    Nothing,
    /// A call without a field, in any context.
    Call,
    /// A worker queues deferred objects, and starts refills.
    TakeOver,
    /// The irq_work runs, if it is queued.
    IrqWork,
    /// The worker runs, if it is queued.
    Worker,
    /// Queued objects are freed.
    Drain,
    /// The shrinker runs.
    Shrink,
    /// The limit of cached blocks is set.
    Limit(usize),
    /// Allocations succeed, or fail.
    Memory(bool),
    /// The CPU dies, and comes back.
    Dead,
}

struct Cpu {
    state: RefCell<State<Model>>,
    limit: Cell<usize>,
    memory: Cell<bool>,
    irq_work: Cell<Kick>,
    worker: Cell<bool>,
    runs: Cell<bool>,
    /// A call found no block, and no refill has started since.
    starved: Cell<bool>,
    calls: Cell<usize>,
    events: RefCell<Vec<Event>>,
    depth: Cell<usize>,
    /// Allocations of pages.
    allocs: Cell<usize>,
    /// Whether the last refill was delayed.
    backoff: Cell<bool>,
    /// The blocks that the last refill added and wanted.
    ended: Cell<(usize, usize)>,
}

impl Cpu {
    fn new(events: Vec<Event>) -> Self {
        PAGES.set(0);
        let mut state = State::new();
        state.online = true;
        Self {
            state: RefCell::new(state),
            limit: Cell::new(2),
            memory: Cell::new(true),
            irq_work: Cell::new(Kick::No),
            worker: Cell::new(false),
            runs: Cell::new(false),
            starved: Cell::new(false),
            calls: Cell::new(0),
            events: RefCell::new(events),
            depth: Cell::new(0),
            allocs: Cell::new(0),
            backoff: Cell::new(false),
            ended: Cell::new((0, 0)),
        }
    }

    fn event(&self) {
        if self.depth.get() == 3 {
            return;
        }
        let event = self.events.borrow_mut().pop();
        self.depth.set(self.depth.get() + 1);
        event.into_iter().for_each(|event| self.run(event));
        self.depth.set(self.depth.get() - 1);
    }

    fn push(&self) -> Push {
        self.calls.set(self.calls.get() + 1);
        let object = NonNull::new(std::ptr::without_provenance_mut(self.calls.get() * 8)).unwrap();
        self.state.borrow_mut().push_bulk(Channel::Slab, object)
    }

    fn run(&self, event: Event) {
        match event {
            Event::Nothing => {}
            // A dead CPU runs nothing.
            Event::Call | Event::IrqWork if !self.state.borrow().online => {}
            Event::Call => {
                let pushed = self.push();
                let refill = blocks::refill_for(pushed, || self.limit.get() > 0);
                let kick = self.state.borrow_mut().kick(refill.min(Kick::Lazy));
                self.starved.set(self.starved.get() || refill != Kick::No);
                self.event();
                self.irq_work.set(self.irq_work.get().max(kick));
            }
            Event::TakeOver => {
                let pushed = self.push();
                let refill = blocks::refill_for(pushed, || self.limit.get() > 0);
                self.state.borrow_mut().want_refill(refill);
                blocks::start(self);
            }
            Event::IrqWork => {
                if self.irq_work.replace(Kick::No) != Kick::No {
                    self.state.borrow_mut().arming.irq_work_runs();
                    blocks::start(self);
                }
            }
            Event::Worker => {
                // A work item does not run twice at the same time.
                if !self.runs.get() && self.worker.replace(false) {
                    self.runs.set(true);
                    self.starved.set(false);
                    blocks::refill(self);
                    self.runs.set(false);
                }
            }
            Event::Drain => {
                let queued = self.state.borrow_mut().queued.take();
                for mut bnodes in queued.bnodes {
                    while let Some(bnode) = bnodes.pop() {
                        self.free(bnode);
                    }
                }
            }
            Event::Shrink => {
                self.state.borrow_mut().backoff = true;
                self.drop_cached();
            }
            Event::Limit(limit) => self.limit.set(limit),
            Event::Memory(memory) => self.memory.set(memory),
            // Not while a call runs on the CPU.
            Event::Dead if self.depth.get() > 1 => {}
            Event::Dead => {
                // Later calls see that the CPU is offline, and request no refill.
                self.irq_work.set(Kick::No);
                self.starved.set(false);
                {
                    let mut state = self.state.borrow_mut();
                    state.online = false;
                    state.arming.cpu_dead();
                }
                self.run(Event::TakeOver);
                self.drop_cached();
                self.event();
                self.state.borrow_mut().online = true;
            }
        }
    }

    fn drop_cached(&self) {
        let mut cached = self.state.borrow_mut().take_cached();
        while let Some(bnode) = cached.pop() {
            self.free(bnode);
        }
    }

    /// Without further events pending work runs.
    fn end(&self) {
        self.events.borrow_mut().clear();
        while self.irq_work.get() != Kick::No || self.worker.get() {
            self.run(Event::IrqWork);
            self.run(Event::Worker);
        }
        assert!(
            !self.starved.get(),
            "no refill for a call that found no block"
        );
        self.run(Event::Drain);
        self.drop_cached();
        assert_eq!(PAGES.get(), 0, "pages are lost");
    }
}

impl Refill for Cpu {
    type Platform = Model;

    fn with_locked<R>(&self, f: impl FnOnce(&mut State<Model>) -> R) -> R {
        self.event();
        let ret = f(&mut self.state.borrow_mut());
        self.event();
        ret
    }

    fn limit(&self) -> usize {
        self.limit.get()
    }

    fn alloc(&self) -> Option<Bnode<Model>> {
        self.allocs.set(self.allocs.get() + 1);
        self.memory.get().then(new_page)
    }

    fn free(&self, bnode: Bnode<Model>) {
        free_page(bnode);
    }

    fn queue(&self, backoff: bool, _waiting: usize) {
        assert!(!self.worker.replace(true), "two refills are queued");
        self.backoff.set(backoff);
    }

    fn ended(&self, blocks: usize, wanted: usize) {
        self.ended.set((blocks, wanted));
    }
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => Just(Event::Nothing),
        6 => Just(Event::Call),
        2 => Just(Event::TakeOver),
        4 => Just(Event::IrqWork),
        4 => Just(Event::Worker),
        1 => Just(Event::Drain),
        1 => Just(Event::Shrink),
        1 => (0usize..3).prop_map(Event::Limit),
        1 => any::<bool>().prop_map(Event::Memory),
        1 => Just(Event::Dead),
    ];
    prop::collection::vec(event, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]
    #[test]
    fn no_call_waits_for_a_refill_that_does_not_come(events in events()) {
        let cpu = Cpu::new(events);
        while !cpu.events.borrow().is_empty() {
            cpu.event();
        }
        cpu.end();
    }
}

/// A refill follows an object that found no block if blocks are cached.
#[test]
fn refills_for_what_found_none() {
    for (pushed, found_none) in [
        (Push::Block, false),
        (Push::List, true),
        (Push::NoRoom, true),
        (Push::Twice, false),
    ] {
        for keeps in [false, true] {
            let kick = blocks::refill_for(pushed, || keeps);
            assert_eq!(kick == Kick::Now, found_none && keeps);
            assert_eq!(kick == Kick::No, !(found_none && keeps));
        }
    }
}

/// A refill adds as many blocks as are missing, and only one at first after memory pressure.
#[test]
fn brings_what_is_missing() {
    for (limit, backoff, had, dies, memory) in [
        (1, false, 0, false, true),
        (3, false, 0, false, true),
        (3, false, 2, false, true),
        (3, false, 3, false, true),
        (3, true, 0, false, true),
        (3, true, 1, false, true),
        (3, false, 1, false, false),
        (3, false, 1, true, true),
    ] {
        let cpu = Cpu::new(Vec::new());
        cpu.limit.set(limit);
        for _ in 0..had {
            let bnode = cpu.alloc().unwrap();
            assert!(cpu.state.borrow_mut().put_cached(bnode, had).is_none());
        }
        cpu.allocs.set(0);
        cpu.memory.set(memory);
        cpu.state.borrow_mut().backoff = backoff;
        cpu.state.borrow_mut().want_refill(Kick::Now);
        blocks::start(&cpu);
        // It is queued already.
        blocks::start(&cpu);
        assert_eq!(cpu.backoff.get(), backoff);
        cpu.state.borrow_mut().online = !dies;
        cpu.run(Event::Worker);
        let wanted = if backoff { 1 } else { limit };
        let missing = if dies { 0 } else { wanted - had };
        let brought = if memory { missing } else { 0 };
        assert_eq!(cpu.allocs.get(), missing.min(brought + 1));
        assert_eq!(cpu.ended.get(), (brought, wanted));
        {
            let state = cpu.state.borrow();
            assert_eq!(state.nr_cached(), had + brought);
            assert_eq!(state.stats[Count::Refilled], brought as u64);
            assert_eq!(state.stats[Count::Backoffs], u64::from(backoff));
        }
        assert!(!cpu.worker.get());
        // The next refill, with memory available.
        cpu.state.borrow_mut().online = true;
        cpu.memory.set(true);
        cpu.state.borrow_mut().want_refill(Kick::Now);
        blocks::start(&cpu);
        assert!(cpu.worker.get() && !cpu.backoff.get());
        cpu.run(Event::Worker);
        assert_eq!(cpu.state.borrow().nr_cached(), limit);
        cpu.end();
    }
}
