// SPDX-License-Identifier: GPL-2.0

//! The end of a cache against a model of what works on it: whichever of it runs between two steps, nothing is
//! left of the cache afterwards, and nothing is queued.

use crate::sheaves::teardown::{teardown, Teardown};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};

/// What may run.
#[derive(Clone, Copy, Debug)]
enum Event {
    Nothing,
    /// The refill worker, which may find that memory is short.
    Refill {
        short: bool,
    },
    Kick,
    Monitor,
    Callback,
    Backlog,
    Trim,
    Reap,
}

/// Sheaves, by where they are, and what is queued.
#[derive(Clone, Debug, Default)]
struct Places {
    /// In memory.
    all: usize,
    /// On the CPU: spares, and what waits for a grace period.
    stock: usize,
    waiting: usize,
    callbacks: usize,
    backlog: usize,
    barn: usize,
    refill: bool,
    no_refill: bool,
    kick: bool,
    monitor: bool,
    take_in: bool,
    trim: bool,
    reap: bool,
}

impl Places {
    /// Whether no event finds anything to run.
    fn is_idle(&self) -> bool {
        let queued =
            self.refill || self.kick || self.monitor || self.take_in || self.trim || self.reap;
        !queued && self.callbacks == 0
    }

    fn look_after(&mut self) {
        self.trim |= self.barn > 1;
        self.reap |= self.barn > 0;
    }

    fn run(&mut self, event: Event) {
        let is = |queued: &mut bool| std::mem::take(queued);
        match event {
            Event::Nothing => {}
            Event::Refill { short } if is(&mut self.refill) => {
                // A sheaf for the barn, and one that the CPU keeps, which the irq_work is queued for.
                self.all += 2;
                self.barn += 1;
                self.stock += 1;
                self.kick = true;
                self.refill = short && !self.no_refill;
                self.look_after();
            }
            Event::Kick if is(&mut self.kick) => {
                self.callbacks += std::mem::take(&mut self.waiting);
                self.monitor = true;
            }
            Event::Monitor if is(&mut self.monitor) => {
                self.callbacks += std::mem::take(&mut self.waiting);
                self.barn += std::mem::take(&mut self.stock);
                self.look_after();
            }
            Event::Callback if self.callbacks > 0 => {
                self.callbacks -= 1;
                self.backlog += 1;
                self.take_in = true;
            }
            Event::Backlog if is(&mut self.take_in) => self.process_backlog(),
            Event::Trim if is(&mut self.trim) => {
                let excess = self.barn.saturating_sub(1);
                self.barn -= excess;
                self.all -= excess;
            }
            Event::Reap if is(&mut self.reap) => self.look_after(),
            _ => {}
        }
    }

    fn process_backlog(&mut self) {
        self.barn += std::mem::take(&mut self.backlog);
        self.look_after();
    }
}

struct Model {
    places: RefCell<Places>,
    events: RefCell<Vec<Event>>,
    /// Something was taken off the CPU, which nothing works on from here on.
    is_off: Cell<bool>,
}

impl Model {
    /// Some may run first.
    fn step(&self, f: impl FnOnce(&mut Places)) {
        let event = self.events.borrow_mut().pop();
        let mut places = self.places.borrow_mut();
        event.into_iter().for_each(|event| places.run(event));
        assert!(
            !self.is_off.get() || !places.monitor && !places.kick,
            "queued for a CPU that was emptied"
        );
        f(&mut places);
    }
}

impl Teardown for Model {
    type Cpu = ();

    fn each(&self, f: impl FnMut(&())) {
        [()].iter().for_each(f);
    }

    fn stop_refill(&self) {
        self.step(|places| {
            places.no_refill = true;
            places.refill = false;
        });
    }

    fn wait_for_irq_work(&self, (): &()) {
        self.step(|places| places.run(Event::Kick));
    }

    fn stop_monitor(&self, (): &()) {
        self.step(|places| places.monitor = false);
    }

    fn take_off(&self, (): &()) {
        self.step(|places| {
            places.barn += std::mem::take(&mut places.stock) + std::mem::take(&mut places.waiting);
            places.look_after();
        });
        self.is_off.set(true);
    }

    fn wait_until_quiet(&self) {
        // It is counted.
        assert_eq!(self.places.borrow().waiting, 0, "waits for ever");
        while self.places.borrow().callbacks > 0 {
            self.step(|places| places.run(Event::Callback));
        }
    }

    fn stop_backlog(&self) {
        self.step(|places| places.take_in = false);
    }

    fn process_backlog(&self) {
        self.step(Places::process_backlog);
    }

    fn stop_trim(&self) {
        self.step(|places| places.trim = false);
    }

    fn stop_reap(&self) {
        self.step(|places| places.reap = false);
    }

    fn empty_barns(&self) {
        self.step(|places| places.all -= std::mem::take(&mut places.barn));
    }
}

/// A cache in use.
fn places() -> impl Strategy<Value = Places> {
    let sheaves = (0usize..3, 0usize..3, 0usize..3, 0usize..3, 0usize..4);
    let queued = any::<[bool; 5]>();
    (sheaves, queued).prop_map(|((stock, waiting, callbacks, backlog, barn), queued)| {
        let [refill, kick, monitor, trim, reap] = queued;
        Places {
            all: stock + waiting + callbacks + backlog + barn,
            stock,
            waiting,
            callbacks,
            backlog,
            barn,
            refill,
            kick,
            monitor,
            take_in: backlog > 0,
            trim,
            reap,
            ..Places::default()
        }
    })
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => Just(Event::Nothing),
        3 => any::<bool>().prop_map(|short| Event::Refill { short }),
        2 => Just(Event::Kick),
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
    fn nothing_is_left(places in places(), events in events()) {
        let model = Model {
            places: RefCell::new(places),
            events: RefCell::new(events),
            is_off: Cell::new(false),
        };
        teardown(&model);
        let places = model.places.into_inner();
        prop_assert_eq!(places.all, 0, "sheaves are left");
        prop_assert!(places.is_idle(), "the cache is gone, and something runs");
    }
}
