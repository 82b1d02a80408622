// SPDX-License-Identifier: GPL-2.0

//! Grace periods: batches wait for readers of both kinds; barriers tell their counts from later
//! ones; objects without a sheaf are processed once.

use crate::{
    sheaf_model::Memory,
    sheaves::{
        grace::{Epochs, GpSnapshot, Needs, Polled, RunningCallbacks, Strays, EPOCHS},
        sheaf::SheafChain,
    },
    sync::AtomicLink,
};
use proptest::prelude::*;
use std::{cell::Cell, rc::Rc};

/// Whether a batch with `needs` ends too early, or waits for nothing, for any choice of the kinds
/// of readers that were inside when it started and have not left. The cache has no domain, or one
/// whose grace periods wait for RCU or do not.
fn is_wrong(needs: Needs, domain: Option<bool>) -> bool {
    let kinds = [(false, false), (false, true), (true, false), (true, true)];
    kinds.into_iter().any(|(rcu, srcu)| {
        let rcu_is_over = !rcu;
        let srcu_is_over = !srcu && (domain != Some(true) || rcu_is_over);
        let is_over = (!needs.rcu || rcu_is_over) && (!needs.srcu || srcu_is_over);
        // Contexts that write slots are like readers of RCU.
        let has_reader = rcu || srcu && domain.is_some();
        is_over == has_reader
    })
}

#[test]
fn batches_wait_for_all_readers() {
    for (domain, callbacks) in [(None, 1), (Some(false), 2), (Some(true), 1)] {
        assert!(!is_wrong(Needs::of(domain), domain));
        assert_eq!(Needs::of(domain).callbacks(), callbacks);
    }
    // A plain domain needs both.
    for rcu in [false, true] {
        assert!(is_wrong(Needs { rcu, srcu: !rcu }, Some(false)));
    }
}

#[derive(Clone, Debug)]
enum Count {
    /// Something begins to wait.
    Begin,
    /// One of them ends.
    End(usize),
    Barrier,
}

