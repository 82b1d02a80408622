// SPDX-License-Identifier: GPL-2.0

//! The algorithm of engine `lockless` under loom: contexts are threads, which allows more
//! interleavings than interrupts, and other CPUs run concurrently. loom tries every interleaving
//! and every value that relaxed accesses may see, and reports slots that are read without waiting
//! for the writer.

use crate::{
    list::{LinkList, Linked, Pushed},
    lockless::block::Spares,
    lockless_model::{Flaw, Model, CAPACITY},
    sync::{AtomicLink, Plain},
};
use loom::{
    sync::{
        atomic::{AtomicUsize, Ordering::Relaxed},
        Arc,
    },
    thread,
};
use std::ptr::NonNull;

pub(crate) fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    // Enough for every order of a few steps; unbounded takes hours.
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.check(f);
}

/// Starts a thread that runs `f` with `shared`.
pub(crate) fn spawn<T: 'static, R: 'static>(
    shared: &Arc<T>,
    f: impl FnOnce(&T) -> R + 'static,
) -> thread::JoinHandle<R> {
    let shared = shared.clone();
    thread::spawn(move || f(&shared))
}

/// Fills a block. Returns the number of the last object.
fn fill_block(cpu: &Model) -> usize {
    let last = CAPACITY;
    assert!((1..=last).all(|object| cpu.queue(object)));
    last
}

/// Closes and drains, and checks that objects 1 to `last` are freed, each once.
fn check_all_freed(cpu: &Model, mut freed: Vec<usize>, last: usize) {
    cpu.close(false);
    freed.extend(cpu.drain(false));
    freed.sort_unstable();
    assert!(freed.into_iter().eq(1..=last), "taken and freed");
}

/// Two contexts queue objects while a third one closes and drains.
fn insert_close_drain(flaw: Flaw) {
    model(move || {
        let cpu = Arc::new(Model::new(4, flaw));
        assert!(cpu.queue(1));
        let other = spawn(&cpu, |cpu| assert!(cpu.queue(2)));
        let monitor = spawn(&cpu, |cpu| {
            cpu.close(true);
            cpu.drain(false)
        });
        assert!(cpu.queue(3));
        other.join().unwrap();
        let freed = monitor.join().unwrap();
        check_all_freed(&cpu, freed, 3);
    });
}

tests! {
    insert_against_close_and_drain: insert_close_drain(Flaw::None);
    sees_that_close_does_not_bar, "taken and freed": insert_close_drain(Flaw::CloseDoesNotBar);
    sees_slots_read_before_the_grace_period, "Causality violation":
        insert_close_drain(Flaw::ReadBeforeGracePeriod);
    sees_a_preemptible_insert, "Causality violation": insert_close_drain(Flaw::PreemptibleInsert);
    sees_a_reservation_in_two_steps, "taken and freed": insert_close_drain(Flaw::ReserveInTwoSteps);
}

/// The first of `blocks` is full: two contexts find no slot at the same time, and both get one in
/// the next block or, if there is none, fail.
fn both_find_it_full(blocks: usize) {
    model(move || {
        let is_next = blocks > 1;
        let cpu = Arc::new(Model::new(blocks, Flaw::None));
        let full = fill_block(&cpu);
        let other = spawn(&cpu, move |cpu| assert_eq!(cpu.queue(full + 1), is_next));
        assert_eq!(cpu.queue(full + 2), is_next);
        other.join().unwrap();
        check_all_freed(&cpu, Vec::new(), if is_next { full + 2 } else { full });
    });
}

tests! {
    both_open_the_next_block: both_find_it_full(4);
    both_are_refused: both_find_it_full(1);
}

/// A closed block is pushed while another context removes the list, appends it to an earlier one,
/// and pops the blocks: the counts are right, and only the owner of a block accesses the plain
/// words of its header.
#[test]
fn push_against_append() {
    model(|| {
        let cpu = Arc::new(Model::new(4, Flaw::None));
        let close_one = |cpu: &Model, object| {
            assert!(cpu.queue(object));
            cpu.close(false);
        };
        close_one(&cpu, 1);
        let mut taken = cpu.closed.take();
        close_one(&cpu, 2);
        let other = spawn(&cpu, |cpu| {
            assert!(cpu.queue(3));
            cpu.close(false);
        });
        taken.append(cpu.closed.take());
        let mut left = taken.objects();
        let mut blocks = 0;
        while let Some(block) = taken.pop() {
            assert_eq!(block.len(), 1);
            left -= 1;
            blocks += 1;
            assert_eq!(taken.objects(), left);
        }
        other.join().unwrap();
        let mut rest = cpu.closed.take();
        while let Some(block) = rest.pop() {
            blocks += block.len();
        }
        assert_eq!(blocks, 3);
    });
}

