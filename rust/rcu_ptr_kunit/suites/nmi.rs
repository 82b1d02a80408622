// SPDX-License-Identifier: GPL-2.0

//! NMIs from every source of the machine free objects: over idle CPUs, user space, hotplug,
//! barriers, and modules that are loaded and unloaded.

use crate::{
    prelude::*,
    storm::{self, Actor},
    sys::{
        nmi::{self, Receiver},
        perf::{Breakpoint, Cycles, Hook, Kind},
        probes, tracepoints,
    },
};

/// Skip reason.
const NONE: &CStr = c"the machine has no such source of NMIs";

/// Logs and checks the results of `actor`: at least `least` NMIs, and all objects are freed.
fn judge(what: &str, least: u64, actor: &Actor<'_>, pool: &Pool) -> Result {
    core::barrier();
    let (inside, elsewhere) = (actor.inside(), actor.elsewhere());
    let (allocated, freed) = (actor.allocated(), pool.all_freed());
    pr_info!(
        "NMI source {what}: {inside} came in_nmi(), {elsewhere} elsewhere, {allocated} objects \
         made there, all freed: {freed}\n"
    );
    check!(inside >= least && elsewhere == 0)?;
    // kmalloc_nolock() fails in NMI on PREEMPT_RT.
    check!(allocated > 0 || cfg!(CONFIG_PREEMPT_RT))?;
    check!(freed)
}

/// The number of NMIs of a storm.
const STORM_NMIS: u64 = 500;

/// The number of NMIs of a test of one source. The slowest is the cycle counter of an emulated
/// arm64, with about 1000 per second.
const MIN_NMIS: u64 = 50;

/// Runs `f` repeatedly beside the strongest storm until enough NMIs have come.
fn over(what: &str, f: impl FnMut() -> Result) -> Result {
    over_excluding(what, None, f)
}

/// As [`over()`], with no NMIs sent to CPU `excluded`.
fn over_excluding(what: &str, excluded: Option<i32>, mut f: impl FnMut() -> Result) -> Result {
    let nmi_source = or_skip!(storm::strongest(), NONE);
    let pool = Pool::new(scaled(20_000))?;
    let actor = Actor::new(&pool, 1, i64::MAX);
    let end = bound::timeout_end();
    let until_it_came = || -> Result {
        loop {
            f()?;
            if actor.inside() >= STORM_NMIS || thread::now() > end {
                return Ok(());
            }
        }
    };
    let ran = storm::during(nmi_source, &|| _ = actor.on_nmi(), excluded, until_it_came);
    // Also after an error: the objects have to be freed before the pool.
    core::barrier();
    ran??;
    judge(what, STORM_NMIS, &actor, &pool)
}

#[kunit_tests(rcu_ptr_nmi)]
mod tests {
    use super::*;

    #[test]
    fn at_least_one_source() -> Result {
        let nmi_source = storm::strongest();
        pr_info!("strongest NMI source: {nmi_source:?}\n");
        let came = Atomic::<u64>::new(0);
        let count = || came.add(u64::from(cpu::context() == Context::Nmi), Relaxed);
        if let Some(nmi_source) = nmi_source {
            let stormed = storm::during(nmi_source, &count, None, || {
                bound::wait_with_timeout(|| came.load(Relaxed) >= MIN_NMIS)
            })?;
            check!(stormed)?;
        }
        check!(came.load(Relaxed) >= MIN_NMIS)
    }

    #[test]
    fn from_cycles() -> Result {
        let pool = Pool::new(2000)?;
        let actor = Actor::new(&pool, 1, i64::MAX);
        let body = || _ = actor.on_nmi();
        let hook = Hook::new(&body);
        let cycles = or_skip!(Cycles::new(100_000, &hook).ok(), NONE);
        thread::sleep(200);
        bound::wait_with_timeout(|| pool.taken() >= MIN_NMIS as usize);
        drop(cycles);
        judge("cycles", MIN_NMIS, &actor, &pool)
    }

