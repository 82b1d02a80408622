// SPDX-License-Identifier: GPL-2.0

//! Every function, called from every tracepoint of the kernel: with locks of timers, workqueues,
//! the scheduler, RCU and the allocators held, where a call that takes one of them, or wakes a
//! task, deadlocks. And with a lock of the caller held.

use crate::{
    prelude::*,
    sys::tracepoints::{self, Site},
};

/// Calls that one tracepoint makes in a run.
const QUOTA: u64 = if SLOW { 12 } else { 64 };

/// The nesting limit of calls from tracepoints in calls from tracepoints.
const DEPTH: i32 = 2;

/// Representative tracepoints: each has to make calls in a run.
const KINDS: [&str; 15] = [
    "timer_start",
    "timer_cancel",
    "timer_expire_entry",
    "hrtimer_start",
    "hrtimer_expire_entry",
    "workqueue_queue_work",
    "workqueue_execute_start",
    "sched_switch",
    "sched_waking",
    "sched_wakeup",
    "kmem_cache_free",
    "mm_page_alloc",
    "rcu_utilization",
    "softirq_entry",
    "rcu_ptr_batch_end",
];

/// Calls in progress on a CPU.
struct Cpu {
    depth: Atomic<i32>,
    /// The context of the innermost call, encoded; 0: none.
    call: Atomic<i32>,
}

/// Makes calls from tracepoints, and checks their effects.
struct Caller<'a> {
    pool: &'a Pool,
    table: &'a Table<'a>,
    cpus: KVec<Cpu>,
    calls: Atomic<usize>,
    /// Whether rcu_ptr_kvfree() takes a lock, of the engine or of debug features.
    locks: bool,
    /// Tasks that were woken by calls, with interrupts off and on.
    woke: [Atomic<u64>; 2],
}

impl<'a> Caller<'a> {
    fn new(pool: &'a Pool, table: &'a Table<'a>) -> Result<Self> {
        let mut cpus = KVec::new();
        for _ in 0..cpu::nr_ids() {
            let cpu = Cpu {
                depth: Atomic::new(0),
                call: Atomic::new(0),
            };
            cpus.push(cpu, GFP_KERNEL)?;
        }
        Ok(Self {
            pool,
            table,
            cpus,
            calls: Atomic::new(0),
            locks: !params::is_lockless()
                || cfg!(any(CONFIG_DEBUG_OBJECTS_RCU_HEAD, CONFIG_DEBUG_KMEMLEAK)),
            woke: [const { Atomic::new(0) }; 2],
        })
    }

    /// Calls `f`, and counts the tasks that it wakes. Preemption is off.
    fn watched(&self, f: impl FnOnce(Context)) {
        let context = cpu::context();
        let irqs_on = !cpu::irqs_are_off();
        let Some(cpu) = self.cpus.get(cpu::this() as usize) else {
            return;
        };
        let outer = cpu.call.load(Relaxed);
        cpu.call
            .store(1 + (context as i32) * 2 + i32::from(irqs_on), Relaxed);
        f(context);
        cpu.call.store(outer, Relaxed);
    }

    /// Makes the next call. `may_lock`: no lock that rcu_ptr_kvfree() may take is held.
    fn call(&self, may_lock: bool) {
        self.watched(|context| self.call_in(context, may_lock));
    }

    /// The control: whether a wakeup in [`Self::watched()`] is counted.
    fn sees_a_wakeup(&self) -> bool {
        let seen = || self.woke[0].load(Relaxed);
        let before = seen();
        let sees = (0..100).any(|_| {
            cpu::irqs_off(|| self.watched(|_| tracepoints::wake_a_task()));
            thread::sleep(1);
            seen() > before
        });
        self.woke[0].store(before, Relaxed);
        sees
    }

