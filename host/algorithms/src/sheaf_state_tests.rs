// SPDX-License-Identifier: GPL-2.0

//! Random runs of a cache: several CPUs allocate and free, are interrupted, die and return, while
//! grace periods end; and a barn compared with counters. Nothing is allocated twice or early,
//! nothing is lost, and the barn's surplus is right.

use crate::{
    hook::hooked,
    sheaf_model::{Ctx, Flaw, Memory, Model},
    sheaves::{
        barn::{Stock, Surplus},
        geometry::{self, Slot, SLOTS},
        sheaf::{Closed, EmptySheaf, FullSheaf, Install, Installed, Rest, SheafChain, Stamp},
    },
};
use proptest::prelude::*;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
};

const CPUS: usize = 3;

/// With the CPU, and the index of an allocated object.
#[derive(Clone, Debug)]
enum Step {
    /// Preemptible or not.
    Alloc(usize, bool),
    FreeRcu(usize, usize),
    Free(usize, usize),
    Slab,
    Tick(usize),
    /// The monitor, or the end of a CPU.
    TakeOff(usize),
    GpSnapshot,
    Callbacks,
}

/// An interrupt: after how many steps of the interrupted operation, and whether it frees.
type Interrupt = (usize, bool);

fn steps() -> impl Strategy<Value = Vec<(Step, Vec<Interrupt>)>> {
    let cpu = 0..CPUS;
    let step = prop_oneof![
        8 => (cpu.clone(), any::<bool>()).prop_map(|(cpu, task)| Step::Alloc(cpu, task)),
        8 => (cpu.clone(), 0usize..64).prop_map(|(cpu, which)| Step::FreeRcu(cpu, which)),
        3 => (cpu.clone(), 0usize..64).prop_map(|(cpu, which)| Step::Free(cpu, which)),
        1 => Just(Step::Slab),
        2 => cpu.clone().prop_map(Step::Tick),
        1 => cpu.prop_map(Step::TakeOff),
        3 => Just(Step::GpSnapshot),
        3 => Just(Step::Callbacks),
    ];
    let interrupts = prop::collection::vec((0usize..24, any::<bool>()), 0..4);
    prop::collection::vec((step, interrupts), 1..200)
}

struct World {
    model: Model,
    held: RefCell<VecDeque<usize>>,
    /// Pending interrupts of this operation, and its CPU.
    interrupts: RefCell<Vec<Interrupt>>,
    cpu: Cell<usize>,
    depth: Cell<usize>,
}

impl World {
    fn at(&self, cpu: usize, preemptible: bool) -> Ctx<'_> {
        let task = self.depth.get() == 0;
        Ctx {
            preemptible: preemptible && task,
            may_wait: task,
            ..self.model.task(cpu)
        }
    }

    fn give(&self, cpu: usize, which: usize, later: bool) {
        let object = {
            let mut held = self.held.borrow_mut();
            let n = held.len().max(1);
            held.remove(which % n)
        };
        let Some(object) = object else { return };
        if later {
            self.at(cpu, true).free_rcu(object);
        } else {
            self.at(cpu, true).free(object);
        }
    }

    fn take(&self, cpu: usize, preemptible: bool) {
        let object = self.at(cpu, preemptible).alloc();
        self.held.borrow_mut().extend(object);
    }

    fn hook(&self) {
        let due = {
            let mut interrupts = self.interrupts.borrow_mut();
            for interrupt in interrupts.iter_mut() {
                interrupt.0 = interrupt.0.wrapping_sub(1);
            }
            let due = interrupts.iter().position(|i| i.0 == usize::MAX);
            due.map(|i| interrupts.remove(i))
        };
        if let Some((_, gives)) = due {
            self.depth.set(self.depth.get() + 1);
            let cpu = self.cpu.get();
            self.take(cpu, false);
            if gives {
                self.give(cpu, 0, true);
                self.give(cpu, 1, true);
            }
            self.depth.set(self.depth.get() - 1);
        }
    }

    fn run(&self, step: Step) {
        match step {
            Step::Alloc(cpu, preemptible) => self.take(cpu, preemptible),
            Step::FreeRcu(cpu, which) => self.give(cpu, which, true),
            Step::Free(cpu, which) => self.give(cpu, which, false),
            Step::Slab => self.held.borrow_mut().push_back(self.model.from_slab()),
            Step::Tick(cpu) => self.at(cpu, false).tick(),
            Step::TakeOff(cpu) => self.model.take_off(cpu),
            Step::GpSnapshot => self.model.grace_period(),
            Step::Callbacks => self.model.callbacks(),
        }
    }
}

