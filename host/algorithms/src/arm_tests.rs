// SPDX-License-Identifier: GPL-2.0

//! Arming the monitor, in a model: contexts that decide under the lock and act without it,
//! interleaved at random. No object waits for a monitor that does not run, or runs too late.

use crate::rfc::arm::{self, Arming, Kick, Monitor, Timed};
use proptest::prelude::*;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
};

/// The number of objects that need the fast monitor.
const FAST: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Nothing,
    /// An object is queued on this CPU, by an NMI, an interrupt or a task.
    Push,
    /// The irq_work runs, if it is queued.
    IrqWork,
    /// Time passes.
    Time(usize),
    /// The work of the monitor runs, if its timer has expired.
    Monitor,
    /// A barrier or the shrinker removes all queued objects, and leaves the monitor alone.
    Drain,
    /// The drain interval is set.
    Interval(usize),
    /// The CPU dies: none of its contexts runs any more, nor its irq_work. Queued objects go into a
    /// batch unless all batches are `busy`.
    Dies {
        busy: bool,
    },
}

struct Cpu {
    arming: RefCell<Arming>,
    now: Cell<usize>,
    interval: Cell<usize>,
    queued: Cell<usize>,
    /// When the first of them has to be drained, by the current interval or a later shorter one.
    due: Cell<Option<usize>>,
    irq_work: Cell<bool>,
    timer: Cell<Option<usize>>,
    is_dead: Cell<bool>,
    events: RefCell<VecDeque<Event>>,
    depth: Cell<usize>,
}

impl Cpu {
    fn new(events: Vec<Event>) -> Self {
        Self {
            arming: RefCell::new(Arming::new()),
            now: Cell::new(usize::MAX - 50),
            interval: Cell::new(100),
            queued: Cell::new(0),
            due: Cell::new(None),
            irq_work: Cell::new(false),
            timer: Cell::new(None),
            is_dead: Cell::new(false),
            events: RefCell::new(events.into()),
            depth: Cell::new(0),
        }
    }

    fn wanted(&self) -> Monitor {
        match self.queued.get() {
            0 => Monitor::Idle,
            n if n >= FAST => Monitor::Fast,
            _ => Monitor::Slow,
        }
    }

    /// Runs the next event, as another context on this CPU or another one.
    fn event(&self) {
        if self.depth.get() == 4 {
            return;
        }
        let Some(event) = self.events.borrow_mut().pop_front() else {
            return;
        };
        self.depth.set(self.depth.get() + 1);
        self.run(event);
        self.depth.set(self.depth.get() - 1);
    }

    fn run(&self, event: Event) {
        match event {
            Event::Nothing => {}
            Event::Push | Event::IrqWork if self.is_dead.get() => {}
            Event::Push => {
                let kick = {
                    let mut arming = self.arming.borrow_mut();
                    self.queued.set(self.queued.get() + 1);
                    if self.due.get().is_none() {
                        self.due
                            .set(Some(self.now.get().wrapping_add(self.interval.get())));
                    }
                    let kick = if arming.needs_arming(self.wanted()) {
                        Kick::Lazy
                    } else {
                        Kick::No
                    };
                    arming.kick(kick)
                };
                self.event();
                if kick != Kick::No {
                    self.irq_work.set(true);
                }
            }
            Event::IrqWork => {
                if self.irq_work.replace(false) {
                    self.with_locked(|arming, _| arming.irq_work_runs());
                    arm::arm(self, 0);
                }
            }
            // Not between a decision and its action, where interrupts are off.
            Event::Time(_) if self.depth.get() > 1 => {}
            Event::Time(n) => self.now.set(self.now.get().wrapping_add(n)),
            Event::Monitor => {
                if self.is_fired() {
                    self.timer.set(None);
                    self.with_locked(|arming, _| arming.monitor_runs());
                    self.run(Event::Drain);
                    self.event();
                    arm::arm(self, 1);
                }
            }
            Event::Drain => {
                self.queued.set(0);
                self.due.set(None);
            }
            Event::Interval(n) => {
                self.interval.set(n);
                if let Some(due) = self.due.get() {
                    let at = self.now.get().wrapping_add(n);
                    if (due.wrapping_sub(at) as isize) > 0 {
                        self.due.set(Some(at));
                    }
                }
                self.event();
                arm::arm(self, 1);
            }
            // Not while contexts run on the CPU.
            Event::Dies { .. } if self.depth.get() > 1 => {}
            Event::Dies { busy } => {
                self.is_dead.set(true);
                self.irq_work.set(false);
                arm::cpu_dead(self);
                if !busy {
                    self.run(Event::Drain);
                }
                arm::arm(self, 1);
                self.is_dead.set(false);
            }
        }
    }

