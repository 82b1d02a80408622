// SPDX-License-Identifier: GPL-2.0

//! Bounds: how many sheaves a cache may accumulate, and how long one step may take. One CPU
//! allocates in each kind of context, another frees, and no CPU does anything else.

use crate::{
    hook::hooked,
    platform::LocalWord,
    sheaf_model::{Ctx, Flaw, Memory, Model},
    sheaves::{
        arm::{Deadline, Reaper},
        cursor::{next_slot, DISABLED, NONE},
        double::Marks,
        exchange::{self, CacheCpu},
        fastpath::{self, FastPath, Freed, Missed},
        geometry::{visits, SLOTS},
    },
};
use proptest::prelude::*;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
};

/// Objects in circulation.
const OBJECTS: usize = 64;

fn at(model: &Model, cpu: usize, may_wait: bool) -> Ctx<'_> {
    Ctx {
        may_wait,
        ..model.nmi(cpu)
    }
}

/// A cache with one CPU.
fn alone(full: usize, capacity: usize) -> Model {
    Model::new(1, full, capacity, usize::MAX, Flaw::None)
}

/// CPU 0 allocates objects where it can't be preempted, and CPU 1 frees them. A tick and a grace
/// period follow every 400 of them.
#[test]
fn spent_sheaves_do_not_pile_up() {
    for may_wait in [true, false] {
        let model = Model::new(2, 2, SLOTS, usize::MAX, Flaw::None);
        let (mut held, mut most) = (VecDeque::new(), 0);
        for i in 0..400_000 {
            let object = at(&model, 0, may_wait).alloc();
            held.push_back(object.unwrap_or_else(|| model.from_slab()));
            if held.len() > OBJECTS {
                let object = held.pop_front().unwrap();
                at(&model, 1, true).free_rcu(object);
            }
            if i % 400 == 0 {
                if model.books().irq_work_queued.remove(&0) {
                    model.nmi(0).tick();
                }
                most = most.max(model.count_spent(0));
                model.grace_period();
                model.callbacks();
            }
        }
        for object in held {
            at(&model, 1, true).free_rcu(object);
        }
        let sheaves = model.books().sheaves.0.len();
        assert!(
            most < exchange::MAX_SPENT && sheaves < 400,
            "{most} spent sheaves, {sheaves} in all, may_wait={may_wait}"
        );
        model.check_all();
    }
}

/// A probe of the allocator's tracepoints frees an object for each sheaf that is allocated, also
/// for those that its own frees need.
#[test]
fn probe_of_the_allocator() {
    struct World {
        model: Model,
        depth: Cell<usize>,
        deepest: Cell<usize>,
    }
    let world = World {
        model: alone(0, 1),
        depth: Cell::new(0),
        deepest: Cell::new(0),
    };
    let probe = |world: &World| {
        let depth = world.depth.get();
        let allocating = std::mem::take(&mut world.model.books().allocating);
        if !allocating || depth == 20 {
            return;
        }
        world.depth.set(depth + 1);
        world.deepest.set(world.deepest.get().max(depth + 1));
        let object = world.model.from_slab();
        at(&world.model, 0, false).free_rcu(object);
        world.depth.set(depth);
    };
    let world = hooked(world, probe, |world| {
        for _ in 0..10 {
            at(&world.model, 0, false).free_rcu(world.model.from_slab());
        }
    });
    assert!((1..=4).contains(&world.deepest.get()));
    assert_eq!(world.model.books().nesting_warnings, 0);
    world.model.check_all();
}

/// The tick after a long time with interrupts off.
#[test]
fn tick_takes_constant_time() {
    let mut took = Vec::new();
    for objects in [40, 100_000] {
        let model = alone(0, SLOTS);
        let cpu = model.nmi(0);
        for _ in 0..objects {
            cpu.free_rcu(model.from_slab());
        }
        // Spent sheaves wait as well.
        at(&model, 0, true).tick();
        model.grace_period();
        model.callbacks();
        for _ in 0..objects / 2 {
            let object = cpu.alloc().expect("all of them are free");
            cpu.free_rcu(object);
        }
        let before = visits();
        cpu.tick();
        took.push(visits() - before);
        model.check_all();
    }
    assert!(
        took[1] == took[0] && took[1] < 20,
        "heads visited by a tick: {took:?}"
    );
}