fn run_random(steps: Vec<(Step, Vec<Interrupt>)>, capacity: usize, max_sheaves: usize, flaw: Flaw) {
    let world = World {
        model: Model::new(CPUS, 2, capacity, max_sheaves, flaw),
        held: RefCell::new(VecDeque::new()),
        interrupts: RefCell::new(Vec::new()),
        cpu: Cell::new(0),
        depth: Cell::new(0),
    };
    let world = hooked(world, World::hook, |world| {
        for (step, interrupts) in steps {
            if let Step::Alloc(cpu, _) | Step::FreeRcu(cpu, _) | Step::Free(cpu, _) = step {
                world.cpu.set(cpu);
                *world.interrupts.borrow_mut() = interrupts;
            }
            world.run(step);
            world.interrupts.borrow_mut().clear();
        }
    });
    world.model.check_all();
}

fn objects_of(full: FullSheaf) -> (Vec<usize>, EmptySheaf) {
    let mut out = [std::ptr::null_mut(); SLOTS];
    let (n, empty) = full.empty_into(&mut out);
    (out[..n].iter().map(|o| o.addr()).collect(), empty)
}

/// Removes the objects of a sheaf from `objects`.
fn remove_objects(full: Option<FullSheaf>, objects: &mut Vec<usize>) {
    for object in full.into_iter().flat_map(|full| objects_of(full).0) {
        let at = objects.iter().position(|&o| o == object);
        objects.swap_remove(at.expect("an object is there twice"));
    }
}

fn take_off(stock: &mut Stock, surplus: Surplus, objects: &mut Vec<usize>) {
    (0..surplus.full).for_each(|_| remove_objects(stock.take_full(), objects));
    (0..surplus.empty).for_each(|_| assert!(stock.take_empty().is_some()));
}

#[derive(Clone, Debug)]
enum BarnStep {
    PutFull,
    PutEmpty,
    TakeFull,
    TakeEmpty,
    PutRemote,
    Allow(usize),
    Trim,
    Reap,
}

