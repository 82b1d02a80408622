// SPDX-License-Identifier: GPL-2.0

//! NMIs at every step: an interrupt that runs the same code comes before each step of the
//! algorithm, and is interrupted in turn, for every choice of two or three steps.

use crate::{
    hook::hooked,
    lockless::{
        block::{self, Blocks, ClosedList, Layout, Spares, MAX_SPARES, SLOT},
        insert::{insert, BlockCpu, Close, Kind},
    },
    lockless_model::{word_of, Flaw, Model, CAPACITY},
};
use std::{
    cell::{Cell, RefCell},
    ptr::with_exposed_provenance_mut,
};

/// The action of an interrupt.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Queues an object.
    Insert,
    /// Closes the current block, as the monitor does, and opens another one if true.
    Close(bool),
}

const ACTS: [Act; 3] = [Act::Insert, Act::Close(true), Act::Close(false)];

/// A run with one choice of interrupts.
struct Run {
    cpu: Model,
    /// Steps at which an interrupt comes, counted across all contexts, with its action.
    plan: Vec<(usize, Act)>,
    step: Cell<usize>,
    next_object: Cell<usize>,
    taken: RefCell<Vec<usize>>,
}

impl Run {
    fn take(&self) {
        let object = self.next_object.replace(self.next_object.get() + 1);
        if self.cpu.queue(object) {
            self.taken.borrow_mut().push(object);
        }
    }

    fn hook(&self) {
        let step = self.step.replace(self.step.get() + 1);
        for &(at, act) in &self.plan {
            if at == step {
                match act {
                    Act::Insert => self.take(),
                    Act::Close(refill) => drop(self.cpu.close(refill)),
                }
            }
        }
    }
}

/// Queues `objects` in a task and closes, with the interrupts of `plan`. Returns the number of
/// steps; panics if an object is lost or freed twice.
fn run(objects: usize, blocks: usize, plan: Vec<(usize, Act)>, flaw: Flaw) -> usize {
    let run = Run {
        cpu: Model::new(blocks, flaw),
        plan,
        step: Cell::new(0),
        next_object: Cell::new(1),
        taken: RefCell::new(Vec::new()),
    };
    let run = hooked(run, Run::hook, |run| {
        (0..objects).for_each(|_| run.take());
        run.cpu.close(false);
    });
    // Late interrupts may have opened a block.
    run.cpu.close(false);
    let mut freed = run.cpu.drain(true);
    let mut taken = run.taken.into_inner();
    taken.sort_unstable();
    freed.sort_unstable();
    assert_eq!(taken, freed, "taken and freed, plan {:?}", run.plan);
    run.step.get()
}

/// Calls `run` with `plan` and every choice of `depth` more steps, at least `apart` from each
/// other, and of `acts`. Returns the number of plans; `run` returns the number of steps.
pub(crate) fn plans<A: Copy>(
    plan: &mut Vec<(usize, A)>,
    acts: &[A],
    apart: usize,
    depth: usize,
    run: &dyn Fn(Vec<(usize, A)>) -> usize,
) -> usize {
    // The steps of interrupts can be interrupted, too.
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

/// Runs every choice of `depth` steps and actions.
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
    // Objects without a block are rejected, and none is lost when blocks are available.
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
        all_plans(CAPACITY + 1, 8, 2, Flaw::MarksBeforeItReserves);
}

/// Blocks that are closed later are appended: none is lost, and the counts are right at each step.
#[test]
fn chains_join() {
    for takes in [&[3, 1, 2][..], &[0, 2, 1], &[1, 0, 4], &[1, 1, 1, 1]] {
        let cpu = Model::new(8, Flaw::None);
        let mut all = Blocks::new();
        let mut closed = 0;
        for &blocks in takes {
            for _ in 0..blocks {
                assert!(cpu.queue(1));
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

/// The header of a block has the state of this block, for one use.
#[test]
fn blocks_keep_their_notes() {
    let cpu = &Model::new(2, Flaw::None);
    let bases = [(); 2].map(|()| cpu.take_block().expect("there are two"));
    for scanned in [false, true] {
        // SAFETY: Spare blocks of the model, and their slots.
        unsafe {
            bases
                .iter()
                .for_each(|&base| block::begin::<Model>(base, scanned));
            assert_eq!(block::is_scanned(bases[0], false), scanned);
            assert_eq!(block::is_scanned(bases[0], true), scanned);
            assert!(block::is_scanned(bases[0], false));
            assert_eq!(block::is_scanned(bases[1], false), scanned);
            let list = ClosedList::<Model>::new();
            assert!(list.is_empty() && list.take().is_empty());
            for (i, base) in bases.into_iter().enumerate() {
                block::stamp(base, 7 + i as u32);
                for n in 0..=i {
                    let slot = Model::first(base) - n * SLOT;
                    with_exposed_provenance_mut::<usize>(slot).write(8 * (n + 1));
                }
                list.push(base, i + 1);
                let word = std::ptr::from_ref(&list).with_addr(list.head_address());
                assert_eq!(word.cast::<usize>().read(), base);
            }
            assert!(!list.is_empty());
            block::mark_call::<Model>(Model::first(bases[1]) - SLOT);
            let mut blocks = list.take();
            assert!(list.is_empty());
            assert_eq!(blocks.objects(), 3);
            let mut seen = Vec::new();
            blocks.for_each(|block| {
                let words = block.objects().iter().map(|word| word.addr()).collect();
                seen.push((block.base(), block.since(), words));
                assert_eq!(block.take_call_mark(), block.base() == bases[1]);
                assert!(!block.take_call_mark());
            });
            let expected = [(bases[1], 8, vec![16, 8]), (bases[0], 7, vec![8])];
            assert_eq!(seen, expected);
        }
    }
}

/// There are no more spares than the limit, even if it is lowered while one is added.
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
        // The context that lowers the limit removes the excess; later additions only check their
        // own slot.
        (1..4).for_each(|base| spares.put(base, || 3, |_| panic!("within the limit")));
        assert!((1..4).all(|base| spares.take() == Some(base)));
        (1..4).for_each(|base| spares.put(base, || 3, |_| panic!("within the limit")));
        assert_eq!(spares.take(), Some(1));
        spares.put(4, || 1, |_| panic!("within the limit"));
        spares.trim(0, |_| ());
        // The limit is lowered while the block is added.
        let (limits, mut excess) = (Cell::new(2), None);
        let lowered = || limits.replace(0);
        spares.put(9, lowered, |base| excess = Some(base));
        assert_eq!((excess, spares.len()), (Some(9), 0));
    }
}

/// A block is marked if, and only if, it has a callback.
#[test]
fn blocks_say_what_they_have() {
    for number in 1..5 {
        let cpu = Model::new(1, Flaw::None);
        assert!(cpu.queue(number));
        cpu.close(false);
        let mut block = cpu.closed.take().pop().expect("it is closed");
        // SAFETY: No context is about to store.
        assert_eq!(unsafe { block.take_call_mark() }, number % 2 == 1);
    }
}

/// After a close there is another current block if, and only if, `refill`.
#[test]
fn close_leaves_what_it_is_to() {
    for refill in [false, true] {
        let cpu = Model::new(2, Flaw::None);
        assert!(cpu.queue(2));
        assert_eq!(cpu.close(refill), Close::Closed(1));
        assert_eq!(insert(&&cpu, word_of(2), Kind::Free), refill);
    }
}