/// Contexts interrupt each other in an operation, each at its step `at_step`, until `depth` are
/// nested. Returns the number of warnings.
fn nest(depth: usize, at_step: usize, frees: bool) -> usize {
    struct Nest {
        model: Model,
        depth: Cell<usize>,
        step: Cell<usize>,
        held: RefCell<Vec<usize>>,
    }
    fn call(nest: &Nest, frees: bool) {
        let cpu = nest.model.nmi(0);
        if frees {
            let object = nest.held.borrow_mut().pop();
            let taken = object.is_some_and(|object| cpu.free_rcu(object));
            // Contexts that are nested too deep allocate no sheaf.
            assert!(taken || nest.depth.get() >= 4);
        } else {
            let object = cpu.alloc();
            nest.held.borrow_mut().extend(object);
        }
    }
    let nest = Nest {
        model: alone(depth + 2, 2),
        depth: Cell::new(0),
        step: Cell::new(0),
        held: RefCell::new(Vec::new()),
    };
    let objects: Vec<usize> = (0..depth + 3).map(|_| nest.model.from_slab()).collect();
    nest.held.borrow_mut().extend(objects);
    // Sheaves whose slots are used up.
    for frees in [false, false, true, true] {
        call(&nest, frees);
    }
    let interrupt = move |nest: &Nest| {
        let step = nest.step.get() + 1;
        nest.step.set(step);
        if step == at_step && nest.depth.get() < depth {
            nest.depth.set(nest.depth.get() + 1);
            nest.step.set(0);
            call(nest, frees);
            // Not again.
            nest.step.set(at_step);
        }
    };
    let nest = hooked(nest, interrupt, |nest| call(nest, frees));
    assert_eq!(nest.depth.get(), depth, "step {at_step} was not reached");
    let found = nest.model.books().nesting_warnings;
    nest.model.check_all();
    found
}

/// More contexts nest than the head of a sheaf has room for: they are reported, and the next sheaf
/// is not touched. Contexts that nest within the first steps are not covered: the addition, the
/// check, and the exchange that rewinds the cursor.
#[test]
fn nested_too_deep() {
    for (frees, first) in [(false, 5), (true, 4)] {
        for at_step in first..first + 4 {
            assert!(nest(40, at_step, frees) > 0);
            assert_eq!(nest(4, at_step, frees), 0);
        }
    }
}

/// An object in a reuse slot has an armed monitor; a double free of it is detected.
#[test]
fn reuse_slots_are_monitored() {
    let model = alone(0, SLOTS);
    let cpu = model.nmi(0);
    let object = model.from_slab();
    cpu.free(object);
    assert!(model.is_monitored(0));
    assert!(matches!(fastpath::free(cpu, object), Freed::Twice));
    assert_eq!(fastpath::alloc_reused(cpu), Some(object));
    assert!(cpu.reuse(0).put(object));
    model.check_all();
}

/// The same object in two reuse slots is allocated once.
#[test]
fn twice_in_reuse_slots() {
    let model = alone(0, SLOTS);
    let cpu = model.nmi(0);
    let object = model.from_slab();
    let word = cpu.reuse(1);
    cpu.free(object);
    assert!(word.put(object));
    assert_eq!(cpu.alloc(), Some(object));
    assert_eq!(model.books().double_frees, [object]);
    assert_eq!(cpu.alloc(), None);
    model.check_all();
}

fn marks() -> Box<Marks> {
    // SAFETY: All zeroes is its initial state.
    unsafe { Box::new(std::mem::zeroed()) }
}

/// The objects of a sheaf: few distinct ones that are far apart, or close to each other.
fn objects() -> impl Strategy<Value = Vec<usize>> {
    let far = (1usize..=6).prop_map(|n| n << 18);
    let close = (1usize..=1 << 20).prop_map(|n| n * 64);
    prop_oneof![
        prop::collection::vec(far, 1..=SLOTS),
        prop::collection::vec(close, 1..=SLOTS),
    ]
}

