// SPDX-License-Identifier: GPL-2.0

//! NMIs from every source that the machine has free objects: over idle CPUs, user space, hotplug,
//! barriers, and modules that come and go.

use crate::{
    bound, params,
    pool::Pool,
    route::Route,
    scaled,
    storm::{self, Actor},
    sys::{
        core, core_test,
        cpu::{self, Context},
        kunit::skip,
        nmi::Receiver,
        perf::{Breakpoint, Cycles, Hook, Kind},
        probes, thread, tracepoints, user,
    },
};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// What came of some time in the storm.
struct Outcome {
    inside: u64,
    elsewhere: u64,
    allocated: u64,
    freed: bool,
}

impl Outcome {
    fn of(actor: &Actor<'_>, pool: &Pool) -> Self {
        core::barrier();
        Self {
            inside: actor.inside(),
            elsewhere: actor.elsewhere(),
            allocated: actor.allocated(),
            freed: pool.all_freed(),
        }
    }
}

/// NMIs that make a storm.
const SOME: u64 = 500;

/// NMIs that each source brings in a test of its own, at least: by far the fewest come of the cycle
/// counter of an emulated arm64, some 1000 a second.
const FEW: u64 = 50;

/// `f` in the strongest storm there is, again and again until it has come. `None`: the machine has
/// none.
fn over(f: impl FnMut() -> Result) -> Result<Option<Outcome>> {
    over_all_but(None, f)
}

/// As [`over()`], with no NMIs sent to CPU `spare`.
fn over_all_but(spare: Option<i32>, mut f: impl FnMut() -> Result) -> Result<Option<Outcome>> {
    let Some(nmi_source) = storm::strongest() else {
        return Ok(None);
    };
    let pool = Pool::new(scaled(20_000))?;
    let actor = Actor::new(&pool, Route::Nolock, 1, i64::MAX);
    let end = bound::watchdog_ends();
    let storm = || {
        actor.fire();
    };
    let until_it_came = || -> Result {
        loop {
            f()?;
            if actor.inside() >= SOME || thread::now() > end {
                return Ok(());
            }
        }
    };
    let ran = storm::during(nmi_source, &storm, spare, until_it_came);
    // Whatever came of it: the pool's objects have to be back before it goes.
    core::barrier();
    ran??;
    Ok(Some(Outcome::of(&actor, &pool)))
}

fn breakpoint() -> Result<Option<Outcome>> {
    let pool = Pool::new(2000)?;
    let actor = Actor::new(&pool, Route::Nolock, 2, 100);
    let body = || {
        actor.fire();
    };
    let hook = Hook::new(&body);
    let breakpoint = match Breakpoint::new(Kind::Execute, core_test::kvfree_entry(), &hook) {
        Err(e) if e == EOPNOTSUPP => return Ok(None),
        other => other.inspect_err(|e| pr_err!("no breakpoint: {e:?}\n"))?,
    };
    pool.free(Route::Kvfree, 500);
    drop(breakpoint);
    Ok(Some(Outcome::of(&actor, &pool)))
}

fn cycles() -> Result<Option<Outcome>> {
    let pool = Pool::new(2000)?;
    let actor = Actor::new(&pool, Route::Nolock, 1, i64::MAX);
    let body = || {
        actor.fire();
    };
    let hook = Hook::new(&body);
    let Ok(cycles) = Cycles::new(100_000, &hook) else {
        return Ok(None);
    };
    thread::sleep(200);
    bound::watchdog(|| pool.taken() >= FEW as usize);
    drop(cycles);
    Ok(Some(Outcome::of(&actor, &pool)))
}

fn ipi() -> Result<Option<Outcome>> {
    let pool = Pool::new(2000)?;
    let actor = Actor::new(&pool, Route::Nolock, 1, i64::MAX);
    let body = || {
        actor.fire();
    };
    let hook = Hook::new(&body);
    let receiver = match Receiver::new(&hook) {
        Err(e) if e == EOPNOTSUPP => return Ok(None),
        other => other?,
    };
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
    Ok(Some(Outcome::of(&actor, &pool)))
}

