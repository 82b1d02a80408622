// SPDX-License-Identifier: GPL-2.0

//! Operations of a cache under loom: contexts of one CPU as threads, which allows more
//! interleavings than interrupts, and a grace period that another CPU waits for. loom reports a
//! slot that is accessed again before the contexts in the middle have been waited for.

use super::loom_tests::{model, spawn};
use crate::{
    sheaf_model::{ring, Ctx, Flaw, Model},
    sheaves::{
        exchange::{close_all, CacheCpu},
        grace::{self, RunningCallbacks},
    },
    sync::{AtomicLink, Plain},
};
use loom::sync::Arc;

/// A context with a thread of its own.
fn at(model: &Model, context: usize) -> Ctx<'_> {
    Ctx {
        context,
        ..model.nmi(0)
    }
}

fn end(cache: Arc<Model>) {
    let Ok(cache) = Arc::try_unwrap(cache) else {
        panic!("one owner is left");
    };
    cache.check_all();
}

/// Objects without a sheaf, and their list.
struct StrayList {
    list: grace::Strays,
    objects: [Object; 3],
}

/// An object that detects two owners.
#[repr(align(8))]
struct Object {
    link: AtomicLink,
    content: Plain<u32>,
}

impl StrayList {
    fn push(&self, i: usize) {
        let object = &self.objects[i];
        // SAFETY: Its owner's.
        unsafe { object.content.set(object.content.get() + 1) };
        let addr = core::ptr::from_ref(object).expose_provenance();
        let link = core::ptr::from_ref(&object.link).expose_provenance();
        // SAFETY: A live object, pushed once.
        assert!(unsafe { self.list.push(addr, link, i) });
    }

    /// Takes all objects. Returns their number.
    fn take_in(&self) -> u32 {
        let (mut rest, mut n) = (self.list.take(), 0);
        let link = core::mem::offset_of!(Object, link);
        // SAFETY: Taken just now.
        while let Some((addr, epoch, next)) = unsafe { grace::Strays::next(rest, link) } {
            let object = core::ptr::with_exposed_provenance::<Object>(addr);
            // SAFETY: Off the list, it is this context's.
            let content = unsafe { &(*object).content };
            // SAFETY: As above.
            unsafe { content.set(content.get() + 1) };
            assert!(core::ptr::eq(object, &self.objects[epoch]));
            (rest, n) = (next, n + 1);
        }
        n
    }
}

/// Two contexts push while two take: each object has one owner, which sees what the last one wrote,
/// and is taken off the list once.
#[test]
fn strays_have_one_owner() {
    model(|| {
        let all = Arc::new(StrayList {
            list: grace::Strays::new(),
            objects: [(); 3].map(|()| Object {
                link: AtomicLink::new(0),
                content: Plain::new(0),
            }),
        });
        let pusher = spawn(&all, |all| {
            all.push(0);
            all.push(1);
        });
        let taker = spawn(&all, |all| all.take_in());
        all.push(2);
        let mut taken = all.take_in();
        pusher.join().unwrap();
        taken += taker.join().unwrap();
        taken += all.take_in();
        assert_eq!(taken, 3);
        for object in &all.objects {
            // SAFETY: All other threads have ended.
            assert_eq!(unsafe { object.content.get() }, 2);
        }
    });
}

/// Two contexts take the last objects of a sheaf. One of them finds no slot, takes the next sheaf,
/// and frees so many objects that the first sheaf is filled again, if it may be.
fn alloc_alloc(flaw: Flaw) {
    model(move || {
        let cache = Arc::new(Model::new(1, 2, 2, 16, flaw));
        let mine = cache.from_slab();
        // This installs a sheaf, in which one object is left.
        assert!(at(&cache, 0).alloc().is_some());
        let other = spawn(&cache, |cache| assert!(at(cache, 1).alloc().is_some()));
        let object = at(&cache, 0).alloc().expect("three objects are left");
        at(&cache, 0).free_rcu(object);
        at(&cache, 0).free_rcu(mine);
        other.join().unwrap();
        end(cache);
    });
}

/// No sheaf is installed: two contexts find none at the same time, and each installs one.
fn both_install(flaw: Flaw) {
    model(move || {
        let cache = Arc::new(Model::new(1, 3, 2, 16, flaw));
        let other = spawn(&cache, |cache| assert!(at(cache, 1).alloc().is_some()));
        assert!(at(&cache, 0).alloc().is_some());
        other.join().unwrap();
        end(cache);
    });
}

/// Two contexts free objects while the monitor closes the sheaf, and reads it after a grace period.
fn free_free_close(flaw: Flaw) {
    model(move || {
        let cache = Arc::new(Model::new(1, 0, 3, 16, flaw));
        let objects = [(); 3].map(|()| cache.from_slab());
        at(&cache, 0).free_rcu(objects[0]);
        let other = spawn(&cache, move |cache| {
            assert!(at(cache, 1).free_rcu(objects[1]))
        });
        let monitor = spawn(&cache, |cache| {
            let at = at(cache, 2);
            let words = at.words();
            at.start_grace_period(close_all(&words, || at.count(), |stamp| at.uncount(stamp)));
            at.start_grace_period(words.spent.take());
            cache.grace_period();
            cache.callbacks();
        });
        at(&cache, 0).free_rcu(objects[2]);
        other.join().unwrap();
        monitor.join().unwrap();
        end(cache);
    });
}

