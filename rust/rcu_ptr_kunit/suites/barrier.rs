// SPDX-License-Identifier: GPL-2.0

//! The barrier: objects that were queued before it are freed when it returns, however many are
//! queued meanwhile.

use crate::{
    cost::{median, Cost},
    prelude::*,
    sys::{
        alloc::{Checks, RawCache},
        perf::{Breakpoint, Hook, Kind},
        probes,
    },
};
use kernel::new_mutex;

/// The most memory of waiting objects while barriers are tested.
const BACKLOG_PAGES: u64 = 4096;

/// Objects that a CPU frees in a row.
const BURST: usize = 64;

/// Calls barriers while every CPU frees objects, and checks after each barrier the objects that
/// were queued before it.
fn against_queueing(free_fn: FreeFn) -> Result {
    let rounds = by_length(7, 20);
    // Objects of this task, and of the other tasks.
    let mine = Pool::new(rounds * 20)?;
    let others = Pool::new(scaled(60_000))?;
    // For objects when that pool is used up. Its destruction reports objects that are left.
    let more = RawCache::new("rcu_ptr_kunit_more", 64, Checks::Poison)?;
    // Callbacks are called one by one, perhaps all by one worker: throttle, so that frees don't
    // outrun it.
    let least = alloc::free_pages().saturating_sub(BACKLOG_PAGES);
    // All CPUs together free about as much as two that never sleep.
    let rest = (cpu::online().count() / 2).saturating_sub(1) as u32;
    let turn = |_cpu: i32, _i: usize| {
        if alloc::free_pages() < least {
            return thread::sleep(1);
        }
        if rest > 0 {
            thread::sleep(rest);
        }
        if others.taken() < others.len() {
            others.free(free_fn, BURST);
        } else {
            free_fn.free_new(&more, BURST);
        }
    };
    let mut left = 0;
    cpus::meanwhile(cpu::online(), &turn, || {
        for round in 0..rounds {
            mine.free(free_fn, 20);
            core::barrier();
            left += mine.unfreed((round + 1) * 20);
        }
    })?;
    core::barrier();
    check!(left == 0 && mine.all_freed() && others.all_freed())
}

/// For how long interrupts stay off after the deferral.
const OFF_NSECS: i64 = 30_000_000;

/// The costs of a barrier and of `synchronize_rcu()`, in alternating rounds. Each CPU has a few
/// objects queued before each.
struct Comparison {
    /// Medians of the times, in nanoseconds.
    nsecs: [i64; 2],
    /// Sums of [`Cost::gp_seq`].
    gp_seqs: [usize; 2],
}

impl Comparison {
    fn measure(rounds: usize) -> Result<Self> {
        let restore = params::no_drain()?;
        let pool = Pool::new(rounds * 2 * 10 * cpu::online().count())?;
        let queue = |_cpu: i32| {
            pool.free(FreeFn::Kvfree, 10);
        };
        let calls: [fn(); 2] = [core::barrier, gp::synchronize];
        let (mut times, mut gp_seqs) = ([KVec::new(), KVec::new()], [0; 2]);
        for _ in 0..rounds {
            for (i, call) in calls.into_iter().enumerate() {
                thread::on_cpus(cpu::online(), &queue, || ())?;
                let cost = Cost::of(call);
                times[i].push(cost.nsecs, GFP_KERNEL)?;
                gp_seqs[i] += cost.gp_seq;
            }
        }
        core::barrier();
        drop(restore);
        check!(pool.all_freed())?;
        Ok(Self {
            nsecs: times.each_mut().map(|times| median(times)),
            gp_seqs,
        })
    }

    /// The time of a barrier in percent of `synchronize_rcu()`.
    fn time_percent(&self) -> i64 {
        self.nsecs[0] * 100 / self.nsecs[1].max(1)
    }

    /// The grace periods of a barrier in percent of `synchronize_rcu()`, which do not depend on the
    /// load of the host.
    fn gp_percent(&self) -> usize {
        self.gp_seqs[0] * 100 / self.gp_seqs[1].max(1)
    }
}