    fn call_in(&self, context: Context, may_lock: bool) {
        let n = self.calls.fetch_add(1, Relaxed);
        match n % 5 {
            0..3 => {
                if let Some(object) = self.pool.take() {
                    let free_fn = if n % 5 == 0 && may_lock && context != Context::Nmi {
                        FreeFn::Kvfree
                    } else {
                        FreeFn::Nolock
                    };
                    // SAFETY: Handed out once, with a field at `at`; still owned if the call
                    // returns false.
                    unsafe {
                        if n % 5 != 2 || !core::try_kfree_nolock(object.start) {
                            free_fn.free(object.start, object.at);
                        }
                    }
                }
            }
            3 => self.table.replace(n, Alloc::Nolock),
            _ => self.table.alloc_and_free(Alloc::Nolock),
        }
    }

    /// Counts a wakeup if a call causes it, and not an interrupt during the call.
    fn waking(&self) {
        let call = self
            .cpus
            .get(cpu::this() as usize)
            .map_or(0, |cpu| cpu.call.load(Relaxed));
        if call > 0 && (call - 1) / 2 == cpu::context() as i32 {
            self.woke[((call - 1) % 2) as usize].add(1, Relaxed);
        }
    }

    /// The probe.
    fn at(&self, site: &Site) {
        cpu::preempt_off(|| {
            let name = site.name();
            if name == "sched_waking" {
                self.waking();
            }
            let Some(cpu) = self.cpus.get(cpu::this() as usize) else {
                return;
            };
            if site.acted.load(Relaxed) >= QUOTA || cpu.depth.load(Relaxed) >= DEPTH {
                return;
            }
            site.acted.fetch_add(1, Relaxed);
            cpu.depth.add(1, Relaxed);
            // At a tracepoint of a lock the lock may be that of the engine, and held.
            let is_lock = name.starts_with("lock_") || name.starts_with("contention_");
            let may_lock = !(is_lock && self.locks);
            // At these pi_lock or the lock of a run queue is held, and they are not hit within
            // calls.
            if name.starts_with("sched_wak") || name == "sched_switch" {
                cpu::raw_locked(|| self.call(may_lock));
            } else {
                self.call(may_lock);
            }
            cpu.depth.add(-1, Relaxed);
        });
    }
}

impl Caller<'_> {
    /// Logs and checks the results of a run with the numbers of tracepoints and of those that made
    /// calls.
    fn judge(&self, (sites, acted): (usize, usize)) -> Result {
        core::barrier();
        let (calls, queued) = (self.calls.load(Relaxed), self.pool.taken());
        let [irqs_off, irqs_on] = self.woke.each_ref().map(|n| n.load(Relaxed));
        pr_info!(
            "{calls} calls from {acted} of {sites} tracepoints, {queued} objects queued; woke \
             {irqs_off} tasks with interrupts off, {irqs_on} with interrupts on\n"
        );
        check!(self.pool.all_freed())?;
        check!(self.table.violations() == Violations::default())?;
        check!(irqs_off == 0)
    }
}

/// Counts tracepoints, and those that made calls.
fn count(sites: &[Site]) -> (usize, usize) {
    let acted = sites.iter().filter(|site| site.acted.load(Relaxed) > 0);
    (sites.len(), acted.count())
}

/// A workload on all CPUs that hits many tracepoints.
fn workload(rounds: usize) -> Result {
    let nothing = || ();
    let body = |_cpu: i32| {
        for place in [Where::Hardirq, Where::Softirq] {
            let _ = timer::every(place, 1_000_000, &nothing, || {
                for i in 0..rounds {
                    for source in [Source::Kmalloc, Source::KmallocNolock, Source::Vmalloc] {
                        if let Some(object) = alloc::alloc(source, 5000 - i % 4000) {
                            // SAFETY: Just allocated.
                            unsafe { alloc::kvfree(object) };
                        }
                    }
                    // Contends for the lock.
                    for _ in 0..50 {
                        cpu::raw_locked(::core::hint::spin_loop);
                    }
                    thread::sleep(1);
                }
            });
        }
    };
    thread::on_cpus(cpu::online(), &body, || {
        core::barrier();
        user::sh(c"i=0; while [ $i -lt 50 ]; do i=$((i + 1)); done; (:) | (:)")?;
        core::barrier();
        params::shrink()
    })?
}

