// SPDX-License-Identifier: GPL-2.0

//! A million NMIs in one storm: tasks, softirqs, hard interrupts and NMIs of every CPU free objects
//! at once, while readers look whether one goes too early. Each NMI frees one. The same storm goes
//! through the kernel's own function, as the control.

use crate::{
    pool::{Checks, Pool, SIZE},
    reader,
    route::Route,
    scaled,
    storm::{self, NmiSource},
    sys::{
        core,
        cpu::{self, Context},
        kunit,
        kunit::skip,
        thread,
        timer::{self, Where},
    },
    SLOW,
};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// NMIs that each free an object, in all rounds together.
fn wanted() -> u64 {
    match (SLOW, kunit::is_short()) {
        (false, false) => 1_000_000,
        (false, true) => 100_000,
        (true, false) => 20_000,
        (true, true) => 2_000,
    }
}

/// The same for a control: enough to see that it stands the same storm.
fn control() -> u64 {
    wanted() / 10
}

/// Fewer than that where only so many come in the time that a test has, for a part of all that is
/// wanted.
fn secs() -> i64 {
    match (cfg!(CONFIG_X86), kunit::is_short()) {
        (true, false) => 200,
        (true, true) => 60,
        (false, false) => 45,
        (false, true) => 15,
    }
}

fn control_secs() -> i64 {
    secs() / 3
}

/// Of what is wanted, the part that has to come even then.
const LEAST: u64 = if SLOW { 50 } else { 100 };

/// How long a round may take: its readers hold up all of RCU.
const ROUND_NSECS: i64 = 5_000_000_000;

/// Objects of a round.
const OBJECTS: usize = scaled(96_000);

/// Objects that each interrupt of a timer frees.
const BURST: usize = 4;

/// A count for each context, in the order of [`Context`].
type Counts = [u64; 4];

/// What the rounds came to.
#[derive(Default)]
struct Sums {
    rounds: u64,
    /// Objects freed, by the context of the caller.
    freed: Counts,
    /// Times the storm's handler ran.
    nmis: u64,
    /// Of those, not `in_nmi()`.
    elsewhere: u64,
    /// Looks of readers at objects that were freed under them, or about to be.
    looks: u64,
    /// Of those, at one that was not intact.
    broken: u64,
    /// Rounds after which an object was not freed, or was damaged.
    bad: u64,
    msecs: i64,
}

/// Counts of one round.
struct Round<'a> {
    pool: &'a Pool,
    route: Route,
    end: i64,
    freed: [Atomic<u64>; 4],
    nmis: Atomic<u64>,
    elsewhere: Atomic<u64>,
}

impl<'a> Round<'a> {
    fn new(pool: &'a Pool, route: Route) -> Self {
        Self {
            pool,
            route,
            end: thread::now() + ROUND_NSECS,
            freed: [const { Atomic::new(0) }; 4],
            nmis: Atomic::new(0),
            elsewhere: Atomic::new(0),
        }
    }

    /// Frees up to `n` objects. `false`: there are no more.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    fn free(&self, n: usize, route: Route) -> bool {
        let context = cpu::context();
        let mut freed = 0;
        for object in (0..n).map_while(|_| self.pool.take()) {
            // SAFETY: Handed out once, with a field there.
            unsafe { route.free(object.start, object.at) };
            freed += 1;
        }
        if let Some(count) = self.freed.get(context as usize) {
            count.add(freed, Relaxed);
        }
        freed as usize == n
    }

    /// What an NMI does.
    fn strike(&self) {
        let inside = cpu::context() == Context::Nmi;
        self.nmis.add(1, Relaxed);
        self.elsewhere.add(u64::from(!inside), Relaxed);
        self.free(1, self.route);
    }

    /// Frees up to `n` objects if this context has had less than one for `per` of the NMIs, for
    /// which the objects are. `false`: there are no more, or the time is over.
    fn free_some(&self, n: usize, per: u64, route: Route) -> bool {
        let count = |context: Context| self.freed[context as usize].load(Relaxed);
        if count(cpu::context()) * per <= count(Context::Nmi) {
            return self.free(n, route);
        }
        self.pool.taken() < self.pool.len() && thread::now() < self.end
    }

    /// What each CPU does meanwhile.
    fn work(&self) {
        let ordinary = match self.route {
            Route::Kernel => Route::Kernel,
            // Both kinds of callbacks.
            Route::Call => Route::CallSleepable,
            _ => Route::Kvfree,
        };
        let in_hardirq = || {
            self.free_some(BURST, 8, self.route);
        };
        let in_softirq = || {
            self.free_some(BURST, 8, ordinary);
        };
        let _ = timer::every(Where::Hardirq, 400_000, &in_hardirq, || {
            let _ = timer::every(Where::Softirq, 500_000, &in_softirq, || {
                let mut routes = [self.route, ordinary].into_iter().cycle();
                while routes
                    .next()
                    .is_some_and(|route| self.free_some(1, 4, route))
                {
                    thread::still_alive();
                }
            });
        });
    }
}

