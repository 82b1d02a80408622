// SPDX-License-Identifier: GPL-2.0

//! What Rust objects own is dropped once and not early, however many contexts on however many CPUs make
//! and drop them while others look.

use crate::{
    bound,
    owner::{Book, Owner},
    rcu_ptr::{self, Cache, CacheSlot, RcuKBox, RcuSlot, WithRoom},
    scaled, storm,
    sys::{
        cpu::{self, Context},
        kunit::skip,
        thread,
        timer::{self, Where},
    },
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        rcu, Arc,
    },
};

/// An owner with room for a closure.
type Roomy = WithRoom<Owner, 1>;

/// Slots, and what writers in any context did with them.
struct Stage {
    book: &'static Book,
    boxes: RcuSlot<RcuKBox<Owner>>,
    rooms: RcuSlot<RcuKBox<Roomy>>,
    next: Atomic<u64>,
    /// Runs in the context that the stage is about.
    there: Atomic<usize>,
    /// Allocations that failed.
    missed: Atomic<usize>,
    /// Closures queued, and run.
    queued: Atomic<usize>,
    ran: &'static Atomic<usize>,
}

impl Stage {
    fn new(book: &'static Book, ran: &'static Atomic<usize>) -> Self {
        Self {
            book,
            boxes: RcuSlot::new(),
            rooms: RcuSlot::new(),
            next: Atomic::new(1),
            there: Atomic::new(0),
            missed: Atomic::new(0),
            queued: Atomic::new(0),
            ran,
        }
    }

    fn key(&self) -> u64 {
        self.next.fetch_add(1, Relaxed)
    }

    /// Puts a new object in each slot, lets go of those that were, and looks at what there is.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    fn exchange(&self, want: Context) {
        self.there
            .fetch_add(usize::from(cpu::context() == want), Relaxed);
        let guard = rcu::read_lock();
        let seen = self.boxes.load(&guard);
        if let Some(owner) = Owner::new_nolock(self.book, self.key()) {
            match RcuKBox::new_nolock(owner) {
                Ok(new) => drop(self.boxes.swap(Some(new))),
                Err(_owner) => self.miss(),
            }
        } else {
            self.miss();
        }
        if let Some(owner) = Owner::new_nolock(self.book, self.key()) {
            match RcuKBox::new_nolock(WithRoom::new(owner)) {
                Ok(new) => self.retire(self.rooms.swap(Some(new))),
                Err(_owner) => self.miss(),
            }
        } else {
            self.miss();
        }
        if let Some(owner) = seen {
            owner.look();
        }
        if let Some(owner) = self.rooms.load(&guard) {
            owner.look();
        }
    }

    fn miss(&self) {
        self.missed.fetch_add(1, Relaxed);
    }

    fn retire(&self, object: Option<RcuKBox<Roomy>>) {
        if let Some(object) = object {
            let ran = self.ran;
            self.queued.fetch_add(1, Relaxed);
            object.call(move |owner| {
                owner.look();
                ran.fetch_add(1, Relaxed);
            });
        }
    }

    /// Empties the slots, waits, and says what came of it.
    fn end(&self) -> (usize, usize, bool) {
        drop(self.boxes.swap(None));
        self.retire(self.rooms.swap(None));
        rcu_ptr::barrier();
        let [there, missed, queued] =
            [&self.there, &self.missed, &self.queued].map(|n| n.load(Relaxed));
        let (ran, looks) = (self.ran.load(Relaxed), self.book.looks.load(Relaxed));
        pr_info!(
            "rust_drop: {} times there; {} made, {} dropped, {} not allocated; {} of {} closures; {} looks\n",
            there,
            self.book.made(),
            self.book.dropped(),
            missed,
            ran,
            queued,
            looks
        );
        let made = self.book.made();
        (
            there,
            made,
            self.book.is_even() && ran == queued && looks > 0,
        )
    }
}

/// NMIs that a slow machine has within seconds.
const ENOUGH: usize = 100;

fn in_nmi(stage: &Stage, rounds: usize) -> Result<bool> {
    let Some(nmi_source) = storm::strongest() else {
        return Ok(false);
    };
    let task = |_cpu: i32| {
        for _ in 0..rounds {
            stage.exchange(Context::Nmi);
        }
    };
    let nmi = || stage.exchange(Context::Nmi);
    storm::during(nmi_source, &nmi, None, || {
        let ran = thread::on_cpus(cpu::online(), &task, || ());
        // Where the tasks were quick.
        bound::watchdog(|| stage.there.load(Relaxed) > ENOUGH);
        ran
    })??;
    Ok(true)
}

/// A timer's handler and tasks of every CPU.
fn in_timer(
    book: &'static Book,
    ran: &'static Atomic<usize>,
    place: Where,
    want: Context,
) -> Result {
    let stage = Stage::new(book, ran);
    let body = || stage.exchange(want);
    let task = |_cpu: i32| {
        let _ = timer::every(place, 300_000, &body, || {
            for _ in 0..scaled(10_000) {
                stage.exchange(want);
            }
            bound::watchdog(|| stage.there.load(Relaxed) > ENOUGH);
        });
    };
    thread::on_cpus(cpu::online(), &task, || ())?;
    let (there, made, even) = stage.end();
    check!(there > ENOUGH && made > 1000);
    check!(even);
    Ok(())
}