/// The control: the same storm through the kernel's own `kfree_rcu_nolock()`. Its cache goes with
/// what the kernel guarantees for that, not with our barrier.
fn control() -> Result<Option<(u64, u64)>> {
    let Some(nmi_source) = storm::strongest() else {
        return Ok(None);
    };
    let pool = Pool::new(scaled(20_000))?;
    let actor = Actor::new(&pool, Route::Kernel, 1, i64::MAX);
    storm::during(
        nmi_source,
        &|| {
            actor.fire();
        },
        None,
        || {
            thread::sleep(300);
            bound::watchdog(|| actor.inside() >= FEW);
        },
    )?;
    let came = (actor.inside(), actor.elsewhere());
    // Complains when an object is missing.
    drop(pool);
    Ok(Some(came))
}

/// Watches every word of this CPU's state that is written when objects come, while both paths are
/// used: NMIs come right behind the writes, with the lock held and lists half linked. Returns the
/// outcome for all of them together, and how many objects found the lock held.
fn watchpoints() -> Result<Option<(Outcome, u64)>> {
    let pool = Pool::new(8000)?;
    let actor = Actor::new(&pool, Route::Nolock, 1, 1500);
    let body = || {
        actor.fire();
    };
    let hook = Hook::new(&body);
    let probes = probes::Probes::register()?;
    let before = probes::COUNTERS.deferred.load(Relaxed);
    let work = |this: i32| {
        for (i, word) in core_test::words(this).enumerate() {
            // The lock has 4 bytes.
            let kind = if word % 8 == 0 && i > 0 {
                Kind::Write
            } else {
                Kind::Write4
            };
            if let Ok(breakpoint) = Breakpoint::new(kind, word, &hook) {
                for round in 0..20 {
                    let route = Route::ATOMIC[round % 3];
                    pool.free(route, 6);
                    if round % 5 == 4 {
                        core::barrier();
                    }
                }
                drop(breakpoint);
            }
        }
    };
    let ran = thread::on_cpus(::core::iter::once(cpu::this()), &work, || ());
    let deferred = probes::COUNTERS.deferred.load(Relaxed) - before;
    drop(probes);
    ran?;
    if cfg!(not(CONFIG_X86)) {
        return Ok(None);
    }
    Ok(Some((Outcome::of(&actor, &pool), deferred)))
}

/// What `rcu_ptr_try_kfree_nolock()` said in NMIs.
struct Tried {
    taken: u64,
    refused: u64,
    elsewhere: u64,
    freed: bool,
}

/// As [`watchpoints()`] on the first word, a lock's if there is one, with the call that has no field and
/// may say no. `None`: there are no watchpoints.
fn tries_behind_the_lock() -> Result<Option<Tried>> {
    let pool = Pool::new(4000)?;
    let (taken, refused) = (Atomic::<u64>::new(0), Atomic::<u64>::new(0));
    let elsewhere = Atomic::<u64>::new(0);
    let body = || {
        if cpu::context() != Context::Nmi {
            elsewhere.add(1, Relaxed);
        }
        let Some(object) = pool.take() else { return };
        // SAFETY: Handed out once; a caller that is refused still has it, and it has a field there.
        unsafe {
            if core::try_kfree_nolock(object.start) {
                taken.add(1, Relaxed);
            } else {
                refused.add(1, Relaxed);
                Route::Nolock.free(object.start, object.at);
            }
        }
    };
    let hook = Hook::new(&body);
    let watched = Atomic::<i32>::new(0);
    let work = |this: i32| {
        let word = core_test::words(this).next().unwrap_or(0);
        if let Ok(breakpoint) = Breakpoint::new(Kind::Write4, word, &hook) {
            watched.store(1, Relaxed);
            for _ in 0..20 {
                pool.free(Route::Kvfree, 20);
                thread::still_alive();
            }
            drop(breakpoint);
        }
    };
    thread::on_cpus(::core::iter::once(cpu::this()), &work, || ())?;
    core::barrier();
    if watched.load(Relaxed) == 0 {
        return Ok(None);
    }
    Ok(Some(Tried {
        taken: taken.load(Relaxed),
        refused: refused.load(Relaxed),
        elsewhere: elsewhere.load(Relaxed),
        freed: pool.all_freed(),
    }))
}

