// SPDX-License-Identifier: GPL-2.0

//! A million NMIs in one storm: tasks, softirqs, hard interrupts and NMIs of every CPU free objects
//! at once, while readers look whether one goes too early. Each NMI frees one. The same storm goes
//! through the kernel's own function, as the control.

use crate::{
    free_fn::FreeFn,
    pool::{Checks, Pool, SIZE},
    reader, scaled,
    storm::{self, NmiSource},
    sys::{
        core,
        cpu::{self, Context},
        kunit, thread,
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
struct StormTotals {
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

impl StormTotals {
    /// Whether all is well after `least` NMIs that freed one, which the log says.
    fn is_storm(&self, what: &str, least: u64) -> bool {
        let Self {
            rounds,
            freed: [in_task, in_softirq, in_hardirq, in_nmi],
            nmis,
            elsewhere,
            looks,
            broken,
            bad,
            msecs,
        } = *self;
        pr_info!(
            "storm: {what}: {nmis} NMIs, {elsewhere} elsewhere; objects freed: {in_nmi} in NMI, \
             {in_hardirq} in hardirq, {in_softirq} in softirq, {in_task} in tasks\n"
        );
        pr_info!(
            "storm: {what}: {rounds} rounds in {msecs} ms, {looks} looks of readers, {broken} at \
             broken objects, {bad} rounds bad\n"
        );
        // On PREEMPT_RT softirqs run in a thread.
        let softirqs = in_softirq > 0 || cfg!(CONFIG_PREEMPT_RT);
        let all = in_nmi >= least && in_task > 0 && in_hardirq > 0 && softirqs;
        all && looks > 0 && elsewhere == 0 && broken == 0 && bad == 0
    }
}

/// Counts of one round.
struct Round<'a> {
    pool: &'a Pool,
    free_fn: FreeFn,
    end: i64,
    freed: [Atomic<u64>; 4],
    nmis: Atomic<u64>,
    elsewhere: Atomic<u64>,
}

impl<'a> Round<'a> {
    fn new(pool: &'a Pool, free_fn: FreeFn) -> Self {
        Self {
            pool,
            free_fn,
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
    fn free(&self, n: usize, free_fn: FreeFn) -> bool {
        let context = cpu::context();
        let freed = self.pool.free_counted(free_fn, n);
        if let Some(count) = self.freed.get(context as usize) {
            count.add(freed as u64, Relaxed);
        }
        freed == n
    }

    /// What an NMI does.
    fn on_nmi(&self) {
        let inside = cpu::context() == Context::Nmi;
        self.nmis.add(1, Relaxed);
        self.elsewhere.add(u64::from(!inside), Relaxed);
        self.free(1, self.free_fn);
    }

    /// Frees up to `n` objects if this context has had less than one for `per` of the NMIs, for
    /// which the objects are. `false`: there are no more, or the time is over.
    fn free_some(&self, n: usize, per: u64, free_fn: FreeFn) -> bool {
        let count = |context: Context| self.freed[context as usize].load(Relaxed);
        if count(cpu::context()) * per <= count(Context::Nmi) {
            return self.free(n, free_fn);
        }
        self.pool.taken() < self.pool.len() && thread::now() < self.end
    }

    /// What each CPU does meanwhile.
    fn work(&self) {
        let ordinary = match self.free_fn {
            FreeFn::Kernel => FreeFn::Kernel,
            // Both kinds of callbacks.
            FreeFn::Call => FreeFn::CallSleepable,
            _ => FreeFn::Kvfree,
        };
        let in_hardirq = || {
            self.free_some(BURST, 8, self.free_fn);
        };
        let in_softirq = || {
            self.free_some(BURST, 8, ordinary);
        };
        let _ = timer::every(Where::Hardirq, 400_000, &in_hardirq, || {
            let _ = timer::every(Where::Softirq, 500_000, &in_softirq, || {
                let mut free_fns = [self.free_fn, ordinary].into_iter().cycle();
                while free_fns
                    .next()
                    .is_some_and(|free_fn| self.free_some(1, 4, free_fn))
                {
                    thread::still_alive();
                }
            });
        });
    }
}

/// One round: all objects of `pool` under the eyes of readers, in the storm.
fn round(nmi_source: NmiSource, pool: &Pool, free_fn: FreeFn, totals: &mut StormTotals) -> Result {
    let round = Round::new(pool, free_fn);
    let mut stormed = Ok(());
    let seen = reader::watch(pool, |readers| {
        stormed = storm::during(nmi_source, &|| round.on_nmi(), None, || {
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
    totals.rounds += 1;
    for (sum, count) in totals.freed.iter_mut().zip(&round.freed) {
        *sum += count.load(Relaxed);
    }
    totals.nmis += round.nmis.load(Relaxed);
    totals.elsewhere += round.elsewhere.load(Relaxed);
    totals.looks += seen.checks as u64;
    totals.broken += seen.broken as u64;
    Ok(())
}

/// Rounds until enough NMIs have freed one. Returns the objects that were freed; `None`: there are
/// no NMIs.
fn rounds(
    what: &str,
    free_fn: FreeFn,
    checks: Checks,
    wanted: u64,
    secs: i64,
) -> Result<Option<u64>> {
    let Some(nmi_source) = storm::strongest() else {
        return Ok(None);
    };
    let start = thread::now();
    let mut totals = StormTotals::default();
    let mut pool = Pool::with_checks(OBJECTS, SIZE, 16, checks)?;
    while totals.freed[Context::Nmi as usize] < wanted {
        if thread::now() - start > secs * 1_000_000_000 {
            break;
        }
        round(nmi_source, &pool, free_fn, &mut totals).inspect_err(|_| core::barrier())?;
        if free_fn == FreeFn::Kernel {
            // No module can call its barrier; the destruction of the cache does, and complains.
            drop(pool);
            pool = Pool::with_checks(OBJECTS, SIZE, 16, checks)?;
        } else {
            core::barrier();
            totals.bad += u64::from(!pool.all_freed());
            pool.renew()?;
        }
    }
    totals.msecs = (thread::now() - start) / 1_000_000;
    let late = totals.msecs >= secs * 1000;
    check!(totals.is_storm(what, if late { wanted / LEAST } else { wanted }));
    Ok(Some(totals.freed.iter().sum()))
}

/// Why cases are skipped here.
const NONE: &CStr = c"the machine has no NMIs";

/// A control goes on until it is seen to stand the same storm.
fn control(what: &str, checks: Checks) -> Result {
    let came = rounds(what, FreeFn::Kernel, checks, wanted() / 10, secs() / 3)?;
    or_skip!(came, NONE);
    Ok(())
}

#[kunit_tests(rcu_ptr_nmi_storm)]
mod tests {
    use super::*;

    #[test]
    fn every_context_at_once() -> Result {
        let came = rounds("rcu_ptr", FreeFn::Nolock, Checks::Poison, wanted(), secs())?;
        or_skip!(came, NONE);
        Ok(())
    }

    /// Callbacks, which free the objects: each is called once, and none before its grace period.
    #[test]
    fn callbacks() -> Result {
        let counters = &crate::callback::COUNTERS;
        let (ran, wrong) = (counters.ran.load(Relaxed), counters.wrong.load(Relaxed));
        let queued = rounds("callbacks", FreeFn::Call, Checks::Poison, wanted(), secs())?;
        let queued = or_skip!(queued, NONE);
        let ran = counters.ran.load(Relaxed) - ran;
        let wrong = counters.wrong.load(Relaxed) - wrong;
        pr_info!("storm: callbacks: {queued} queued, {ran} called, {wrong} in a wrong context\n");
        check!(queued == ran && wrong == 0);
        Ok(())
    }

    /// Its sheaves are for caches without checks.
    #[test]
    fn control_with_sheaves() -> Result {
        control("control, with sheaves", Checks::None)
    }

    /// With checks there are no sheaves: all of it is put off to an irq_work.
    #[test]
    fn control_with_checks() -> Result {
        control("control, with checks", Checks::Poison)
    }
}