/// A place for objects of a cache, and what writers in any context do with it.
struct CacheStage<'a> {
    book: &'static Book,
    cache: &'a Cache<Owner>,
    slot: CacheSlot<'a, Owner>,
    next: Atomic<u64>,
    there: Atomic<usize>,
}

impl CacheStage<'_> {
    /// # Context
    ///
    /// Any, NMI included.
    fn exchange(&self) {
        self.there
            .fetch_add(usize::from(cpu::context() == Context::Nmi), Relaxed);
        let key = self.next.fetch_add(1, Relaxed);
        let guard = rcu::read_lock();
        let seen = self.slot.load(&guard);
        if let Some(Ok(new)) =
            Owner::new_nolock(self.book, key).map(|owner| self.cache.alloc_nolock(owner))
        {
            // Some have never been shared when they go.
            if key % 8 != 0 {
                drop(self.slot.swap(Some(new.share())));
            }
        }
        if let Some(owner) = seen {
            owner.look();
        }
    }
}

/// Returns the runs in NMI, if there are any, and whether every object was dropped once.
fn through_a_cache(book: &'static Book) -> Result<(Option<usize>, bool)> {
    let cache = Cache::new(c"rcu_ptr_rust_drop")?;
    cache.prefill(64)?;
    let stage = CacheStage {
        book,
        cache: &cache,
        slot: CacheSlot::new(&cache),
        next: Atomic::new(1),
        there: Atomic::new(0),
    };
    let task = |_cpu: i32| {
        for _ in 0..scaled(20_000) {
            stage.exchange();
        }
    };
    let nmi_source = storm::strongest();
    let nmi = || stage.exchange();
    match nmi_source {
        Some(nmi_source) => storm::during(nmi_source, &nmi, None, || {
            let ran = thread::on_cpus(cpu::online(), &task, || ());
            bound::watchdog(|| stage.there.load(Relaxed) > ENOUGH);
            ran
        })??,
        None => thread::on_cpus(cpu::online(), &task, || ())?,
    }
    drop(stage.slot.swap(None));
    cache.barrier();
    let (there, looks) = (stage.there.load(Relaxed), book.looks.load(Relaxed));
    pr_info!(
        "rust_drop: cache: {} times in NMI; {} made, {} dropped; {} looks\n",
        there,
        book.made(),
        book.dropped(),
        looks
    );
    Ok((nmi_source.map(|_| there), book.is_even() && looks > 0))
}

/// Objects of a cache that share what they own, in generations: all but the last are dropped while their
/// memory is used again.
fn sharing(book: &'static Book, generations: u64) -> Result<bool> {
    let cache = Cache::new(c"rcu_ptr_rust_share")?;
    let shared = Arc::new(7u64, GFP_KERNEL)?;
    for key in 0..generations {
        let one = cache.alloc(Owner::sharing(book, key, &shared)?, GFP_KERNEL)?;
        let other = cache.alloc(Owner::sharing(book, !key, &shared)?, GFP_KERNEL)?;
        drop((one.share(), other));
        if key % 64 == 0 {
            cache.barrier();
        }
    }
    drop(cache);
    Ok(book.made() == 2 * generations as usize && Arc::into_unique_or_drop(shared).is_some())
}

#[kunit_tests(rcu_ptr_rust_drop)]
mod tests {
    use super::*;

    #[test]
    fn in_nmi_and_tasks() -> Result {
        static BOOK: Book = Book::new();
        static RAN: Atomic<usize> = Atomic::new(0);
        let stage = Stage::new(&BOOK, &RAN);
        skip_if!(!in_nmi(&stage, scaled(20_000))?, c"the machine has no NMIs");
        let (there, made, even) = stage.end();
        check!(there > ENOUGH && made > 1000);
        check!(even);
        Ok(())
    }

    #[test]
    fn through_a_cache_in_nmi_and_tasks() -> Result {
        static BOOK: Book = Book::new();
        let (there, even) = through_a_cache(&BOOK)?;
        check!(BOOK.made() > 1000);
        check!(even);
        match there {
            None => skip(c"the machine has no NMIs"),
            Some(there) => check!(there > ENOUGH),
        }
        Ok(())
    }

    #[test]
    fn references_in_objects_of_a_cache() -> Result {
        static BOOK: Book = Book::new();
        check!(sharing(&BOOK, scaled(5000) as u64)?);
        check!(BOOK.is_even());
        Ok(())
    }

    #[test]
    fn in_hardirq_and_tasks() -> Result {
        static BOOK: Book = Book::new();
        static RAN: Atomic<usize> = Atomic::new(0);
        in_timer(&BOOK, &RAN, Where::Hardirq, Context::Hardirq)
    }

    #[test]
    fn in_softirq_and_tasks() -> Result {
        static BOOK: Book = Book::new();
        static RAN: Atomic<usize> = Atomic::new(0);
        in_timer(&BOOK, &RAN, Where::Softirq, Context::Softirq)
    }
}