/// One round: all objects of `pool` under the eyes of readers, in the storm.
fn round(nmi_source: NmiSource, pool: &Pool, route: Route, sums: &mut Sums) -> Result {
    let round = Round::new(pool, route);
    let mut stormed = Ok(());
    let seen = reader::watch(pool, |readers| {
        stormed = storm::during(nmi_source, &|| round.strike(), None, || {
            let ran = thread::on_cpus(cpu::online(), &|_| round.work(), || ());
            // The end of the storm waits for a grace period, so the readers leave before that.
            readers.leave_in(50);
            ran
        })
        .and_then(|ran| ran);
        // Where there was no storm.
        readers.leave_in(0);
    })?;
    stormed?;
    sums.rounds += 1;
    for (sum, count) in sums.freed.iter_mut().zip(&round.freed) {
        *sum += count.load(Relaxed);
    }
    sums.nmis += round.nmis.load(Relaxed);
    sums.elsewhere += round.elsewhere.load(Relaxed);
    sums.looks += seen.looks as u64;
    sums.broken += seen.broken as u64;
    Ok(())
}

/// Rounds until enough NMIs have freed one.
fn rounds(route: Route, checks: Checks, wanted: u64, secs: i64) -> Result<Option<Sums>> {
    let Some(nmi_source) = storm::strongest() else {
        return Ok(None);
    };
    let start = thread::now();
    let mut sums = Sums::default();
    let mut pool = Pool::with_checks(OBJECTS, SIZE, 16, checks)?;
    while sums.freed[Context::Nmi as usize] < wanted {
        if thread::now() - start > secs * 1_000_000_000 {
            break;
        }
        let ran = round(nmi_source, &pool, route, &mut sums);
        if ran.is_err() {
            core::barrier();
            ran?;
        }
        if route == Route::Kernel {
            // No module can call its barrier; the destruction of the cache does, and complains.
            drop(pool);
            pool = Pool::with_checks(OBJECTS, SIZE, 16, checks)?;
        } else {
            core::barrier();
            sums.bad += u64::from(!pool.all_freed());
            pool.renew()?;
        }
    }
    sums.msecs = (thread::now() - start) / 1_000_000;
    Ok(Some(sums))
}

#[kunit_tests(rcu_ptr_nmi_storm)]
mod tests {
    use super::*;

    /// Whether all is well, which the log says. Only a test itself can assert.
    fn check(what: &str, wanted: u64, secs: i64, sums: Option<Sums>) -> bool {
        let Some(s) = sums else {
            skip(c"the machine has no NMIs");
            return true;
        };
        pr_info!(
            "storm: {}: {} NMIs, {} elsewhere; objects freed: {} in NMI, {} in hardirq, {} in softirq, {} in tasks\n",
            what,
            s.nmis,
            s.elsewhere,
            s.freed[Context::Nmi as usize],
            s.freed[Context::Hardirq as usize],
            s.freed[Context::Softirq as usize],
            s.freed[Context::Task as usize]
        );
        pr_info!(
            "storm: {}: {} rounds in {} ms, {} looks of readers, {} at broken objects, {} rounds bad\n",
            what,
            s.rounds,
            s.msecs,
            s.looks,
            s.broken,
            s.bad
        );
        let freed = |context: Context| s.freed[context as usize];
        let late = s.msecs >= secs * 1000;
        let enough = freed(Context::Nmi) >= if late { wanted / LEAST } else { wanted };
        // On PREEMPT_RT softirqs run in a thread.
        let softirqs = freed(Context::Softirq) > 0 || cfg!(CONFIG_PREEMPT_RT);
        let all = freed(Context::Task) > 0 && freed(Context::Hardirq) > 0 && softirqs;
        enough && all && s.looks > 0 && s.elsewhere == 0 && s.broken == 0 && s.bad == 0
    }

    #[test]
    fn every_context_at_once() -> Result {
        let sums = rounds(Route::Nolock, Checks::Poison, wanted(), secs())?;
        check!(check("rcu_ptr", wanted(), secs(), sums));
        Ok(())
    }

    /// Callbacks, which free the objects: each is called once, and none before its grace period.
    #[test]
    fn callbacks() -> Result {
        let counters = &crate::callback::COUNTERS;
        let (ran, wrong) = (counters.ran.load(Relaxed), counters.wrong.load(Relaxed));
        let sums = rounds(Route::Call, Checks::Poison, wanted(), secs())?;
        let queued: u64 = sums.as_ref().map_or(0, |sums| sums.freed.iter().sum());
        let ran = counters.ran.load(Relaxed) - ran;
        let wrong = counters.wrong.load(Relaxed) - wrong;
        pr_info!("storm: callbacks: {queued} queued, {ran} called, {wrong} in a wrong context\n");
        check!(check("callbacks", wanted(), secs(), sums));
        check!(queued == ran && wrong == 0);
        Ok(())
    }

    /// Its sheaves are for caches without checks.
    #[test]
    fn control_with_sheaves() -> Result {
        let sums = rounds(Route::Kernel, Checks::None, control(), control_secs())?;
        check!(check(
            "control, with sheaves",
            control(),
            control_secs(),
            sums
        ));
        Ok(())
    }

    /// With checks there are no sheaves: all of it is put off to an irq_work.
    #[test]
    fn control_with_checks() -> Result {
        let sums = rounds(Route::Kernel, Checks::Poison, control(), control_secs())?;
        check!(check(
            "control, with checks",
            control(),
            control_secs(),
            sums
        ));
        Ok(())
    }
}