proptest! {
    /// Double frees in many sheaves one after the other, compared with a search of all pairs.
    #[test]
    fn doubles_are_found(sheaves in prop::collection::vec(objects(), 1..600)) {
        let (mut marks, mut memory) = (marks(), Memory::default());
        for mut objects in sheaves {
            let mut full = memory.full(&objects);
            while let Some(i) = marks.find_double(&full) {
                let dropped = full.object(i);
                let is_double = objects.iter().filter(|&&o| o == dropped).count() > 1;
                prop_assert!(is_double, "an object is dropped that was freed once");
                full.remove(i);
                let at = objects.iter().rposition(|&o| o == dropped).unwrap();
                objects.remove(at);
            }
            let mut left: Vec<usize> = (full.start()..SLOTS).map(|i| full.object(i)).collect();
            left.sort_unstable();
            objects.sort_unstable();
            prop_assert_eq!(&left, &objects);
            objects.dedup();
            prop_assert_eq!(left.len(), objects.len(), "a double is left");
        }
    }
}

/// An object is allocated from any reuse slot, unless it was freed differently; the mark of a
/// disabled slot is not.
#[test]
fn every_reuse_slot_is_allocated() {
    for i in 0..exchange::REUSE {
        let model = alone(0, SLOTS);
        let cpu = model.nmi(0);
        let object = model.from_slab();
        cpu.free(object);
        assert_eq!(cpu.reuse(0).take(), Some(object));
        assert!(cpu.reuse(i).put(object));
        assert_eq!(cpu.alloc(), Some(object));
        assert!(model.books().objects.remove(&object).is_some());
        assert!(cpu.reuse(i).put(object));
        assert_eq!(cpu.alloc(), None);
        assert!(!cpu.reuse(i).is_set());
        assert!(cpu.reuse(i).put(DISABLED));
        assert_eq!(cpu.reuse(i).take(), None);
        assert!(cpu.reuse(i).is_set() && cpu.reuse(i).remove(DISABLED));
        model.check_all();
    }
}

/// A sheaf that was found used up is removed, whatever the caller gets instead.
#[test]
fn used_up_sheaves_are_removed() {
    let model = alone(1, 1);
    let cpu = model.nmi(0);
    let is_right = || cpu.words().alloc.0.load() == NONE;
    // The only object of a sheaf, none, one of a reuse slot, and a failure.
    let object = cpu.alloc().expect("one is there");
    assert!(is_right());
    assert!(cpu.alloc().is_none() && is_right());
    cpu.free(object);
    assert_eq!(cpu.reuse(0).take(), Some(object));
    assert!(cpu.reuse(1).put(object));
    assert!(cpu.alloc() == Some(object) && is_right());
    assert!(matches!(fastpath::alloc(cpu), Err(Missed::UsedUp)));
    assert!(!is_right());
    exchange::remove_used_up(cpu);
    assert!(is_right());
    model.check_all();
}

/// A cursor tells which slot is next, and how many contexts found no slot.
#[test]
fn cursor_position() {
    let model = alone(1, SLOTS);
    let cpu = model.nmi(0);
    let cursor = cpu.words().alloc;
    assert!(!cursor.is_installed());
    let (sheaf, _) = cpu.take_full();
    exchange::install(cpu, sheaf.expect("one is there"));
    assert!(cursor.used_up().is_none());
    for taken in 1..=SLOTS {
        assert!(cpu.alloc().is_some() && cursor.is_installed());
        assert_eq!(next_slot(cursor.0.load()), Some(taken));
    }
    for late in 1..9 {
        assert!(cursor.reserve().is_none() && cursor.is_installed());
        assert_eq!(next_slot(cursor.0.load()), Some(SLOTS));
        // Six may be nested.
        let seen = cursor.used_up().expect("no slot is left");
        assert_eq!(seen.exceeds_nesting(), late > 6);
    }
    exchange::remove_used_up(cpu);
    assert!(!cursor.is_installed());
    model.check_all();
}

/// Spent sheaves get a grace period of their own as soon as there are enough of them, or the tick
/// runs.
#[test]
fn spent_sheaves_are_not_left() {
    for may_wait in [true, false] {
        let model = alone(12, 2);
        let cpu = at(&model, 0, may_wait);
        for emptied in 0..12 {
            assert!(cpu.alloc().is_some() && cpu.alloc().is_some());
            let enough = emptied >= exchange::MAX_SPENT;
            let started = if enough && may_wait {
                exchange::MAX_SPENT
            } else {
                0
            };
            assert_eq!(model.count_spent(0), emptied - started);
            let is_queued = model.books().irq_work_queued.remove(&0);
            assert_eq!(is_queued, enough && !may_wait);
        }
        model.check_all();
    }
}