    #[test]
    fn from_breakpoints() -> Result {
        let pool = Pool::new(2000)?;
        let actor = Actor::new(&pool, 2, 100);
        let body = || _ = actor.on_nmi();
        let hook = Hook::new(&body);
        let breakpoint = match Breakpoint::new(Kind::Execute, core_test::kvfree_entry(), &hook) {
            Err(e) if e == EOPNOTSUPP => skip!(NONE),
            other => other.inspect_err(|e| pr_err!("no breakpoint: {e:?}\n"))?,
        };
        pool.free(FreeFn::Kvfree, 500);
        drop(breakpoint);
        judge("breakpoints", MIN_NMIS, &actor, &pool)
    }

    #[test]
    fn from_other_cpus() -> Result {
        skip_if!(!nmi::CAN, NONE);
        let pool = Pool::new(2000)?;
        let actor = Actor::new(&pool, 1, i64::MAX);
        let body = || _ = actor.on_nmi();
        let hook = Hook::new(&body);
        let receiver = Receiver::new(&hook)?;
        let send = |this: i32| {
            for _ in 0..200 {
                for cpu in cpu::online() {
                    receiver.send(cpu);
                }
                receiver.send(this);
                thread::still_alive();
            }
        };
        thread::on_cpus(cpu::online(), &send, || ())?;
        drop(receiver);
        judge("IPI", MIN_NMIS, &actor, &pool)
    }

    /// Sets watchpoints on every word of this CPU's state that calls write: NMIs come right after
    /// the writes, with the lock held and lists half linked.
    #[test]
    fn watchpoints_on_locks_and_lists() -> Result {
        skip_if!(cfg!(not(CONFIG_X86)), NONE);
        let pool = Pool::new(8000)?;
        let actor = Actor::new(&pool, 1, 1500);
        let body = || _ = actor.on_nmi();
        let hook = Hook::new(&body);
        let deferred = EventCounter::start(|c| c.deferred.load(Relaxed))?;
        let work = || {
            for (i, word) in core_test::words(cpu::this()).enumerate() {
                // The first word may be a lock, which has 4 bytes.
                let kind = if word % 8 == 0 && i > 0 {
                    Kind::Write
                } else {
                    Kind::Write4
                };
                if let Ok(breakpoint) = Breakpoint::new(kind, word, &hook) {
                    for round in 0..20 {
                        let free_fn = FreeFn::ATOMIC[round % 3];
                        pool.free(free_fn, 6);
                        if round % 5 == 4 {
                            core::barrier();
                        }
                    }
                    drop(breakpoint);
                }
            }
        };
        cpus::on(cpu::this(), work)?;
        let deferred = deferred.count();
        pr_info!("watchpoints: {deferred} objects found the lock held\n");
        judge("watchpoints", MIN_NMIS, &actor, &pool)?;
        // Engine lockless has no lock that may be held.
        check!(deferred > 0 || probes::saw_lockless())
    }

    /// NMIs after writes to the first word (the lock of `rfc`) free objects by the headless
    /// function, which may return false.
    #[test]
    fn watchpoints_try() -> Result {
        let probes = probes::Probes::register()?;
        let pool = Pool::new(4000)?;
        let (taken, refused) = (Atomic::<u64>::new(0), Atomic::<u64>::new(0));
        let elsewhere = Atomic::<u64>::new(0);
        let body = || {
            if cpu::context() != Context::Nmi {
                elsewhere.add(1, Relaxed);
            }
            let Some(object) = pool.take() else { return };
            // SAFETY: Handed out once, with a field at `at`; if it was not queued the caller still
            // owns it.
            unsafe {
                if core::try_kfree_nolock(object.start) {
                    taken.add(1, Relaxed);
                } else {
                    refused.add(1, Relaxed);
                    FreeFn::Nolock.free(object.start, object.at);
                }
            }
        };
        let hook = Hook::new(&body);
        let work = || {
            let word = core_test::words(cpu::this()).next().unwrap_or(0);
            let breakpoint = Breakpoint::new(Kind::Write4, word, &hook).ok()?;
            for _ in 0..20 {
                pool.free(FreeFn::Kvfree, 20);
                thread::still_alive();
            }
            drop(breakpoint);
            Some(())
        };
        let watched = cpus::on(cpu::this(), work)?;
        core::barrier();
        drop(probes);
        or_skip!(
            watched,
            c"the machine has no watchpoints with a handler of one's own"
        );
        let (taken, refused) = (taken.load(Relaxed), refused.load(Relaxed));
        pr_info!("rcu_ptr_try_kfree_nolock() in NMI: {taken} taken, {refused} refused\n");
        check!(pool.all_freed() && elsewhere.load(Relaxed) == 0)?;
        // Engine lockless has no lock that may be held.
        let came = if probes::saw_lockless() {
            taken
        } else {
            refused
        };
        check!(came > 0)
    }