/// A CPU dies (its accesses happen before, as CPU hotplug guarantees), and another takes its
/// sheaves off while a third uses sheaves of the barn.
#[test]
fn dead_cpu() {
    model(|| {
        let cache = Arc::new(Model::new(2, 4, 2, 16, Flaw::None));
        let dying = spawn(&cache, |cache| {
            let object = at(cache, 1).alloc().expect("some sheaves are left");
            at(cache, 1).free_rcu(object);
        });
        let other = spawn(&cache, |cache| {
            let there = Ctx {
                cpu: 1,
                ..at(cache, 1)
            };
            if let Some(object) = there.alloc() {
                there.free_rcu(object);
            }
        });
        dying.join().unwrap();
        cache.take_off(0);
        cache.grace_period();
        cache.callbacks();
        other.join().unwrap();
        end(cache);
    });
}

/// Two CPUs take the two objects of a reserve while a worker adds others, in slots that are free
/// again. Each object is taken once, and each CPU gets one.
#[test]
fn reserve_of_two_cpus() {
    model(|| {
        let ring = Arc::new(ring(2, 2));
        assert!(ring.put(8) && ring.put(16));
        let takers = [(); 2].map(|()| spawn(&ring, |ring| ring.take().expect("there are two")));
        let mut all = vec![8, 16];
        for object in [24, 32] {
            if ring.put(object) {
                all.push(object);
            }
        }
        let mut seen: Vec<usize> = takers.into_iter().map(|t| t.join().unwrap()).collect();
        seen.extend(std::iter::from_fn(|| ring.take()));
        seen.sort_unstable();
        assert_eq!(seen, all);
    });
}

/// An object that is taken while it is added is that object, or none.
#[test]
fn reserve_is_refilled() {
    model(|| {
        let ring = Arc::new(ring(1, 1));
        let worker = spawn(&ring, |ring| assert!(ring.put(8)));
        let mut taken = vec![ring.take()];
        worker.join().unwrap();
        taken.push(ring.take());
        taken.sort_unstable();
        assert_eq!(taken, [None, Some(8)]);
    });
}

/// A slot is reused while another context takes the first object, or is too late for it: it must
/// not use the old tail.
#[test]
fn reserve_wraps_around() {
    model(|| {
        let ring = Arc::new(ring(1, 1));
        assert!(ring.put(8));
        let late = spawn(&ring, |ring| ring.take());
        let first = ring.take();
        assert!(ring.put(16), "the first was taken");
        let mut taken = vec![first, ring.take(), late.join().unwrap(), ring.take()];
        taken.retain(Option::is_some);
        taken.sort_unstable();
        assert_eq!(taken, [Some(8), Some(16)]);
    });
}

/// Two contexts take what is not promised: one object stays.
#[test]
fn surplus_of_a_reserve() {
    model(|| {
        let ring = Arc::new(ring(2, 1));
        assert!(ring.put(8) && ring.put(16));
        let takers = [(); 2].map(|()| spawn(&ring, |ring| ring.take_surplus()));
        let taken = takers.into_iter().filter_map(|t| t.join().unwrap());
        assert_eq!(taken.count(), 1);
        assert_eq!(ring.len(), 1);
    });
}

/// A callback that drops a count in the second of two words, and then accesses its cache; and
/// another context that frees the cache when `is_quiet` returns `true`.
fn callback_and_end(is_quiet: fn(&RunningCallbacks, &dyn Fn() -> bool) -> bool) {
    loom::model(move || {
        let cache = Arc::new((
            RunningCallbacks::new(),
            [AtomicLink::new(0), AtomicLink::new(1)],
            AtomicLink::new(0),
        ));
        let callback = spawn(&cache, |cache| {
            let (running, counts, gone) = cache;
            running.enter();
            counts[1].xchg_full(0);
            assert_eq!(gone.load_relaxed(), 0, "the cache is gone");
            let _ = running.leave();
        });
        let (running, counts, gone) = &*cache;
        let none = || counts.iter().all(|count| count.load_acquire() == 0);
        if is_quiet(running, &none) {
            gone.store_relaxed(1);
        }
        callback.join().unwrap();
    });
}

tests! {
    two_take_objects: alloc_alloc(Flaw::None);
    two_give_objects_back: free_free_close(Flaw::None);
    two_install_sheaves: both_install(Flaw::None);
    sees_a_reservation_in_two_steps, "allocated": alloc_alloc(Flaw::ReserveInTwoSteps);
    sees_that_an_exchange_does_not_bar, "sheaves there and made":
        both_install(Flaw::ExchangeDoesNotBar);
    sees_an_emptied_sheaf_that_was_not_awaited, "Causality violation":
        alloc_alloc(Flaw::EmptiedNotAwaited);
    sees_a_filled_sheaf_that_was_not_awaited, "Causality violation":
        free_free_close(Flaw::FilledNotAwaited);
    sees_preemptible_calls, "Causality violation": free_free_close(Flaw::Preemptible);
    callbacks_end_before_their_cache:
        callback_and_end(|running, none| running.is_idle_after(none));
    sees_callbacks_checked_before_counts, "the cache is gone":
        callback_and_end(|running, none| running.is_idle_after(|| true) && none());
}
