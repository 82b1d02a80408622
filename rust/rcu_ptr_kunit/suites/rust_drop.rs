// SPDX-License-Identifier: GPL-2.0

//! What Rust objects own is dropped once, and not early, while all contexts on all CPUs make, drop
//! and read objects.

use crate::{
    owner::{DropCounts, Owner},
    prelude::*,
    rcu_ptr::{self, Cache, CacheSlot, RcuKBox, RcuSlot, WithRoom},
    storm::{self, NmiSource},
};
use kernel::sync::Arc;

/// An owner with room for a closure.
type Roomy = WithRoom<Owner, 1>;

/// Slots that any context exchanges boxes in, and counts.
struct BoxExchange {
    drops: &'static DropCounts,
    boxes: RcuSlot<RcuKBox<Owner>>,
    rooms: RcuSlot<RcuKBox<Roomy>>,
    next: Atomic<u64>,
    /// Calls in the context under test.
    there: Atomic<usize>,
    /// Owners that could not be allocated.
    missed: Atomic<usize>,
    /// Closures queued.
    queued: Atomic<usize>,
    /// Closures that ran.
    ran: &'static Atomic<usize>,
}

impl BoxExchange {
    fn new(drops: &'static DropCounts, ran: &'static Atomic<usize>) -> Self {
        Self {
            drops,
            boxes: RcuSlot::new(),
            rooms: RcuSlot::new(),
            next: Atomic::new(1),
            there: Atomic::new(0),
            missed: Atomic::new(0),
            queued: Atomic::new(0),
            ran,
        }
    }

    fn new_owner(&self) -> Option<Owner> {
        let owner = Owner::new_nolock(self.drops, self.next.fetch_add(1, Relaxed));
        self.missed.fetch_add(usize::from(owner.is_none()), Relaxed);
        owner
    }

    /// Puts a new object into each slot, drops the previous ones, and checks what readers find.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    fn exchange(&self, want: Context) {
        self.there
            .fetch_add(usize::from(cpu::context() == want), Relaxed);
        let guard = rcu::read_lock();
        let seen = self.boxes.load(&guard);
        if let Some(owner) = self.new_owner() {
            if let Ok(new) = RcuKBox::new_nolock(owner) {
                drop(self.boxes.swap(Some(new)));
            }
        }
        if let Some(owner) = self.new_owner() {
            if let Ok(new) = RcuKBox::new_nolock(WithRoom::new(owner)) {
                self.retire(self.rooms.swap(Some(new)));
            }
        }
        if let Some(owner) = seen {
            owner.check_intact();
        }
        if let Some(owner) = self.rooms.load(&guard) {
            owner.check_intact();
        }
    }

    fn retire(&self, object: Option<RcuKBox<Roomy>>) {
        if let Some(object) = object {
            let ran = self.ran;
            self.queued.fetch_add(1, Relaxed);
            object.call(move |owner| {
                owner.check_intact();
                ran.fetch_add(1, Relaxed);
            });
        }
    }

    /// Empties the slots, waits, and checks the counts. `tasks`: calls of [`Self::exchange()`] by
    /// tasks.
    fn end(&self, tasks: usize) -> Result {
        drop(self.boxes.swap(None));
        self.retire(self.rooms.swap(None));
        rcu_ptr::barrier();
        let asked = self.next.load(Relaxed) as usize - 1;
        let [there, missed, queued, ran, checks] = [
            &self.there,
            &self.missed,
            &self.queued,
            self.ran,
            &self.drops.checks,
        ]
        .map(|n| n.load(Relaxed));
        let made = self.drops.made();
        pr_info!(
            "rust_drop: {there} times there; {made} made, {missed} not allocated; {ran} of \
             {queued} closures; {checks} checks\n"
        );
        // Each call allocates two. kmalloc_nolock() fails in NMI on PREEMPT_RT, and while another
        // context holds the lock of the slab; half of the allocations of tasks is a safe lower
        // limit.
        check!(asked >= 2 * (tasks + there) && made + missed == asked && made >= tasks)?;
        check!(there > MIN_NMIS && ran == queued && checks > 0)?;
        check!(self.drops.is_balanced())
    }
}

/// The number of NMIs that even a slow machine has within seconds.
const MIN_NMIS: usize = 100;

/// Timers and tasks on every CPU.
fn in_timer(
    drops: &'static DropCounts,
    ran: &'static Atomic<usize>,
    place: Where,
    want: Context,
) -> Result {
    let exchanger = BoxExchange::new(drops, ran);
    let rounds = scaled(10_000);
    let body = || exchanger.exchange(want);
    let task = |_cpu: i32| {
        let _ = timer::every(place, 300_000, &body, || {
            (0..rounds).for_each(|_| body());
            bound::wait_with_timeout(|| exchanger.there.load(Relaxed) > MIN_NMIS);
        });
    };
    thread::on_cpus(cpu::online(), &task, || ())?;
    exchanger.end(rounds * cpu::online().count())
}

/// A slot that any context exchanges objects of a cache in, and counts.
struct CacheExchange<'a> {
    drops: &'static DropCounts,
    cache: &'a Cache<Owner>,
    slot: CacheSlot<'a, Owner>,
    next: Atomic<u64>,
    there: Atomic<usize>,
    missed: Atomic<usize>,
}