    #[test]
    fn over_idle_cpus() -> Result {
        over("over idle CPUs", || {
            thread::sleep(500);
            Ok(())
        })
    }

    /// A CPU runs its lazy irq_works, and then stops its tick: one that is queued in between must
    /// not wait until the CPU wakes up for another reason.
    #[test]
    fn while_the_tick_is_stopped() -> Result {
        const ROUNDS: usize = 8;
        thread::stay_here();
        let cpu = other_cpu!();
        skip_if!(
            user::sh(c"grep -q nohz_full= /proc/cmdline").is_ok(),
            c"the other CPU has no tick that stops"
        );
        skip_if!(!nmi::CAN, NONE);
        let pool = Pool::new(ROUNDS)?;
        let counts = [const { Atomic::<i32>::new(0) }; 3];
        let [left, called, raised] = &counts;
        let body = || {
            if cpu::context() != Context::Nmi {
                return;
            }
            if pool.free_counted(FreeFn::Nolock, 1) > 0 {
                called.store(1, Relaxed);
            }
        };
        let hook = Hook::new(&body);
        let receiver = Receiver::new(&hook)?;
        // timer_base_idle is hit when the timers of a CPU become idle, and when they no longer are:
        // every other round acts at the second of these.
        let at_site = |site: &tracepoints::Site| {
            if cpu::this() != cpu {
                return;
            }
            if site.name() == "irq_work_entry" {
                raised.add(called.xchg(0, Relaxed), Relaxed);
            } else {
                called.store(0, Relaxed);
                if left.load(Relaxed) > 0 && left.fetch_sub(1, Relaxed) == 1 {
                    receiver.send(cpu);
                }
            }
        };
        let wanted = |name: &str| matches!(name, "timer_base_idle" | "irq_work_entry");
        let restore = params::quickest_drain()?;
        let ran = tracepoints::with_probe(&wanted, &at_site, |_| {
            for round in 0..ROUNDS {
                // By then the monitor of that CPU is idle again.
                thread::sleep(100);
                // Only this round waits for its NMI.
                let before = pool.taken();
                left.store(1 + (round % 2) as i32, Relaxed);
                let came = || pool.taken() > before;
                // The CPU wakes up for each thread, and stops its tick when the RCU callbacks of
                // the thread that has ended are done.
                (0..6).any(|_| cpus::on(cpu, || ()).is_ok() && thread::wait_for(1000, came));
            }
        });
        drop(restore);
        core::barrier();
        ran?;
        check!(pool.all_freed())?;
        let (calls, raised) = (pool.taken(), raised.load(Relaxed) as usize);
        pr_info!("{calls} NMIs while the tick stops, {raised} raised an interrupt\n");
        // On a busy host the tick of that CPU may continue for long.
        check!(calls >= 4 && raised == calls)
    }

    #[test]
    fn over_user_space() -> Result {
        over("over user space", || {
            user::sh(c"i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done")
        })
    }

    #[test]
    fn over_barriers() -> Result {
        over("over barriers", || {
            (0..10).for_each(|_| core::barrier());
            Ok(())
        })
    }

    #[test]
    fn over_hotplug() -> Result {
        let victim = cpu::other();
        over_excluding("over hotplug", victim, || {
            let Some(cpu) = victim else {
                return Ok(());
            };
            (0..3).try_for_each(|_| Down::take(cpu)?.up())
        })
    }

    #[test]
    fn over_clients_that_come_and_go() -> Result {
        skip_if!(
            user::sh(c"[ -e /modules/rcu_ptr_client_c.ko ]").is_err(),
            c"there is no /modules, as in the guest of the tests"
        );
        over("over clients", || {
            user::sh(
                c"for i in 1 2 3; do insmod /modules/rcu_ptr_client_c.ko objects=500 && \
                  rmmod rcu_ptr_client_c || exit 1; done",
            )
        })
    }
}