/// A block is cached while the limit is lowered: one of both contexts returns the excess.
#[test]
fn spares_within_a_lower_limit() {
    model(|| {
        let shared = Arc::new((Spares::new(), AtomicUsize::new(3)));
        let keep = |(spares, limit): &(Spares, AtomicUsize), base| {
            let mut excess = 0;
            spares.put(base, || limit.load(Relaxed), |_| excess += 1);
            excess
        };
        let mut given_back = keep(&shared, 64);
        let keeper = spawn(&shared, move |shared| keep(shared, 128));
        let (spares, limit) = &*shared;
        limit.store(1, Relaxed);
        spares.trim(1, |_| given_back += 1);
        given_back += keeper.join().unwrap();
        assert_eq!((spares.len(), given_back), (1, 1));
        assert!(spares.take().is_some() && spares.take().is_none());
    });
}

/// One context reads a word and then changes it; another one reads it before or after that.
#[test]
#[should_panic(expected = "changed before it was read")]
fn sees_a_change_before_a_read() {
    model(|| {
        let word = Arc::new(AtomicLink::new(0));
        let other = spawn(&word, |word| word.cmpxchg_full(word.load_relaxed(), 1));
        assert_eq!(word.load_relaxed(), 0, "changed before it was read");
        other.join().unwrap().unwrap();
    });
}

/// A deferred list, and objects of one word, which contain the links.
struct Deferred {
    list: LinkList,
    links: [Link; 3],
}

#[repr(align(8))]
struct Link(Plain<u64>);

impl Deferred {
    /// Pushes object `i`. Returns 1 if the list was empty.
    fn push(&self, i: usize) -> usize {
        let object = NonNull::from(&self.links[i]).cast();
        let field = object;
        // SAFETY: A live object, pushed once.
        match unsafe { self.list.push(Linked::Object { object, field }) } {
            Pushed::First => 1,
            Pushed::Another => 0,
            Pushed::Twice => panic!("none is"),
        }
    }

    /// Removes the list, and adds its objects to `all`. Returns 1 if there were any.
    fn take(&self, all: &mut Vec<usize>) -> usize {
        let mut chain = self.list.take();
        let lists = usize::from(!chain.is_empty());
        while let Some(linked) = chain.pop() {
            let is_it = |link: &Link| linked.start() == NonNull::from(link).cast();
            all.push(self.links.iter().position(is_it).unwrap());
        }
        lists
    }
}

/// Two contexts push while a third one removes the list: each object is removed once, with the link
/// that was written, and for each list that is removed one push has returned `First`.
#[test]
fn deferred_by_two() {
    model(|| {
        let deferred = Arc::new(Deferred {
            list: LinkList::new(),
            links: [(); 3].map(|()| Link(Plain::new(0))),
        });
        let other = spawn(&deferred, |deferred| deferred.push(0) + deferred.push(1));
        let taker = spawn(&deferred, |deferred| {
            let mut all = Vec::new();
            (deferred.take(&mut all), all)
        });
        let mut firsts = deferred.push(2);
        firsts += other.join().unwrap();
        let (mut lists, mut all) = taker.join().unwrap();
        lists += deferred.take(&mut all);
        all.sort_unstable();
        assert_eq!((all, lists), (vec![0, 1, 2], firsts));
    });
}

/// A spare has one owner at a time.
#[test]
fn spares_are_exclusive() {
    model(|| {
        let spares = Arc::new(Spares::new());
        let keep = |spares: &Spares, base| spares.put(base, || 2, |_| panic!("no room"));
        keep(&spares, 64);
        let taker = spawn(&spares, |spares| spares.take());
        let putter = spawn(&spares, move |spares| keep(spares, 128));
        let mut all = vec![spares.take(), taker.join().unwrap()];
        putter.join().unwrap();
        all.extend([spares.take(), spares.take()]);
        let mut all: Vec<usize> = all.into_iter().flatten().collect();
        all.sort_unstable();
        assert_eq!(all, [64, 128]);
    });
}