/// Calls `act` once at tracepoint `name`, not in NMI. Returns whether that was hit.
fn once_at(name: &'static str, act: &(dyn Fn() + Sync)) -> Result<bool> {
    let body = |site: &Site| {
        if cpu::context() != Context::Nmi && site.acted.fetch_add(1, Relaxed) == 0 {
            act();
        }
    };
    tracepoints::with_probe(&|other| other == name, &body, |sites| {
        bound::wait_with_timeout(|| tracepoints::acted(sites, name) > 0)
    })
}

/// The first object of a CPU is queued from tracepoint `name`, and no other follows: it is freed
/// without a barrier.
fn first_call(name: &'static str, free_fn: FreeFn) -> Result {
    let _restore = params::quick_drain()?;
    let pool = Pool::new(8)?;
    core::barrier();
    // Until the monitors are idle, two intervals later.
    thread::sleep(150);
    let freed = EventCounter::start(|c| c.freed.load(Relaxed))?;
    let came = once_at(name, &|| pool.free(free_fn, 1))?;
    let in_time = bound::within(params::QUICK_DRAIN_MSECS, || {
        freed.count() > 0 && pool.all_freed()
    });
    core::barrier();
    check!(came && in_time)
}

/// The first object of a cache is freed from tracepoint `name`, and no other follows: it returns to
/// the slab.
fn first_call_of_cache(name: &'static str, at_once: bool) -> Result {
    let _restore = params::quick_drain()?;
    let cache = SheafCache::new(c"rcu_ptr_first", SIZE, Args::default())?;
    let object = cache.alloc_many(1)?;
    // Until the other objects of its sheaf are back in the slab, and the monitors are idle.
    let back = |held: u64| {
        let n = cache.stats();
        n.slab_allocs == n.slab_frees + held
    };
    let idle = bound::wait_with_timeout(|| back(1));
    // SAFETY: An object of this cache, freed once.
    let came = once_at(name, &|| unsafe {
        if at_once {
            cache.free(object[0]);
        } else {
            cache.free_rcu(object[0]);
        }
    })?;
    let freed = bound::within(5 * params::QUICK_DRAIN_MSECS, || back(0));
    drop(cache);
    check!(idle && came && freed)
}

/// Skip reason.
const CFI: &CStr = c"a probe for all tracepoints is of another type than theirs (CONFIG_CFI)";

#[kunit_tests(rcu_ptr_tracepoints)]
mod tests {
    use super::*;

    #[test]
    fn every_call_from_everywhere() -> Result {
        skip_if!(cfg!(CONFIG_CFI), CFI);
        // So that many calls find the monitor idle.
        let _restore = params::quick_drain()?;
        let pool = Pool::new(scaled(60_000))?;
        let cache = SheafCache::new(c"rcu_ptr_traced", SIZE, Args::default())?;
        cache.prefill(200)?;
        let table = Table::new(&cache, 50)?;
        let caller = Caller::new(&pool, &table)?;
        let body = |site: &Site| caller.at(site);
        let (sites, silent, sees) =
            tracepoints::with_probe(&|_| true, &body, |sites| -> Result<_> {
                table.under_readers(|| workload(if SLOW { 10 } else { 50 }))??;
                let made_no_call = |name: &&str| tracepoints::acted(sites, name) == 0;
                let silent = KINDS.into_iter().find(made_no_call);
                Ok((count(sites), silent, caller.sees_a_wakeup()))
            })
            .inspect_err(|_| core::barrier())??;
        caller.judge(sites)?;
        if let Some(name) = silent {
            pr_info!("{name} made no call\n");
        }
        check!(sees && silent.is_none())
    }