/// Frees an object in NMI while CPU `cpu`, which is idle, stops its tick: it has already looked for
/// irq_works that wait for that; or starts it again. Returns how many were freed so, and how many of the calls
/// raised an interrupt before the CPU did anything else. `None`: there is no such NMI here.
fn while_the_tick_stops(cpu: i32, rounds: usize) -> Result<Option<(usize, usize)>> {
    let pool = Pool::new(rounds)?;
    let (left, called, raised) = (
        Atomic::<i32>::new(0),
        Atomic::<i32>::new(0),
        Atomic::<i32>::new(0),
    );
    let body = || {
        if cpu::context() != Context::Nmi {
            return;
        }
        if let Some(object) = pool.take() {
            // SAFETY: Handed out once, with a field there.
            unsafe { Route::Nolock.free(object.start, object.at) };
            called.store(1, Relaxed);
        }
    };
    let hook = Hook::new(&body);
    let receiver = match Receiver::new(&hook) {
        Err(e) if e == EOPNOTSUPP => return Ok(None),
        other => other?,
    };
    // The first is hit when the timers of a CPU become idle, and when they no longer are: every other round acts
    // at the second of these.
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
    let defaults = params::quickest_drain()?;
    let ran = tracepoints::during(&wanted, &at_site, |_| {
        for round in 0..rounds {
            // The monitor of that CPU is idle again by then.
            thread::sleep(100);
            // One that does not come is no reason to wait for those after it.
            let before = pool.taken();
            left.store(1 + (round % 2) as i32, Relaxed);
            let came = || pool.taken() > before;
            // It wakes up for each, and stops its tick when the callbacks of the thread that ended are done.
            // That it has come is seen by the caller.
            (0..6).any(|_| {
                let woken = thread::on_cpus(::core::iter::once(cpu), &|_| (), || ());
                woken.is_ok() && thread::wait_for(1000, came)
            });
        }
    });
    drop(defaults);
    core::barrier();
    ran?;
    if !pool.all_freed() {
        return Err(EIO);
    }
    Ok(Some((pool.taken(), raised.load(Relaxed) as usize)))
}

#[kunit_tests(rcu_ptr_nmi)]
mod tests {
    use super::*;

    /// Whether all is well, which the log says. Only a test itself can assert.
    fn check(what: &str, least: u64, outcome: Option<Outcome>) -> bool {
        let Some(outcome) = outcome else {
            pr_info!("NMI source {what}: none\n");
            skip(c"the machine has no such source of NMIs");
            return true;
        };
        pr_info!(
            "NMI source {}: {} came in_nmi(), {} elsewhere, {} objects made there, all freed: {}\n",
            what,
            outcome.inside,
            outcome.elsewhere,
            outcome.allocated,
            outcome.freed
        );
        let came = outcome.inside >= least && outcome.elsewhere == 0;
        // kmalloc_nolock() gives nothing there.
        let none = cfg!(CONFIG_PREEMPT_RT);
        came && (outcome.allocated > 0 || none) && outcome.freed
    }

    #[test]
    fn at_least_one_source() -> Result {
        let nmi_source = storm::strongest();
        pr_info!("strongest NMI source: {nmi_source:?}\n");
        let came = Atomic::<u64>::new(0);
        let count = || came.add(u64::from(cpu::context() == Context::Nmi), Relaxed);
        if let Some(nmi_source) = nmi_source {
            let stormed = storm::during(nmi_source, &count, None, || {
                bound::watchdog(|| came.load(Relaxed) >= FEW)
            })?;
            check!(stormed);
        }
        check!(came.load(Relaxed) >= FEW);
        Ok(())
    }

    #[test]
    fn from_cycles() -> Result {
        check!(check("cycles", FEW, cycles()?));
        Ok(())
    }

    #[test]
    fn from_breakpoints() -> Result {
        check!(check("breakpoints", FEW, breakpoint()?));
        Ok(())
    }

    #[test]
    fn from_other_cpus() -> Result {
        check!(check("IPI", FEW, ipi()?));
        Ok(())
    }