impl CacheExchange<'_> {
    /// # Context
    ///
    /// Any, NMI included.
    fn exchange(&self) {
        self.there
            .fetch_add(usize::from(cpu::context() == Context::Nmi), Relaxed);
        let key = self.next.fetch_add(1, Relaxed);
        let guard = rcu::read_lock();
        let seen = self.slot.load(&guard);
        let owner = Owner::new_nolock(self.drops, key);
        self.missed.fetch_add(usize::from(owner.is_none()), Relaxed);
        if let Some(Ok(new)) = owner.map(|owner| self.cache.alloc_nolock(owner)) {
            // Some are dropped without having been shared.
            if key % 8 != 0 {
                drop(self.slot.swap(Some(new.share())));
            }
        }
        if let Some(owner) = seen {
            owner.check_intact();
        }
    }
}

/// Calls `exchange` in NMIs, and `rounds` times in a task of each CPU. `there`: counts the NMIs.
fn in_nmis(
    nmi_source: NmiSource,
    exchange: &(dyn Fn() + Sync),
    rounds: usize,
    there: &Atomic<usize>,
) -> Result {
    storm::during(nmi_source, exchange, None, || {
        let task = |_cpu: i32| (0..rounds).for_each(|_| exchange());
        let ran = thread::on_cpus(cpu::online(), &task, || ());
        // In case the tasks were quick.
        bound::wait_with_timeout(|| there.load(Relaxed) > MIN_NMIS);
        ran
    })?
}

/// Exchanges objects of a cache in tasks and NMIs.
fn through_a_cache(drops: &'static DropCounts, nmi_source: NmiSource) -> Result {
    let cache = Cache::new(c"rcu_ptr_rust_drop")?;
    cache.prefill(64)?;
    let exchanger = CacheExchange {
        drops,
        cache: &cache,
        slot: CacheSlot::new(&cache),
        next: Atomic::new(1),
        there: Atomic::new(0),
        missed: Atomic::new(0),
    };
    let rounds = scaled(20_000);
    let exchange = || exchanger.exchange();
    in_nmis(nmi_source, &exchange, rounds, &exchanger.there)?;
    drop(exchanger.slot.swap(None));
    cache.barrier();
    let (there, checks) = (exchanger.there.load(Relaxed), drops.checks.load(Relaxed));
    let (made, missed) = (drops.made(), exchanger.missed.load(Relaxed));
    pr_info!(
        "rust_drop: cache: {there} times in NMI; {made} made, {missed} not allocated; \
         {checks} checks\n"
    );
    // As in `BoxExchange::end()`, with one object per call.
    let (asked, tasks) = (
        exchanger.next.load(Relaxed) as usize - 1,
        rounds * cpu::online().count(),
    );
    check!(asked >= tasks + there && made + missed == asked && made >= tasks / 2)?;
    check!(there > MIN_NMIS && checks > 0 && drops.is_balanced())
}

/// Objects of a cache that share a reference, in generations, whose memory is reused.
fn sharing(drops: &'static DropCounts, generations: u64) -> Result {
    let cache = Cache::new(c"rcu_ptr_rust_share")?;
    let shared = Arc::new(7u64, GFP_KERNEL)?;
    for key in 0..generations {
        let one = cache.alloc(Owner::sharing(drops, key, &shared)?, GFP_KERNEL)?;
        let other = cache.alloc(Owner::sharing(drops, !key, &shared)?, GFP_KERNEL)?;
        drop((one.share(), other));
        if key % 64 == 0 {
            cache.barrier();
        }
    }
    drop(cache);
    check!(drops.is_balanced() && drops.made() == 2 * generations as usize)?;
    check!(Arc::into_unique_or_drop(shared).is_some())
}

#[kunit_tests(rcu_ptr_rust_drop)]
mod tests {
    use super::*;

    #[test]
    fn in_nmi_and_tasks() -> Result {
        static DROPS: DropCounts = DropCounts::new();
        static RAN: Atomic<usize> = Atomic::new(0);
        let nmi_source = or_skip!(storm::strongest(), c"the machine has no NMIs");
        let exchanger = BoxExchange::new(&DROPS, &RAN);
        let rounds = scaled(20_000);
        let exchange = || exchanger.exchange(Context::Nmi);
        in_nmis(nmi_source, &exchange, rounds, &exchanger.there)?;
        exchanger.end(rounds * cpu::online().count())
    }

    #[test]
    fn through_a_cache_in_nmi_and_tasks() -> Result {
        static DROPS: DropCounts = DropCounts::new();
        let nmi_source = or_skip!(storm::strongest(), c"the machine has no NMIs");
        through_a_cache(&DROPS, nmi_source)
    }

    #[test]
    fn references_in_objects_of_a_cache() -> Result {
        static DROPS: DropCounts = DropCounts::new();
        sharing(&DROPS, scaled(5000) as u64)
    }

    #[test]
    fn in_hardirq_and_tasks() -> Result {
        static DROPS: DropCounts = DropCounts::new();
        static RAN: Atomic<usize> = Atomic::new(0);
        in_timer(&DROPS, &RAN, Where::Hardirq, Context::Hardirq)
    }

    #[test]
    fn in_softirq_and_tasks() -> Result {
        static DROPS: DropCounts = DropCounts::new();
        static RAN: Atomic<usize> = Atomic::new(0);
        in_timer(&DROPS, &RAN, Where::Softirq, Context::Softirq)
    }
}
