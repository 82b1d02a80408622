// SPDX-License-Identifier: GPL-2.0

//! NMIs at every step: the algorithm is interrupted before each of its steps by one that runs the
//! same code to its end, and that one again, for every choice of two or three steps.

use super::word_tests::Page;
use crate::{
    lockless::{
        block::{self, Blocks, ClosedList, Layout, Spares, MAX_SPARES, SLOT},
        insert::{insert, Close, Kind},
    },
    lockless_model::{word_of, Flaw, Model, CAPACITY},
};
use std::{
    alloc::{alloc, dealloc, Layout as Memory},
    cell::{Cell, RefCell},
    ptr::with_exposed_provenance_mut,
};

/// What an interrupt does.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Takes an object.
    Insert,
    /// The monitor: closes the current block, with another in its place or not.
    Close(bool),
}

const ACTS: [Act; 3] = [Act::Insert, Act::Close(true), Act::Close(false)];

/// The run of one choice of interrupts.
struct Run {
    /// Steps at which an interrupt comes, counted through all contexts, and what it does.
    plan: Vec<(usize, Act)>,
    step: Cell<usize>,
    /// No more interrupts.
    over: Cell<bool>,
    next_object: Cell<usize>,
    taken: RefCell<Vec<usize>>,
}

impl Run {
    fn take(&self, cpu: &Model<'_>) {
        let object = self.next_object.replace(self.next_object.get() + 1);
        if cpu.take(object) {
            self.taken.borrow_mut().push(object);
        }
    }

    fn hook(&self, cpu: &Model<'_>) {
        if self.over.get() {
            return;
        }
        let step = self.step.replace(self.step.get() + 1);
        for &(at, act) in &self.plan {
            if at == step {
                match act {
                    Act::Insert => self.take(cpu),
                    Act::Close(refill) => {
                        cpu.close(refill);
                    }
                }
            }
        }
    }
}

/// Takes `objects` in a task and closes, under `plan`. Returns how many steps there were; panics
/// when an object is lost or comes twice.
fn run(objects: usize, blocks: usize, plan: Vec<(usize, Act)>, flaw: Flaw) -> usize {
    let run = Run {
        plan,
        step: Cell::new(0),
        over: Cell::new(false),
        next_object: Cell::new(1),
        taken: RefCell::new(Vec::new()),
    };
    let mut freed;
    {
        let cpu = Model::new(blocks, flaw, |cpu| run.hook(cpu));
        for _ in 0..objects {
            run.take(&cpu);
        }
        cpu.close(false);
        freed = cpu.drain(true);
        // Whatever late interrupts opened.
        run.over.set(true);
        cpu.close(false);
        freed.extend(cpu.drain(true));
    }
    let mut taken = run.taken.into_inner();
    taken.sort_unstable();
    freed.sort_unstable();
    assert_eq!(taken, freed, "taken and freed, plan {:?}", run.plan);
    run.step.get()
}

/// Runs `run` with `plan` and every choice of `depth` more steps, at least `apart` from each other, and of `acts`.
/// Returns how many plans there were; `run`, how many steps its plan makes.
pub(crate) fn plans<A: Copy>(
    plan: &mut Vec<(usize, A)>,
    acts: &[A],
    apart: usize,
    depth: usize,
    run: &dyn Fn(Vec<(usize, A)>) -> usize,
) -> usize {
    // Interrupts make more steps, for others to come at.
    let steps = run(plan.clone());
    let mut runs = 1;
    if depth > 0 {
        let from = plan.last().map_or(0, |&(at, _)| at + apart);
        for at in from..steps {
            for &act in acts {
                plan.push((at, act));
                runs += plans(plan, acts, apart, depth - 1, run);
                plan.pop();
            }
        }
    }
    runs
}

/// Every choice of `depth` steps and acts.
fn all_plans(objects: usize, blocks: usize, depth: usize, flaw: Flaw) -> usize {
    plans(&mut Vec::new(), &ACTS, 1, depth, &|plan| {
        run(objects, blocks, plan, flaw)
    })
}

#[test]
fn interrupted_at_every_step() {
    let runs = all_plans(2 * CAPACITY + 2, 8, 2, Flaw::None);
    assert!(runs > 5_000, "only {runs} plans");
}

#[test]
fn blocks_run_out() {
    // Objects that find no block are refused, and none is lost when blocks are available.
    for blocks in 1..4 {
        all_plans(2 * CAPACITY + 1, blocks, 2, Flaw::None);
    }
}

tests! {
    interrupted_three_deep: all_plans(CAPACITY + 1, 8, 3, Flaw::None);
    sees_that_close_does_not_bar, "taken and freed":
        all_plans(CAPACITY + 1, 8, 2, Flaw::CloseDoesNotBar);
    sees_a_reservation_in_two_steps, "taken and freed":
        all_plans(CAPACITY + 1, 8, 2, Flaw::ReserveInTwoSteps);
    sees_an_index_out_of_bounds, "a slot in a header":
        all_plans(CAPACITY + 1, 8, 1, Flaw::IndexNotBounded);
    sees_a_block_that_does_not_say_its_callbacks, "a callback is freed":
        all_plans(CAPACITY + 1, 8, 2, Flaw::SaysBeforeItReserves);
}