#[kunit_tests(rcu_ptr_barrier)]
mod tests {
    use super::*;

    #[test]
    fn against_queueing_everywhere() -> Result {
        FreeFn::ATOMIC.into_iter().try_for_each(against_queueing)
    }

    /// One CPU fills block after block for three seconds, with barriers in between, while another
    /// one runs expedited grace periods, which end during the normal ones that batches wait for.
    #[test]
    fn beside_expedited_grace_periods() -> Result {
        skip_if!(cpu::online().count() < 2, c"needs two CPUs");
        let pool = Pool::new(4000)?;
        // Its destruction reports objects that are left.
        let more = RawCache::new("rcu_ptr_kunit_more", 64, Checks::Poison)?;
        let last = cpu::online().last().unwrap_or(0);
        let expedite = |_cpu: i32, i: usize| {
            gp::synchronize_expedited();
            // With pauses, so that there is something to wait for.
            thread::sleep(i as u32 % 20);
        };
        let free = || {
            let mut left = 0;
            let end = thread::now() + 3_000_000_000;
            while thread::now() < end {
                for _ in 0..20 {
                    FreeFn::Kvfree.free_new(&more, 1000);
                    thread::still_alive();
                }
                pool.free(FreeFn::Kvfree, 20);
                core::barrier();
                left += pool.unfreed(pool.taken());
            }
            left
        };
        let first = ::core::iter::once(cpus::first());
        let left = cpus::meanwhile(first, &expedite, || cpus::on(last, free))??;
        core::barrier();
        check!(left == 0 && pool.all_freed())
    }

    /// Full blocks before and after an expedited grace period, while a normal one is in progress:
    /// the callback for the earlier blocks may run after the expedited one. The engine has to check
    /// that the grace period is over for all blocks of the batch.
    #[test]
    fn blocks_around_expedited_grace_periods() -> Result {
        // Its destruction reports objects that are left.
        let cache = RawCache::new("rcu_ptr_kunit_around", 64, Checks::Poison)?;
        for round in 0..scaled(400) {
            for half in 0..2 {
                if half == 1 {
                    gp::synchronize_expedited();
                }
                FreeFn::Kvfree.free_new(&cache, 1000);
            }
            if round % 8 == 7 {
                core::barrier();
            }
            thread::cond_resched();
        }
        core::barrier();
        Ok(())
    }

    /// Concurrent barriers on all CPUs, each with its own objects.
    #[test]
    fn many_barriers_at_once() -> Result {
        let pool = Pool::new(8000)?;
        let left = Atomic::<usize>::new(0);
        let body = |_cpu: i32| {
            for _ in 0..10 {
                let mut queued = [None; 8];
                for slot in &mut queued {
                    *slot = pool.take();
                    if let Some(object) = slot {
                        // SAFETY: Handed out once, with a field at `at`.
                        unsafe { FreeFn::Kvfree.free(object.start, object.at) };
                    }
                }
                core::barrier();
                if FREES_ARE_VISIBLE {
                    let intact = queued.iter().flatten().filter(|o| o.is_live()).count();
                    left.fetch_add(intact, Relaxed);
                }
            }
        };
        thread::on_cpus(cpu::online(), &body, || ())?;
        core::barrier();
        check!(left.load(Relaxed) == 0 && pool.all_freed())
    }

    /// So many objects that freeing them takes longer than a grace period.
    #[test]
    fn waits_for_many() -> Result {
        let objects = scaled(40_000);
        for _ in 0..5 {
            let pool = Pool::new(objects)?;
            pool.free(FreeFn::Kvfree, objects);
            core::barrier();
            check!(pool.unfreed(objects) == 0 && pool.all_freed())?;
        }
        Ok(())
    }