/// Without a double free no objects are compared.
#[test]
fn only_doubles_are_compared() {
    let mut memory = Memory::default();
    let mut marks = marks();
    let full = memory.full(&[16, 32, 48, 64]);
    let count = |steps: &Cell<usize>| steps.set(steps.get() + 1);
    hooked(Cell::new(0), count, |steps| {
        for round in 1..=2 * usize::from(u8::MAX) {
            assert_eq!(marks.find_double(&full), None);
            assert_eq!(steps.get(), round * SLOTS);
        }
    });
}

/// A reaper, and contexts that set the drain interval while another is at a call of it.
struct TestReaper<'a> {
    due: &'a Deadline,
    now: Cell<u64>,
    interval: Cell<u64>,
    /// When it runs; `None`: it is not queued.
    timer: Cell<Option<u64>>,
    /// Calls that are still made before `others`.
    calls: Cell<usize>,
    /// Intervals, each set by a context of its own.
    others: RefCell<Vec<u64>>,
    /// It runs as soon as another context has set its time.
    runs: bool,
}

impl<'a> TestReaper<'a> {
    /// Not queued; `others` do nothing yet.
    fn new(due: &'a Deadline, now: u64, interval: u64, others: Vec<u64>, runs: bool) -> Self {
        Self {
            due,
            now: Cell::new(now),
            interval: Cell::new(interval),
            timer: Cell::new(None),
            calls: Cell::new(usize::MAX),
            others: RefCell::new(others),
            runs,
        }
    }

    fn set_interval(&self, interval: u64) {
        self.interval.set(interval);
        self.due.bring_forward(self);
    }

    fn called(&self) {
        let left = self.calls.get();
        self.calls.set(left.wrapping_sub(1));
        if left == 0 {
            for interval in self.others.take() {
                self.set_interval(interval);
            }
            if self.runs {
                self.timer.set(None);
            }
        }
    }
}

impl Reaper for TestReaper<'_> {
    fn now(&self) -> u64 {
        self.called();
        self.now.get()
    }

    fn interval(&self) -> u64 {
        self.called();
        self.interval.get()
    }

    fn queue(&self, delay: u64) {
        self.called();
        if self.timer.get().is_none() {
            self.timer.set(Some(self.now.get().wrapping_add(delay)));
        }
    }

    fn modify(&self, delay: u64) {
        self.called();
        self.timer.set(Some(self.now.get().wrapping_add(delay)));
    }
}

/// Intervals are set at every call that a context makes while it queues the reaper or sets another
/// interval: the reaper runs within the last of them.
#[test]
fn reaper_sees_the_last_interval() {
    for (calls, runs, queued) in (0..12).flat_map(|calls| {
        [(false, false), (false, true), (true, false), (true, true)]
            .map(|(runs, queued)| (calls, runs, queued))
    }) {
        for others in [vec![1], vec![300], vec![300, 1], vec![500, 700, 2]] {
            let due = Deadline::new();
            let reaper = TestReaper::new(&due, 1000, 600, others, runs);
            if queued {
                due.start(&reaper);
                reaper.calls.set(calls);
                reaper.set_interval(400);
            } else {
                reaper.calls.set(calls);
                due.start(&reaper);
            }
            let last = reaper.interval.get();
            assert!(reaper
                .timer
                .get()
                .is_none_or(|at| at <= 1000 + last.min(600)));
        }
    }
}

/// However often an interval is set, the reaper runs no later than it was due.
#[test]
fn reaper_is_only_brought_forward() {
    for start in [0, u64::MAX - 50] {
        let due = Deadline::new();
        let reaper = TestReaper::new(&due, start, 100, Vec::new(), false);
        due.start(&reaper);
        let at = |jiffies: u64| Some(start.wrapping_add(jiffies));
        for now in 0..50 {
            reaper.now.set(start.wrapping_add(now));
            reaper.set_interval(100 - now % 2);
        }
        assert_eq!(reaper.timer.get(), at(100));
        reaper.set_interval(20);
        assert_eq!(reaper.timer.get(), at(69));
    }
}
