// SPDX-License-Identifier: GPL-2.0

//! What a cache may pile up, and how long one step of it may take: one CPU allocates in each kind of
//! context, another frees, and no CPU does anything else.

use crate::{
    sheaf::{
        exchange::{self, Cpu},
        geometry::{visits, SLOTS},
    },
    sheaf_model::{set_hook, At, Flaw, Model},
};
use std::collections::VecDeque;

/// Objects in circulation.
const OBJECTS: usize = 64;

fn at(model: &Model, cpu: usize, may_wait: bool) -> At<'_> {
    At {
        model,
        cpu,
        context: 0,
        preemptible: false,
        may_wait,
    }
}

/// `passes` objects go from CPU 0, which allocates where it can't be preempted, to CPU 1, which
/// frees them. A tick and a grace period come after every `every` of them. Returns the most spent
/// sheaves that were seen on CPU 0 after a tick.
fn pass(model: &Model, passes: usize, every: usize, may_wait: bool) -> usize {
    let (mut held, mut most) = (VecDeque::new(), 0);
    for i in 0..passes {
        held.push_back(
            at(model, 0, may_wait)
                .alloc()
                .unwrap_or_else(|| model.from_slab()),
        );
        if held.len() > OBJECTS {
            let object = held.pop_front().unwrap();
            at(model, 1, true).free_rcu(object);
        }
        if i % every == 0 {
            if model.rang(0) {
                at(model, 0, false).tick();
            }
            most = most.max(model.count_spent(0));
            model.grace_period();
            model.callbacks();
        }
    }
    for object in held {
        at(model, 1, true).free_rcu(object);
    }
    most
}

#[test]
fn spent_sheaves_do_not_pile_up() {
    set_hook(None);
    for may_wait in [true, false] {
        let model = Model::new(2, 2, SLOTS, usize::MAX, Flaw::None);
        let most = pass(&model, 400_000, 400, may_wait);
        let sheaves = model.sheaves();
        assert!(
            most < exchange::MAX_SPENT && sheaves < 400,
            "{most} spent sheaves, {sheaves} in all, may_wait={may_wait}"
        );
        model.end();
    }
}

/// The backlog of a CPU that had interrupts off for long.
#[test]
fn tick_does_not_walk() {
    set_hook(None);
    let mut took = Vec::new();
    for objects in [40, 100_000] {
        let model = Model::new(1, 0, SLOTS, usize::MAX, Flaw::None);
        let cpu = at(&model, 0, false);
        for _ in 0..objects {
            cpu.free_rcu(model.from_slab());
        }
        // What is emptied stays as well.
        at(&model, 0, true).tick();
        model.grace_period();
        model.callbacks();
        for _ in 0..objects / 2 {
            let object = cpu.alloc().expect("all of them came back");
            cpu.free_rcu(object);
        }
        let before = visits();
        cpu.tick();
        took.push(visits() - before);
        model.end();
    }
    assert!(
        took[1] == took[0] && took[1] < 20,
        "heads visited by a tick: {took:?}"
    );
}
