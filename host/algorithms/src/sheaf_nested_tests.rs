// SPDX-License-Identifier: GPL-2.0

//! NMIs at every step of the operations of a cache: each is interrupted before each of its steps by
//! others, and these again, for every choice of two steps. No object is allocated twice or early,
//! and no object or sheaf is lost.

use super::nested_tests::plans;
use crate::{
    hook::hooked,
    sheaf_model::{Ctx, Flaw, Model},
};
use std::cell::{Cell, RefCell};

/// What a context does.
#[derive(Clone, Copy, Debug)]
enum Act {
    Alloc,
    FreeRcu,
    Free,
    /// Allocates and frees two objects.
    Round,
    /// The tick.
    Tick,
    /// Callbacks of grace periods that are over.
    Callbacks,
    /// The monitor, for sheaves that have been there for a drain interval, or have not.
    Monitor {
        is_due: bool,
    },
    /// Another CPU takes the lock of the barn, or releases it.
    HoldBarn,
}

const ACTS: [Act; 7] = [
    Act::Alloc,
    Act::FreeRcu,
    Act::Free,
    Act::Round,
    Act::Tick,
    Act::Callbacks,
    Act::HoldBarn,
];

/// A run with one choice of interrupts.
struct Run {
    model: Model,
    /// Steps at which an interrupt occurs, counted through all contexts, and what it does.
    plan: Vec<(usize, Act)>,
    step: Cell<usize>,
    depth: Cell<usize>,
    held: RefCell<Vec<usize>>,
}

impl Run {
    fn at(&self) -> Ctx<'_> {
        match self.depth.get() {
            0 => self.model.task(0),
            _ => self.model.nmi(0),
        }
    }

    fn act(&self, act: Act) {
        let take = || {
            let object = self.at().alloc();
            self.held.borrow_mut().extend(object);
        };
        let give = || {
            let object = self.held.borrow_mut().pop();
            object.map(|object| self.at().free_rcu(object))
        };
        match act {
            Act::Alloc => take(),
            Act::FreeRcu => drop(give()),
            Act::Free => {
                let object = self.held.borrow_mut().pop();
                object.into_iter().for_each(|o| self.at().free(o));
            }
            Act::Round => {
                take();
                take();
                give();
                give();
            }
            Act::Tick => {
                self.model.books().irq_work_queued.remove(&0);
                self.at().tick();
            }
            Act::HoldBarn => self.model.books().barn_is_held ^= true,
            Act::Monitor { is_due } => self.model.monitor(0, is_due),
            Act::Callbacks => {
                // Callbacks take the barn's lock with interrupts off: not while it is held.
                if self.depth.get() == 0 {
                    self.model.callbacks();
                }
            }
        }
    }

    fn hook(&self) {
        self.model.check_barrier();
        let step = self.step.replace(self.step.get() + 1);
        for &(at, act) in &self.plan {
            if at == step {
                self.depth.set(self.depth.get() + 1);
                self.act(act);
                self.depth.set(self.depth.get() - 1);
            }
        }
    }
}

/// What the task does. A grace period ends before `Callbacks`.
const SCRIPT: [Act; 18] = [
    Act::Alloc,
    Act::Alloc,
    Act::Alloc,
    Act::FreeRcu,
    Act::FreeRcu,
    Act::FreeRcu,
    Act::Callbacks,
    Act::Alloc,
    Act::Free,
    Act::Round,
    Act::Tick,
    Act::Monitor { is_due: false },
    Act::Callbacks,
    Act::Round,
    Act::Alloc,
    Act::FreeRcu,
    Act::Tick,
    Act::Monitor { is_due: true },
];

/// Runs the script with `full` sheaves of `capacity` under `plan`. Returns the number of steps;
/// panics on errors.
fn run(
    (full, capacity): (usize, usize),
    max_sheaves: usize,
    plan: Vec<(usize, Act)>,
    flaw: Flaw,
) -> usize {
    let run = Run {
        model: Model::new(1, full, capacity, max_sheaves, flaw),
        plan,
        step: Cell::new(0),
        depth: Cell::new(0),
        held: RefCell::new(Vec::new()),
    };
    let run = hooked(run, Run::hook, |run| {
        for act in SCRIPT {
            if matches!(act, Act::Callbacks) {
                run.model.grace_period();
            }
            run.act(act);
            assert!(
                run.model.is_irq_work_queued(0),
                "closed sheaves wait for no tick"
            );
            assert!(
                run.model.is_monitored(0),
                "what is on the CPU waits for no monitor"
            );
        }
    });
    run.model.check_all();
    run.step.get()
}

/// Every choice of `depth` steps and acts, with the number and capacity of full sheaves in `stock`.
/// Two may occur at the same step, one after the other.
fn all_plans(stock: (usize, usize), max_sheaves: usize, depth: usize, flaw: Flaw) -> usize {
    plans(&mut Vec::new(), &ACTS, 0, depth, &|plan| {
        run(stock, max_sheaves, plan, flaw)
    })
}

#[test]
fn interrupted_at_every_step() {
    let runs = all_plans((2, 2), 16, 2, Flaw::None);
    assert!(runs > 50_000, "only {runs} plans");
}

/// Objects that find no sheaf go to the engine, and none is lost.
#[test]
fn sheaves_run_out() {
    for max_sheaves in 2..4 {
        all_plans((2, 2), max_sheaves, 2, Flaw::None);
        all_plans((2, 1), max_sheaves, 1, Flaw::None);
    }
}

tests! {
    interrupted_with_sheaves_of_one: all_plans((2, 1), 16, 2, Flaw::None);
    interrupted_with_sheaves_of_four: all_plans((2, 4), 16, 2, Flaw::None);
    /// More stock than the CPU holds, and a locked barn: full sheaves are sent through a grace
    /// period.
    interrupted_with_a_surplus: all_plans((4, 2), 16, 2, Flaw::None);
    sees_a_reservation_in_two_steps, "sheaves there and made":
        all_plans((2, 2), 16, 1, Flaw::ReserveInTwoSteps);
    sees_a_reuse_slot_emptied_in_two_steps, "allocated twice":
        all_plans((2, 2), 16, 2, Flaw::ReuseInTwoSteps);
    /// The sheaf that an interrupt installed is lost.
    sees_that_an_exchange_does_not_bar, "there and":
        all_plans((2, 2), 16, 1, Flaw::ExchangeDoesNotBar);
    /// A context was about to read the last slot.
    sees_an_emptied_sheaf_that_was_not_awaited, "allocated":
        all_plans((2, 2), 16, 1, Flaw::EmptiedNotAwaited);
    sees_a_filled_sheaf_that_was_not_awaited, "allocated":
        all_plans((2, 2), 16, 1, Flaw::FilledNotAwaited);
    sees_that_stock_is_destructed, "destructed without a use":
        all_plans((4, 2), 16, 2, Flaw::StockDestructed);
}