fn barn_steps() -> impl Strategy<Value = Vec<BarnStep>> {
    let step = prop_oneof![
        4 => Just(BarnStep::PutFull),
        4 => Just(BarnStep::PutEmpty),
        4 => Just(BarnStep::TakeFull),
        4 => Just(BarnStep::TakeEmpty),
        6 => Just(BarnStep::PutRemote),
        1 => (0usize..4).prop_map(BarnStep::Allow),
        1 => Just(BarnStep::Trim),
        2 => Just(BarnStep::Reap),
    ];
    prop::collection::vec(step, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn lives(steps in steps(), capacity in 1usize..=SLOTS, max_sheaves in 2usize..40) {
        run_random(steps, capacity, max_sheaves, Flaw::None);
    }

    #[test]
    fn barn(steps in barn_steps(), limit in 1usize..6) {
        let mut memory = Memory::default();
        let mut stock = Stock::new(limit);
        let mut more = 0;
        // The smallest stock since the last reap.
        let (mut low_full, mut low_empty) = (0, 0);
        let (mut next, mut objects) = (0usize, Vec::new());
        let mut new_object = |objects: &mut Vec<usize>| {
            next += 8;
            objects.push(next);
            next
        };
        for step in steps {
            match step {
                BarnStep::PutFull => {
                    let pair = [(); 2].map(|()| new_object(&mut objects));
                    stock.put_full(memory.full(&pair));
                }
                BarnStep::PutEmpty => stock.put_empty(memory.sheaf()),
                BarnStep::TakeFull => {
                    let had = stock.nr_full() > 0 || stock.remote_frees.is_some();
                    let full = stock.take_full();
                    prop_assert_eq!(full.is_some(), had);
                    remove_objects(full, &mut objects);
                }
                BarnStep::TakeEmpty => {
                    let had = stock.nr_empty();
                    prop_assert_eq!(stock.take_empty().is_some(), had > 0);
                }
                BarnStep::PutRemote => {
                    let object = new_object(&mut objects);
                    if !stock.put_remote(object, 2) {
                        prop_assert_eq!(stock.nr_empty(), 0);
                        objects.pop();
                    }
                }
                BarnStep::Allow(sheaves) => {
                    more = sheaves;
                    stock.allow(sheaves);
                }
                BarnStep::Trim => {
                    let excess = stock.excess();
                    take_off(&mut stock, excess, &mut objects);
                    prop_assert!(stock.nr_full() <= limit + more);
                    prop_assert!(stock.nr_empty() <= limit + more);
                    prop_assert_eq!(stock.excess(), Surplus::default());
                }
                BarnStep::Reap => {
                    let idle = stock.idle();
                    let (full, empty) = (low_full, low_empty);
                    prop_assert_eq!(idle, Surplus { full, empty });
                    take_off(&mut stock, idle, &mut objects);
                    (low_full, low_empty) = (stock.nr_full(), stock.nr_empty());
                }
            }
            low_full = low_full.min(stock.nr_full());
            low_empty = low_empty.min(stock.nr_empty());
            // A refill serves the misses, and is no surplus.
            for missed in [0, 1, 7, 1000] {
                let wanted = stock.wanted(missed, 2);
                prop_assert!(wanted == 0 || stock.nr_full() + wanted <= limit);
                prop_assert!(2 * wanted >= missed || stock.nr_full() + wanted >= limit);
            }
        }
        // Without operations the reaper finishes.
        for _ in 0..4 {
            let idle = stock.idle();
            take_off(&mut stock, idle, &mut objects);
        }
        prop_assert!(!stock.may_idle());
        prop_assert!(objects.is_empty(), "objects are lost: {:?}", objects);
    }

    /// One sheaf, compared with a vector.
    #[test]
    fn sheaf(objects in prop::collection::vec(1usize..6, 1..=SLOTS), drops in any::<[bool; 6]>()) {
        let mut memory = Memory::default();
        let full = memory.full(&objects);
        prop_assert_eq!(full.start(), SLOTS - objects.len());
        prop_assert!(full.slots().iter().map(Slot::load).eq(objects.iter().copied()));
        let is_wanted = |object: usize| !drops[object];
        let wanted: Vec<usize> = objects.iter().copied().filter(|&o| is_wanted(o)).collect();
        prop_assert_eq!(full.all(is_wanted), wanted.len() == objects.len());
        let (kept, empty) = match full.retain(is_wanted) {
            Rest::Full(full) => objects_of(full),
            Rest::Empty(empty) => (Vec::new(), empty),
        };
        prop_assert_eq!(kept, wanted);
        // From one object up to the capacity, and down again.
        let mut full = empty.start(1, objects[0]).done();
        for (i, &object) in objects.iter().enumerate().skip(1) {
            prop_assert!(!full.push(object, i));
            prop_assert!(full.push(object, i + 1));
        }
        for &object in objects.iter().rev() {
            let (popped, rest) = full.pop();
            prop_assert_eq!(popped, object);
            match rest {
                Rest::Full(rest) => full = rest,
                Rest::Empty(empty) => full = empty.start(1, 1).done(),
            }
        }
    }
}

fn sees(flaw: Flaw) {
    use proptest::test_runner::{Config, TestRunner};

    let config = Config {
        cases: 4000,
        failure_persistence: None,
        max_shrink_iters: 0,
        ..Config::default()
    };
    let seen = TestRunner::new(config).run(&(steps(), 1usize..=SLOTS), |(steps, capacity)| {
        run_random(steps, capacity, 40, flaw);
        Ok(())
    });
    assert!(seen.is_err(), "{flaw:?} was not seen");
}

#[test]
fn sees_flaws() {
    // Other flaws may make a list cyclic: the nested tests have these.
    sees(Flaw::EmptiedNotAwaited);
    sees(Flaw::FilledNotAwaited);
}

/// Each miss adds eight objects, up to the limit; what is above it is excess, but for what is
/// allowed on top.
#[test]
fn barn_has_limits() {
    let mut memory = Memory::default();
    let mut stock = Stock::new(4);
    assert!(!stock.may_idle());
    for (missed, capacity, sheaves) in [
        (0, 4, 0),
        (1, 16, 1),
        (1, 8, 1),
        (1, 4, 2),
        (3, 8, 3),
        (100, 4, 4),
        (1, 0, 4),
    ] {
        assert_eq!(stock.wanted(missed, capacity), sheaves);
    }
    stock.put_full(memory.full(&[8]));
    assert!(stock.may_idle());
    assert_eq!(stock.wanted(100, 4), 3);
    stock.put_full(memory.full(&[8]));
    (0..3).for_each(|_| stock.put_empty(memory.sheaf()));
    assert_eq!(stock.excess(), Surplus::default());
    stock.set_limit(1);
    assert_eq!(stock.wanted(100, 4), 0);
    assert_eq!(stock.excess(), Surplus { full: 1, empty: 2 });
    stock.allow(1);
    assert_eq!(stock.excess(), Surplus { full: 0, empty: 1 });
    // Each kind alone counts.
    let mut stock = Stock::new(4);
    stock.put_empty(memory.sheaf());
    assert!(stock.may_idle());
    assert!(stock.put_remote(8, 2));
    assert_eq!((stock.nr_full(), stock.nr_empty()), (0, 0));
    assert!(stock.may_idle());
    // It stays while other objects are added.
    stock.idle();
    assert_eq!(stock.nr_full(), 0);
    stock.idle();
    assert_eq!(stock.nr_full(), 1);
}

/// A closed sheaf that was installed, with `n` objects.
fn filled(memory: &mut Memory, n: usize, stamp: u32) -> Closed {
    let filling = memory.sheaf().start(SLOTS - 1, 8);
    // SAFETY: In the sheaf, which is not used otherwise.
    let installed = unsafe { Installed::from_slot(filling.first_slot()) };
    Closed::filled(installed, 1 + n, Stamp::of(stamp))
}

/// The state of a chain is kept through a list and through RCU.
#[test]
fn chains() {
    let mut memory = Memory::default();
    assert!(SheafChain::new().is_empty() && SheafChain::new().into_rcu_head(1).is_none());
    assert_eq!(SheafChain::new().into_first(), 0);
    let owner: *const () = std::ptr::from_ref(&memory).cast();
    let mut chain = SheafChain::new();
    chain.count(|| panic!("there is none"));
    chain.push(filled(&mut memory, 2, 4));
    let sheaf = memory.sheaf().into_memory();
    // SAFETY: That of a sheaf.
    chain.push(unsafe { EmptySheaf::from_memory(sheaf, owner) }.into_closed());
    let mut newer = SheafChain::new();
    newer.push(memory.full(&[8]).into_closed(Stamp::of(5)));
    newer.push(filled(&mut memory, 3, 6));
    chain.append(newer);
    chain.append(SheafChain::new());
    assert_eq!((chain.len(), chain.nr_full()), (4, 3));
    // The first sheaf has a stamp.
    chain.count(|| panic!("it is counted"));
    // SAFETY: From there.
    let mut chain = unsafe { SheafChain::from_first(chain.into_first()) };
    assert_eq!((chain.len(), chain.nr_full()), (4, 3));
    let expected = [(Some((3, geometry::now())), true, 7), (None, false, 6)];
    for (waiting, holds_freed, number) in expected {
        let mut sheaf = chain.pop().expect("there are more");
        assert_eq!(sheaf.waiting(), waiting);
        assert_eq!(sheaf.holds_freed(), holds_freed);
        assert_eq!(sheaf.take_stamp().map(|stamp| stamp.number()), Some(number));
        assert!(sheaf.take_stamp().is_none());
    }
    assert_eq!((chain.len(), chain.nr_full()), (2, 1));
    chain.count(|| Stamp::of(8));
    let head = chain.into_rcu_head(3).expect("there are two");
    // SAFETY: From there.
    let (mut chain, origin) = unsafe { SheafChain::from_rcu_head(head.as_ptr().addr()) };
    assert_eq!((origin.owner, origin.node), (owner, 3));
    assert_eq!((chain.len(), chain.nr_full()), (2, 1));
    let numbers = std::iter::from_fn(|| Some(chain.pop()?.take_stamp()?.number()));
    assert!(numbers.eq([9, 5]));
    assert!(chain.is_empty() && chain.len() == 0);
}

/// Emptying a barn returns everything in it.
#[test]
fn barn_is_emptied() {
    let mut memory = Memory::default();
    let mut stock = Stock::new(4);
    stock.put_full(memory.full(&[8]));
    (0..3).for_each(|_| stock.put_empty(memory.sheaf()));
    assert!(stock.put_remote(16, 2));
    let (mut full, empty) = stock.take_all();
    assert_eq!((full.len(), empty.len()), (2, 2));
    let objects = std::iter::from_fn(|| Some(objects_of(full.pop()?).0));
    assert!(objects.eq([vec![16], vec![8]]));
    assert_eq!((stock.nr_full(), stock.nr_empty()), (0, 0));
    assert!(!stock.may_idle());
}