    #[test]
    fn watchpoints_on_locks_and_lists() -> Result {
        let came = watchpoints()?;
        let deferred = came.as_ref().map(|(_, deferred)| *deferred);
        if let Some(deferred) = deferred {
            pr_info!("watchpoints: {deferred} objects found the lock held\n");
        }
        check!(check("watchpoints", FEW, came.map(|(outcome, _)| outcome)));
        // An engine without a lock has none to find held.
        check!(deferred.is_none() || deferred > Some(0) || probes::saw_lockless());
        Ok(())
    }

    #[test]
    fn watchpoints_try() -> Result {
        let probes = probes::Probes::register()?;
        let tried = tries_behind_the_lock();
        drop(probes);
        let tried = or_skip!(
            tried?,
            c"the machine has no watchpoints with a handler of one's own"
        );
        pr_info!(
            "rcu_ptr_try_kfree_nolock() in NMI: {} taken, {} refused\n",
            tried.taken,
            tried.refused
        );
        check!(tried.freed && tried.elsewhere == 0);
        // An engine without a lock has none to find held.
        if probes::saw_lockless() {
            check!(tried.taken > 0);
        } else {
            check!(tried.refused > 0);
        }
        Ok(())
    }

    #[test]
    fn control_with_the_kernels_own() -> Result {
        let came = control()?;
        pr_info!("control, the kernel's own: {came:?} came in_nmi(), elsewhere\n");
        let (inside, elsewhere) = or_skip!(came, c"the machine has no such source of NMIs");
        check!(inside >= FEW && elsewhere == 0);
        Ok(())
    }

    #[test]
    fn over_idle_cpus() -> Result {
        let outcome = over(|| {
            thread::sleep(500);
            Ok(())
        })?;
        check!(check("over idle CPUs", SOME, outcome));
        Ok(())
    }

    /// A CPU looks for lazy irq_works, and then stops its tick: one that comes in between is not left until
    /// the CPU wakes up for another reason.
    #[test]
    fn while_the_tick_is_stopped() -> Result {
        thread::stay_here();
        let cpu = or_skip!(cpu::other(), c"needs two CPUs");
        skip_if!(
            user::sh(c"grep -q nohz_full= /proc/cmdline").is_ok(),
            c"the other CPU has no tick that stops"
        );
        let (calls, raised) = or_skip!(
            while_the_tick_stops(cpu, 8)?,
            c"the machine has no such source of NMIs"
        );
        pr_info!("{calls} NMIs while the tick stops, {raised} raised an interrupt\n");
        // On a busy host the tick of that CPU may go on for long.
        check!(calls >= 4 && raised == calls);
        Ok(())
    }

    #[test]
    fn over_user_space() -> Result {
        let outcome = over(|| user::sh(c"i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done"))?;
        check!(check("over user space", SOME, outcome));
        Ok(())
    }

    #[test]
    fn over_barriers() -> Result {
        let outcome = over(|| {
            for _ in 0..10 {
                core::barrier();
            }
            Ok(())
        })?;
        check!(check("over barriers", SOME, outcome));
        Ok(())
    }

    #[test]
    fn over_hotplug() -> Result {
        let victim = cpu::other();
        let outcome = over_all_but(victim, || {
            let Some(cpu) = victim else {
                return Ok(());
            };
            for _ in 0..3 {
                cpu::take_down(cpu)?;
                cpu::bring_up(cpu)?;
            }
            Ok(())
        })?;
        check!(check("over hotplug", SOME, outcome));
        Ok(())
    }

    #[test]
    fn over_clients_that_come_and_go() -> Result {
        skip_if!(
            user::sh(c"[ -e /modules/rcu_ptr_client_c.ko ]").is_err(),
            c"there is no /modules, as in the guest of the tests"
        );
        let outcome = over(|| {
            user::sh(
                c"for i in 1 2 3; do insmod /modules/rcu_ptr_client_c.ko objects=500 && \
                  rmmod rcu_ptr_client_c || exit 1; done",
            )
        })?;
        check!(check("over clients", SOME, outcome));
        Ok(())
    }
}
