// SPDX-License-Identifier: GPL-2.0

//! Teardown of a cache, with a model of its workers and callbacks: whichever of them runs between
//! two steps, no sheaf is left and nothing is queued afterwards.

use crate::sheaves::teardown::{teardown, Teardown};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};

/// What may run between two steps.
#[derive(Clone, Copy, Debug)]
enum Event {
    Nothing,
    /// The refill worker; it requeues itself if memory is short.
    Refill {
        short: bool,
    },
    IrqWork,
    Monitor,
    Callback,
    Backlog,
    Trim,
    Reap,
}

/// The number of sheaves by location, and what is queued.
#[derive(Clone, Debug, Default)]
struct State {
    /// In memory.
    all: usize,
    /// On the CPU: spares, and closed sheaves.
    stock: usize,
    waiting: usize,
    callbacks: usize,
    backlog: usize,
    barn: usize,
    refill: bool,
    no_refill: bool,
    irq_work: bool,
    monitor: bool,
    backlog_work: bool,
    trim: bool,
    reap: bool,
}

impl State {
    /// Whether nothing is queued.
    fn is_idle(&self) -> bool {
        let queued = self.refill
            || self.irq_work
            || self.monitor
            || self.backlog_work
            || self.trim
            || self.reap;
        !queued && self.callbacks == 0
    }

    fn check_limits(&mut self) {
        self.trim |= self.barn > 1;
        self.reap |= self.barn > 0;
    }

    fn run(&mut self, event: Event) {
        let is = |queued: &mut bool| std::mem::take(queued);
        match event {
            Event::Nothing => {}
            Event::Refill { short } if is(&mut self.refill) => {
                // A sheaf for the barn, and a spare, for which the irq_work is queued.
                self.all += 2;
                self.barn += 1;
                self.stock += 1;
                self.irq_work = true;
                self.refill = short && !self.no_refill;
                self.check_limits();
            }
            Event::IrqWork if is(&mut self.irq_work) => {
                self.callbacks += std::mem::take(&mut self.waiting);
                self.monitor = true;
            }
            Event::Monitor if is(&mut self.monitor) => {
                self.callbacks += std::mem::take(&mut self.waiting);
                self.barn += std::mem::take(&mut self.stock);
                self.check_limits();
            }
            Event::Callback if self.callbacks > 0 => {
                self.callbacks -= 1;
                self.backlog += 1;
                self.backlog_work = true;
            }
            Event::Backlog if is(&mut self.backlog_work) => self.process_backlog(),
            Event::Trim if is(&mut self.trim) => {
                let excess = self.barn.saturating_sub(1);
                self.barn -= excess;
                self.all -= excess;
            }
            Event::Reap if is(&mut self.reap) => self.check_limits(),
            _ => {}
        }
    }

    fn process_backlog(&mut self) {
        self.barn += std::mem::take(&mut self.backlog);
        self.check_limits();
    }
}

struct Model {
    state: RefCell<State>,
    events: RefCell<Vec<Event>>,
    /// The sheaves were taken off the CPU: nothing may be queued for it any more.
    is_off: Cell<bool>,
}

impl Model {
    /// One step of the teardown; an event may run before it.
    fn step(&self, f: impl FnOnce(&mut State)) {
        let event = self.events.borrow_mut().pop();
        let mut state = self.state.borrow_mut();
        event.into_iter().for_each(|event| state.run(event));
        assert!(
            !self.is_off.get() || !state.monitor && !state.irq_work,
            "queued for a CPU that was emptied"
        );
        f(&mut state);
    }
}

impl Teardown for Model {
    type Cpu = ();

    fn each(&self, f: impl FnMut(&())) {
        [()].iter().for_each(f);
    }

    fn stop_refill(&self) {
        self.step(|state| {
            state.no_refill = true;
            state.refill = false;
        });
    }

    fn wait_for_irq_work(&self, (): &()) {
        self.step(|state| state.run(Event::IrqWork));
    }

    fn stop_monitor(&self, (): &()) {
        self.step(|state| state.monitor = false);
    }

    fn take_off(&self, (): &()) {
        self.step(|state| {
            state.barn += std::mem::take(&mut state.stock) + std::mem::take(&mut state.waiting);
            state.check_limits();
        });
        self.is_off.set(true);
    }

    fn wait_until_quiet(&self) {
        // It is counted.
        assert_eq!(self.state.borrow().waiting, 0, "waits for ever");
        while self.state.borrow().callbacks > 0 {
            self.step(|state| state.run(Event::Callback));
        }
    }

    fn stop_backlog(&self) {
        self.step(|state| state.backlog_work = false);
    }

    fn process_backlog(&self) {
        self.step(State::process_backlog);
    }

    fn stop_trim(&self) {
        self.step(|state| state.trim = false);
    }

    fn stop_reap(&self) {
        self.step(|state| state.reap = false);
    }

    fn empty_barns(&self) {
        self.step(|state| state.all -= std::mem::take(&mut state.barn));
    }
}

/// A cache in use.
fn state() -> impl Strategy<Value = State> {
    let sheaves = (0usize..3, 0usize..3, 0usize..3, 0usize..3, 0usize..4);
    let queued = any::<[bool; 5]>();
    (sheaves, queued).prop_map(|((stock, waiting, callbacks, backlog, barn), queued)| {
        let [refill, irq_work, monitor, trim, reap] = queued;
        State {
            all: stock + waiting + callbacks + backlog + barn,
            stock,
            waiting,
            callbacks,
            backlog,
            barn,
            refill,
            irq_work,
            monitor,
            backlog_work: backlog > 0,
            trim,
            reap,
            ..State::default()
        }
    })
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => Just(Event::Nothing),
        3 => any::<bool>().prop_map(|short| Event::Refill { short }),
        2 => Just(Event::IrqWork),
        2 => Just(Event::Monitor),
        2 => Just(Event::Callback),
        2 => Just(Event::Backlog),
        2 => Just(Event::Trim),
        2 => Just(Event::Reap),
    ];
    prop::collection::vec(event, 0..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]
    #[test]
    fn nothing_is_left(state in state(), events in events()) {
        let model = Model {
            state: RefCell::new(state),
            events: RefCell::new(events),
            is_off: Cell::new(false),
        };
        teardown(&model);
        let state = model.state.into_inner();
        prop_assert_eq!(state.all, 0, "sheaves are left");
        prop_assert!(state.is_idle(), "the cache is gone, and something runs");
    }
}