    #[test]
    fn costs_a_grace_period() -> Result {
        // On a single CPU a grace period is too short to compare.
        skip_if!(cpu::online().count() < 2, c"needs two CPUs");
        // A barrier has work on every CPU, and a host runs only a few of many vCPUs at a time:
        // other grace periods end meanwhile. A second grace period of the barrier would double its
        // share at least. With sanitizers its work takes half a grace period.
        let (most, most_periods) = match cpu::online().count() {
            0..=4 if SLOW => (175, 125),
            0..=4 => (125, 125),
            _ => (400, 175),
        };
        // The best of a few, as the machine may be busy. (A second grace period would show in all.)
        let mut cost = Comparison::measure(21)?;
        for _ in 0..9 {
            if cost.time_percent() > most || cost.gp_percent() > most_periods {
                cost = Comparison::measure(21)?;
            }
        }
        pr_info!(
            "barrier: {} us, synchronize_rcu(): {} us, ratio {} %, of grace periods {} %\n",
            cost.nsecs[0] / 1000,
            cost.nsecs[1] / 1000,
            cost.time_percent(),
            cost.gp_percent()
        );
        check!(cost.gp_percent() <= most_periods)?;
        check!(cost.time_percent() <= most)
    }

    /// For lockdep: the caller may hold a lock that memory reclaim takes. The kernel's own
    /// kvfree_rcu_barrier() takes the CPU hotplug lock, which is held across allocations elsewhere.
    #[test]
    fn under_a_lock_that_reclaim_takes() -> Result {
        let lock = KBox::pin_init(new_mutex!((), "rcu_ptr_kunit_reclaim"), GFP_KERNEL)?;
        thread::as_reclaim(|| drop(lock.lock()));
        let pool = Pool::new(100)?;
        let cache = SheafCache::new(c"rcu_ptr_kunit_locked", 64, Args::default())?;
        let held = lock.lock();
        for _ in 0..pool.len() {
            pool.free(FreeFn::Kvfree, 1);
            drop(cache.hold_nolock());
        }
        core::barrier();
        drop(held);
        check!(pool.all_freed())
    }

    /// An object is deferred on another CPU whose irq_work can't run, as interrupts are off there.
    /// The barrier has to include it.
    #[test]
    fn deferred_with_interrupts_off() -> Result {
        const NONE: &CStr =
            c"no data breakpoints with a handler of one's own here, or one CPU only";
        let cpu = or_skip!(cpu::online().find(|&c| c != cpu::this()), NONE);
        let pool = Pool::new(2000)?;
        let deferred = EventCounter::start(|c| c.deferred.load(Relaxed))?;
        let mut left = 0;
        for round in 0..5 {
            // 1: the objects are queued, and some deferred, if there are breakpoints.
            let there = Atomic::<i32>::new(0);
            let in_nmi = || {
                pool.free(FreeFn::Nolock, 1);
            };
            let hook = Hook::new(&in_nmi);
            let body = |this: i32| {
                let word = core_test::words(this).next().unwrap_or(0);
                let breakpoint = Breakpoint::new(Kind::Write4, word, &hook);
                cpu::irqs_off(|| {
                    pool.free(FreeFn::Kvfree, 3);
                    // ORDERING: Release pairs with the acquire below: they are queued.
                    there.store(1, Release);
                    cpus::spin(OFF_NSECS, || false);
                });
                drop(breakpoint);
            };
            thread::on_cpus(::core::iter::once(cpu), &body, || {
                // ORDERING: Pairs with the release above.
                while there.load(Acquire) == 0 {
                    ::core::hint::spin_loop();
                }
                let queued = pool.taken();
                core::barrier();
                left += pool.unfreed(queued);
            })?;
            if round == 0 && pool.taken() <= 3 {
                // The barrier above ran before the objects of this test were freed.
                core::barrier();
                skip!(NONE);
            }
        }
        let n = deferred.count();
        core::barrier();
        pr_info!("barrier: {n} objects were deferred\n");
        check!(left == 0 && pool.all_freed())?;
        // Engine lockless defers none.
        check!(n > 0 || probes::saw_lockless())
    }
}