    fn is_fired(&self) -> bool {
        self.timer
            .get()
            .is_some_and(|at| at.wrapping_sub(self.now.get()) as isize <= 0)
    }

    /// All contexts are done, and irq_works run: queued objects have a timer that expires in time.
    fn check(&self) {
        self.events.borrow_mut().clear();
        let start = self.now.get();
        self.run(Event::IrqWork);
        if self.queued.get() == 0 {
            return;
        }
        let at = self.timer.get().expect("objects wait for no monitor");
        let left = at.wrapping_sub(start) as isize;
        if self.wanted() == Monitor::Fast {
            assert!(left <= 1, "a block's worth waits for {left} jiffies");
        }
        // The irq_work may have been late, so less than the interval may be left.
        let most = self.interval.get() as isize;
        assert!(left <= most, "objects wait for {left} jiffies of {most}");
    }
}

impl Timed for Cpu {
    fn with_locked<R>(&self, f: impl FnOnce(&mut Arming, Monitor) -> R) -> R {
        self.event();
        let ret = f(&mut self.arming.borrow_mut(), self.wanted());
        self.event();
        ret
    }

    fn now(&self) -> usize {
        self.now.get()
    }

    fn interval(&self) -> usize {
        self.interval.get()
    }

    fn set(&self, delay: usize) {
        self.event();
        self.timer.set(Some(self.now.get().wrapping_add(delay)));
        self.event();
    }

    fn cancel(&self) {
        self.event();
        self.timer.set(None);
        self.event();
    }
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => Just(Event::Nothing),
        5 => Just(Event::Push),
        4 => Just(Event::IrqWork),
        2 => (0usize..120).prop_map(Event::Time),
        3 => Just(Event::Monitor),
        1 => Just(Event::Drain),
        1 => (1usize..200).prop_map(Event::Interval),
        1 => any::<bool>().prop_map(|busy| Event::Dies { busy }),
    ];
    prop::collection::vec(event, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]
    #[test]
    fn nothing_waits_for_no_monitor(events in events()) {
        let cpu = Cpu::new(events);
        while !cpu.events.borrow().is_empty() {
            cpu.event();
        }
        cpu.check();
    }
}

/// The timer is set only if the monitor has to run, or to run sooner.
#[test]
fn timer_is_set_only_if_needed() {
    let cpu = Cpu::new(Vec::new());
    let set_for = |queued| {
        cpu.queued.set(queued);
        cpu.timer.set(None);
        arm::arm(&cpu, 1);
        cpu.timer.get().map(|at| at.wrapping_sub(cpu.now.get()))
    };
    assert_eq!(set_for(0), None);
    assert_eq!(set_for(1), Some(100));
    assert_eq!(set_for(1), None);
    // A shorter interval is applied at once, even if nothing is queued.
    cpu.interval.set(101);
    assert_eq!(set_for(1), None);
    cpu.interval.set(99);
    assert_eq!(set_for(0), Some(99));
    cpu.run(Event::Time(98));
    assert_eq!(set_for(1), None);
    assert_eq!(set_for(FAST), Some(1));
    assert_eq!(set_for(FAST), None);
    cpu.interval.set(10);
    assert_eq!(set_for(1), None);
    cpu.arming.borrow_mut().monitor_runs();
    assert_eq!(set_for(0), None);
    assert_eq!(set_for(FAST), Some(1));
}

/// needs_check() is true exactly if needs_arming() is for some monitor, and an irq_work is needed.
#[test]
fn needs_check_before_needs_arming() {
    let monitors = [Monitor::Idle, Monitor::Slow, Monitor::Fast];
    for (armed, queued) in [0, 1, FAST].into_iter().enumerate() {
        let cpu = Cpu::new(Vec::new());
        cpu.queued.set(queued);
        arm::arm(&cpu, 1);
        let arming = &mut *cpu.arming.borrow_mut();
        for (wanted, &monitor) in monitors.iter().enumerate() {
            assert_eq!(arming.needs_arming(monitor), wanted > armed);
        }
        for kick in [Kick::No, Kick::Lazy, Kick::Now] {
            for soonest in [Kick::Lazy, Kick::Now] {
                arming.irq_work_runs();
                arming.kick(kick);
                let needs_check = arming.needs_check(soonest);
                let needs_arming = monitors.iter().any(|&wanted| arming.needs_arming(wanted));
                assert_eq!(
                    needs_check,
                    needs_arming && arming.kick(soonest) != Kick::No
                );
            }
        }
    }
}