    /// Every function with a raw spinlock held, in tasks, softirqs and hard interrupts of all CPUs,
    /// and from tracepoints of the scheduler.
    #[test]
    fn every_call_under_a_lock() -> Result {
        const PLACES: [Where; 2] = [Where::Hardirq, Where::Softirq];
        skip_if!(cfg!(CONFIG_CFI), CFI);
        let rounds = scaled(20_000);
        let pool = Pool::new(scaled(30_000))?;
        let cache = SheafCache::new(c"rcu_ptr_locked", SIZE, Args::default())?;
        cache.prefill(200)?;
        let table = Table::new(&cache, 50)?;
        let caller = Caller::new(&pool, &table)?;
        let body = |site: &Site| caller.at(site);
        let locked = || cpu::raw_locked(|| caller.call(true));
        let task = |_cpu: i32| {
            for place in PLACES {
                let _ = timer::every(place, 500_000, &locked, || {
                    for i in 0..rounds {
                        locked();
                        if i % 64 == 0 {
                            thread::sleep(1);
                        }
                    }
                });
            }
        };
        let wanted = |name: &str| name.starts_with("sched_");
        let (sites, calls, sees) = tracepoints::with_probe(&wanted, &body, |sites| -> Result<_> {
            table.under_readers(|| thread::on_cpus(cpu::online(), &task, || ()))??;
            // Threads sleep more often than [`QUOTA`].
            let calls = ["sched_switch", "sched_waking", "sched_wakeup"]
                .map(|name| tracepoints::acted(sites, name));
            Ok((count(sites), calls, caller.sees_a_wakeup()))
        })
        .inspect_err(|_| core::barrier())??;
        caller.judge(sites)?;
        check!(sees && calls.iter().all(|&n| n >= QUOTA))?;
        // The calls of tasks, and of these tracepoints.
        let tasks = cpu::online().count() * PLACES.len() * rounds;
        check!(caller.calls.load(Relaxed) as u64 >= tasks as u64 + calls.iter().sum::<u64>())
    }

    /// A probe of the page allocator frees an object for each page, also for the pages that its own
    /// frees need. Only engine lockless allocates pages in frees, and on PREEMPT_RT none with
    /// interrupts off.
    #[test]
    fn page_for_each_page() -> Result {
        const LIMIT: i32 = 12;
        skip_if!(cfg!(CONFIG_CFI), CFI);
        let pool = Pool::new(8000)?;
        let depth = Atomic::<i32>::new(0);
        let deepest = Atomic::<i32>::new(0);
        let freeing = Atomic::<i32>::new(-1);
        let body = |_: &Site| {
            let outer = depth.load(Relaxed);
            if cpu::this() != freeing.load(Relaxed) || outer == LIMIT {
                return;
            }
            depth.store(outer + 1, Relaxed);
            deepest.store(deepest.load(Relaxed).max(outer + 1), Relaxed);
            pool.free(FreeFn::Nolock, 1);
            depth.store(outer, Relaxed);
        };
        tracepoints::with_probe(&|name| name == "mm_page_alloc", &body, |_| {
            cpu::irqs_off(|| {
                freeing.store(cpu::this(), Relaxed);
                pool.free(FreeFn::Nolock, 7000);
                freeing.store(-1, Relaxed);
            });
        })?;
        core::barrier();
        let deepest = deepest.load(Relaxed);
        pr_info!("tracepoints: {deepest} calls of a probe were nested\n");
        check!(pool.all_freed())?;
        // KASAN and lockdep may allocate some pages too.
        let others = if SLOW { 2 } else { 0 };
        if params::is_lockless() && cfg!(not(CONFIG_PREEMPT_RT)) {
            check!((1..=4 + others).contains(&deepest))
        } else {
            check!(deepest <= others)
        }
    }

    #[test]
    fn first_call_of_a_cpu() -> Result {
        skip_if!(cfg!(CONFIG_CFI), CFI);
        let names = [
            "timer_start",
            "sched_switch",
            "hrtimer_start",
            "sched_waking",
        ];
        for name in names.into_iter().take(if SLOW { 2 } else { 4 }) {
            for free_fn in FreeFn::ATOMIC {
                first_call(name, free_fn)?;
            }
        }
        for (name, at_once) in [("hrtimer_start", false), ("sched_switch", true)] {
            first_call_of_cache(name, at_once)?;
        }
        Ok(())
    }
}