fn counts() -> impl Strategy<Value = Vec<Count>> {
    let step = prop_oneof![
        4 => Just(Count::Begin),
        3 => (0usize..6).prop_map(Count::End),
        2 => Just(Count::Barrier),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    /// A barrier ends when, and only when, everything counted before it has ended.
    #[test]
    fn barriers_tell_old_from_new(steps in counts()) {
        let epochs = Epochs::new();
        let (mut time, mut now) = (0u64, 0u64);
        // When each was counted, and in which epoch.
        let mut waits: Vec<(u64, usize)> = vec![];
        // The number and time of each barrier.
        let mut barriers: Vec<(u64, u64)> = vec![];
        for step in steps {
            now += 1;
            match step {
                Count::Begin => waits.push((now, epochs.current())),
                Count::End(i) if !waits.is_empty() => {
                    waits.remove(i % waits.len());
                }
                Count::End(_) => {}
                Count::Barrier => {
                    time += 1;
                    barriers.push((time, now));
                }
            }
            let before: Vec<usize> = waits.iter().map(|wait| wait.1).collect();
            barriers.retain(|(time, at)| {
                let past = epochs.is_drained(*time, |epoch| !before.contains(&epoch));
                let old = waits.iter().any(|wait| wait.0 < *at);
                assert!(!past || !old, "over with something that was there before");
                !past
            });
        }
        waits.clear();
        for (time, ..) in barriers {
            prop_assert!(epochs.is_drained(time, |_| true));
        }
    }
}

/// A barrier ends when the old counts are gone, although new ones are added all the time.
#[test]
fn barriers_terminate() {
    let epochs = Epochs::new();
    let mut counted = [0u32; EPOCHS];
    for time in 1..100 {
        let old = epochs.current();
        counted[old] += 1;
        assert!(!epochs.is_drained(time, |epoch| counted[epoch] == 0));
        // New counts use another epoch at once.
        assert_ne!(epochs.current(), old);
        counted[epochs.current()] += 1;
        counted[old] = 0;
        assert!(epochs.is_drained(time, |epoch| counted[epoch] == 0));
        // The new one ends in the next round.
        let new = epochs.current();
        counted[new] = 0;
    }
}

/// A barrier that finds nothing does not wait for later counts.
#[test]
fn nothing_to_wait_for() {
    let epochs = Epochs::new();
    let mut counted = [0u32; EPOCHS];
    for time in 1..100 {
        assert!(epochs.is_drained(time, |epoch| counted[epoch] == 0));
        counted[epochs.current()] += 1;
        assert!(epochs.is_drained(time, |epoch| counted[epoch] == 0));
        counted = [0; EPOCHS];
    }
}

/// Objects that consist of their links.
fn objects(n: usize) -> Vec<AtomicLink> {
    (0..n).map(|_| AtomicLink::new(0)).collect()
}

proptest! {
    /// Each object is taken off the list once, with its epoch.
    #[test]
    fn strays_are_processed_once(
        pushes in prop::collection::vec((0usize..EPOCHS, any::<bool>()), 1..100),
    ) {
        let objects = objects(pushes.len());
        let destructed = vec![Cell::new(0); pushes.len()];
        let base = objects.as_ptr().expose_provenance();
        let list = Strays::new();
        let take_in = || {
            let mut rest = list.take();
            // SAFETY: Taken just now.
            while let Some((addr, epoch, next)) = unsafe { Strays::next(rest, 0) } {
                let i = (addr - base) / size_of::<AtomicLink>();
                destructed[i].set(destructed[i].get() + 1);
                assert_eq!(epoch, pushes[i].0);
                rest = next;
            }
        };
        for (i, (epoch, take)) in pushes.iter().enumerate() {
            let addr = base + i * size_of::<AtomicLink>();
            // SAFETY: A live object with its link in front, pushed once.
            assert!(unsafe { list.push(addr, addr, *epoch) });
            if *take {
                take_in();
            }
        }
        take_in();
        prop_assert!(list.is_empty() && destructed.iter().all(|n| n.get() == 1));
    }
}

/// Pushes objects in the order of `pushes`. Returns which were rejected, and whether the list ends.
fn pushed(pushes: &[usize]) -> (Vec<usize>, bool) {
    let objects = objects(8);
    let base = objects.as_ptr().expose_provenance();
    let list = Strays::new();
    let mut refused = vec![];
    for &i in pushes {
        let addr = base + i * size_of::<AtomicLink>();
        // SAFETY: A live object with its link in front; the test is about a second push.
        if !unsafe { list.push(addr, addr, i % EPOCHS) } {
            refused.push(i);
        }
    }
    // SAFETY: Taken just now.
    let has_end = unsafe { Strays::has_end(list.take(), 0, || ()) };
    (refused, has_end)
}

#[test]
fn strays_freed_twice() {
    assert_eq!(pushed(&[0, 1, 2]), (vec![], true));
    assert_eq!(pushed(&[0, 0]), (vec![0], true));
    assert_eq!(pushed(&[0, 1, 1, 2]), (vec![1], true));
    for ring in [
        &[0, 1, 0][..],
        &[0, 1, 2, 3, 4, 5, 6, 7, 0],
        &[3, 4, 5, 4, 6],
        &[0, 1, 2, 3, 2, 4, 5],
    ] {
        assert_eq!(pushed(ring), (vec![], false), "{ring:?}");
    }
}

/// A snapshot taken after so many grace periods.
struct Gp(u64, Rc<Cell<u64>>);

impl GpSnapshot for Gp {
    fn is_over(&self) -> bool {
        self.1.get() > self.0
    }
}

proptest! {
    /// Polled sheaves are returned after their grace period, however seldom it is polled; and at
    /// most two grace periods later, but for those in which nothing polled, however many sheaves
    /// are added.
    #[test]
    fn polled_in_time(
        steps in prop::collection::vec((0usize..3, prop::bool::weighted(0.6)), 1..40),
    ) {
        let now = Rc::new(Cell::new(0));
        let mut polled = Polled::new();
        let mut waits: Vec<(usize, u64)> = vec![];
        let (mut unseen, mut memory) = (0, Memory::default());
        for (n, looks) in steps {
            for _ in 0..n {
                let mut chain = SheafChain::new();
                chain.push(memory.sheaf().into_closed());
                let sheaf = chain.into_first();
                waits.push((sheaf, now.get()));
                // SAFETY: From `into_first()`.
                let chain = unsafe { SheafChain::from_first(sheaf) };
                polled.push(chain, Gp(now.get(), Rc::clone(&now)));
            }
            prop_assert!(polled.is_empty() == waits.is_empty());
            for passed in [0, 1] {
                now.set(now.get() + passed);
                let mut over = if looks { polled.take() } else { SheafChain::new() };
                while let Some(sheaf) = over.pop() {
                    let i = waits.iter().position(|wait| wait.0 == sheaf.addr());
                    let (_, since) = waits.remove(i.expect("one that was pushed, once"));
                    prop_assert!(since < now.get());
                }
            }
            unseen += u64::from(!looks);
            prop_assert!(waits.iter().all(|wait| now.get() - wait.1 < 3 + unseen));
        }
    }
}

/// Only the last running callback learns that it is the last, and the cache is idle only when none
/// runs and nothing is counted.
#[test]
fn running_are_counted() {
    let running = RunningCallbacks::new();
    assert!(running.is_idle_after(|| true) && !running.is_idle_after(|| false));
    running.enter();
    running.enter();
    assert!(!running.is_idle_after(|| true));
    assert!(!running.leave() && !running.is_idle_after(|| true));
    assert!(running.leave() && running.is_idle_after(|| true));
    let object = AtomicLink::new(0);
    let addr = std::ptr::from_ref(&object).expose_provenance();
    let strays = Strays::new();
    // SAFETY: An object that consists of its link.
    assert!(strays.is_empty() && unsafe { strays.push(addr, addr, 0) } && !strays.is_empty());
}