/// What is closed later joins what waits: nothing is lost, and the sums are right all the way.
#[test]
fn chains_join() {
    for takes in [&[3, 1, 2][..], &[0, 2, 1], &[1, 0, 4], &[1, 1, 1, 1]] {
        let cpu = Model::new(8, Flaw::None, |_| ());
        let mut all = Blocks::new();
        let mut closed = 0;
        for &blocks in takes {
            for _ in 0..blocks {
                assert!(cpu.take(1));
                cpu.close(false);
                closed += 1;
            }
            all.append(cpu.closed.take());
            assert_eq!((all.objects(), all.is_empty()), (closed, closed == 0));
        }
        let mut left = closed;
        while let Some(block) = all.pop() {
            left -= block.len();
            assert_eq!(all.objects(), left);
        }
        assert_eq!(left, 0);
        assert!(all.is_empty());
    }
}

type Small = Page<128, 64>;

/// What is noted in a block is that of this block, for one use of it.
#[test]
fn blocks_keep_their_notes() {
    let memory = Memory::from_size_align(2 * Small::BLOCK, Small::BLOCK).unwrap();
    // SAFETY: The layout has a size.
    let first = unsafe { alloc(memory) };
    let bases = [0, Small::BLOCK].map(|offset| first.expose_provenance() + offset);
    for scanned in [false, true] {
        // SAFETY: Blocks of the test's, and slots of theirs.
        unsafe {
            bases
                .iter()
                .for_each(|&base| block::begin::<Small>(base, scanned));
            assert_eq!(block::is_scanned(bases[0], false), scanned);
            assert_eq!(block::is_scanned(bases[0], true), scanned);
            assert!(block::is_scanned(bases[0], false));
            assert_eq!(block::is_scanned(bases[1], false), scanned);
            let list = ClosedList::<Small>::new();
            assert!(list.is_empty() && list.take().is_empty());
            for (i, base) in bases.into_iter().enumerate() {
                block::stamp(base, 7 + i as u32);
                for n in 0..=i {
                    let slot = Small::first(base) - n * SLOT;
                    with_exposed_provenance_mut::<usize>(slot).write(8 * (n + 1));
                }
                list.push(base, i + 1);
                let word = std::ptr::from_ref(&list).with_addr(list.head_address());
                assert_eq!(word.cast::<usize>().read(), base);
            }
            assert!(!list.is_empty());
            block::mark_call::<Small>(Small::first(bases[1]) - SLOT);
            let mut blocks = list.take();
            assert!(list.is_empty());
            assert_eq!(blocks.objects(), 3);
            let mut seen = Vec::new();
            blocks.for_each(|block| {
                let words = block.objects().iter().map(|word| word.addr()).collect();
                seen.push((block.base(), block.since(), words));
                assert_eq!(block.take_calls(), block.base() == bases[1]);
                assert!(!block.take_calls());
            });
            let expected = [(bases[1], 8, vec![16, 8]), (bases[0], 7, vec![8])];
            assert_eq!(seen, expected);
        }
    }
    // SAFETY: Allocated with this layout.
    unsafe { dealloc(first, memory) };
}

/// No more spares than the limit says, even where it is lowered while one is put there.
#[test]
fn spares_have_a_limit() {
    for limit in [0, 1, 3, MAX_SPARES, MAX_SPARES + 1] {
        let spares = Spares::new();
        let most = limit.min(MAX_SPARES);
        for base in 1..most + 3 {
            let mut excess = None;
            spares.put(base, || limit, |base| excess = Some(base));
            assert_eq!(excess, (base > most).then_some(base));
        }
        assert_eq!(spares.len(), most);
        spares.trim(limit, |_| panic!("within the limit"));
        let mut excess = Vec::new();
        spares.trim(1, |base| excess.push(base));
        assert!(excess.into_iter().eq(2..=most));
        assert_eq!(spares.len(), most.min(1));
        assert_eq!(spares.take(), (most > 0).then_some(1));
        assert_eq!(spares.take(), None);
        // Whoever lowers the limit takes what is too much; what puts one there meanwhile does not look.
        (1..4).for_each(|base| spares.put(base, || 3, |_| panic!("within the limit")));
        assert_eq!(spares.take(), Some(1));
        spares.put(4, || 1, |_| panic!("within the limit"));
        spares.trim(0, |_| ());
        // The limit is lowered while the block is put there.
        let (limits, mut excess) = (Cell::new(2), None);
        let lowered = || limits.replace(0);
        spares.put(9, lowered, |base| excess = Some(base));
        assert_eq!((excess, spares.len()), (Some(9), 0));
    }
}

/// A block says that it has callbacks where it has one, and only there.
#[test]
fn blocks_say_what_they_have() {
    for number in 1..5 {
        let cpu = Model::new(1, Flaw::None, |_| ());
        assert!(cpu.take(number));
        cpu.close(false);
        let mut block = cpu.closed.take().pop().expect("it is closed");
        // SAFETY: No context is about to store.
        assert_eq!(unsafe { block.take_calls() }, number % 2 == 1);
    }
}

/// No block is current after a close that is to leave none, and another one where it is.
#[test]
fn close_leaves_what_it_is_to() {
    for refill in [false, true] {
        let cpu = Model::new(2, Flaw::None, |_| ());
        assert!(cpu.take(2));
        assert_eq!(cpu.close(refill), Close::Closed(1));
        assert_eq!(insert(&&cpu, word_of(2), Kind::Free), refill);
    }
}
