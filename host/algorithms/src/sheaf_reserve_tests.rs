// SPDX-License-Identifier: GPL-2.0

//! The reserve: as many allocations as it has objects succeed, whoever holds the barn's lock and
//! whichever CPU comes first; and the ring compared with a queue.

use crate::{
    hook::hooked,
    sheaf_model::{ring, Flaw, Model},
};
use proptest::prelude::*;
use std::{cell::Cell, collections::VecDeque};

/// A task takes objects of the barn; at its step `at` an NMI takes one, possibly with the lock
/// held. Returns whether the NMI occurred; panics if it found nothing.
fn interrupted(at: usize, flaw: Flaw) -> bool {
    let model = Model::new(2, 3, 2, 40, flaw);
    model.prefill(1);
    let interrupt = move |(model, step, came): &(Model, Cell<usize>, Cell<bool>)| {
        let now = step.replace(step.get() + 1);
        if now == at && !came.replace(true) {
            model.nmi(0).alloc().expect("an NMI found nothing");
        }
    };
    let world = (model, Cell::new(0), Cell::new(false));
    let (model, _, came) = hooked(world, interrupt, |(model, ..)| {
        for _ in 0..4 {
            model.task(0).alloc();
        }
    });
    model.check_all();
    came.get()
}

/// An NMI while the interrupted code holds the barn's lock.
#[test]
fn locked_barn() {
    let steps = (0..).take_while(|&at| interrupted(at, Flaw::None)).count();
    assert!(steps > 20, "only {steps} steps");
}

#[test]
#[should_panic(expected = "an NMI found nothing")]
fn sees_a_barn_without_reserve() {
    (0..)
        .take_while(|&at| interrupted(at, Flaw::NoReserve))
        .for_each(drop);
}

#[derive(Clone, Debug)]
enum Step {
    Put,
    Take,
    TakeSurplus,
    Idle,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// After `prefill(n)`, n allocations of any CPUs succeed, whatever is in the barn.
    #[test]
    fn promised_objects_are_available(
        cpus in prop::collection::vec(0usize..3, 1..16),
        full in 0usize..4,
    ) {
        let model = Model::new(3, full, 2, 40, Flaw::None);
        model.prefill(cpus.len());
        for &cpu in &cpus {
            prop_assert!(model.nmi(cpu).alloc().is_some());
        }
        model.check_all();
    }

    #[test]
    fn queue(
        steps in prop::collection::vec(
            prop_oneof![
                5 => Just(Step::Put),
                3 => Just(Step::Take),
                1 => Just(Step::TakeSurplus),
                1 => Just(Step::Idle),
            ],
            1..200,
        ),
        slots in 0usize..9,
        keep in 0usize..5,
    ) {
        let ring = ring(slots, keep);
        let mut queue = VecDeque::new();
        let (mut next, mut taken, mut seen) = (0, 0, 0);
        for step in steps {
            match step {
                Step::Put => {
                    next += 8;
                    let room = queue.len() < slots;
                    prop_assert_eq!(ring.put(next), room);
                    if room {
                        queue.push_back(next);
                    }
                }
                Step::Take => {
                    taken += usize::from(!queue.is_empty());
                    prop_assert_eq!(ring.take(), queue.pop_front());
                }
                Step::TakeSurplus => {
                    let surplus = (queue.len() > keep).then(|| queue.pop_front()).flatten();
                    taken += usize::from(surplus.is_some());
                    prop_assert_eq!(ring.take_surplus(), surplus);
                }
                Step::Idle => {
                    let idle = if taken == seen { queue.len().saturating_sub(keep) } else { 0 };
                    seen = taken;
                    prop_assert_eq!(ring.idle(), idle);
                }
            }
            prop_assert_eq!((ring.len(), ring.keep()), (queue.len(), keep));
            prop_assert_eq!(ring.missing(), slots - queue.len());
            // Promised objects are no surplus.
            prop_assert_eq!(ring.is_short(), queue.len() < keep);
            prop_assert_eq!(ring.surplus(), queue.len().saturating_sub(keep));
        }
    }
}
