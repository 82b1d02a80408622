// SPDX-License-Identifier: GPL-2.0

//! A million NMIs, each of which frees an object: tasks, softirqs, hard interrupts and NMIs of
//! every CPU free objects at once, while readers check that none is freed early. The same storm
//! runs with the kernel's own function, as a control.

use crate::{
    pool::{Checks, SIZE},
    prelude::*,
    reader,
    storm::{self, NmiSource},
    sys::kunit,
};

/// NMIs in all rounds together, each of which frees an object.
fn wanted() -> u64 {
    match (SLOW, kunit::is_short()) {
        (false, false) => 1_000_000,
        (false, true) => 100_000,
        (true, false) => 20_000,
        (true, true) => 2_000,
    }
}

/// The time limit in seconds, after which fewer NMIs are enough.
fn secs() -> i64 {
    match (cfg!(CONFIG_X86), kunit::is_short()) {
        (true, false) => 200,
        (true, true) => 60,
        (false, false) => 45,
        (false, true) => 15,
    }
}

/// The divisor of the wanted NMIs that are enough then.
const LEAST: u64 = if SLOW { 50 } else { 100 };

/// The longest round: its readers hold up all of RCU.
const ROUND_NSECS: i64 = 5_000_000_000;

/// Objects of a round.
const OBJECTS: usize = scaled(96_000);

/// Objects that each interrupt of a timer frees.
const BURST: usize = 4;

/// A count for each context, in the order of [`Context`].
type Counts = [u64; 4];

/// Totals of all rounds.
#[derive(Default)]
struct StormTotals {
    rounds: u64,
    /// Objects freed, by the context of the caller.
    freed: Counts,
    /// Calls of the handler.
    nmis: u64,
    /// Subset of `nmis`: not `in_nmi()`.
    elsewhere: u64,
    /// Looks of readers at objects that were freed under them, or about to be.
    looks: u64,
    /// Subset of these: the object was not intact.
    broken: u64,
    /// Rounds after which an object was not freed, or was damaged.
    bad: u64,
    msecs: i64,
}

impl StormTotals {
    /// Logs the totals, and returns whether there were no errors and at least `least` NMIs freed an
    /// object.
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

    /// Frees up to `n` objects. Returns false if there are no more.
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

    /// The NMI handler.
    fn on_nmi(&self) {
        let inside = cpu::context() == Context::Nmi;
        self.nmis.add(1, Relaxed);
        self.elsewhere.add(u64::from(!inside), Relaxed);
        self.free(1, self.free_fn);
    }

    /// Frees up to `n` objects unless this context has freed more than one for `per` NMIs, which
    /// the objects are meant for. Returns false if there are no more, or the time is over.
    fn free_some(&self, n: usize, per: u64, free_fn: FreeFn) -> bool {
        let count = |context: Context| self.freed[context as usize].load(Relaxed);
        if count(cpu::context()) * per <= count(Context::Nmi) {
            return self.free(n, free_fn);
        }
        self.pool.taken() < self.pool.len() && thread::now() < self.end
    }

    /// The body of the task of each CPU, with timers.
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

/// Frees the objects of `pool` in a storm, beside readers.
fn round(nmi_source: NmiSource, pool: &Pool, free_fn: FreeFn, totals: &mut StormTotals) -> Result {
    let round = Round::new(pool, free_fn);
    let mut stormed = Ok(());
    let seen = reader::watch(pool, |readers| {
        stormed = storm::during(nmi_source, &|| round.on_nmi(), None, || {
            let ran = thread::on_cpus(cpu::online(), &|_| round.work(), || ());
            // The end of the storm waits for a grace period, so the readers have to leave.
            readers.leave_in(50);
            ran
        })
        .and_then(|ran| ran);
        // In case there was no storm.
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

/// Runs rounds until enough NMIs have freed an object. Returns the number of objects that were
/// freed. `None`: there are no NMIs.
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
            // No module can call the kernel's barrier; the destruction of the kmem_cache does, and
            // reports missing objects.
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
    check!(totals.is_storm(what, if late { wanted / LEAST } else { wanted }))?;
    Ok(Some(totals.freed.iter().sum()))
}

/// Skip reason.
const NONE: &CStr = c"the machine has no NMIs";

/// A storm with the kernel's own function, with a tenth of the NMIs.
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

    /// Callbacks free the objects: each is called once, and none before its grace period.
    #[test]
    fn callbacks() -> Result {
        let counters = &crate::callback::COUNTERS;
        let (ran, wrong) = (counters.ran.load(Relaxed), counters.wrong.load(Relaxed));
        let queued = rounds("callbacks", FreeFn::Call, Checks::Poison, wanted(), secs())?;
        let queued = or_skip!(queued, NONE);
        let ran = counters.ran.load(Relaxed) - ran;
        let wrong = counters.wrong.load(Relaxed) - wrong;
        pr_info!("storm: callbacks: {queued} queued, {ran} called, {wrong} in a wrong context\n");
        check!(queued == ran && wrong == 0)
    }

    /// The kernel uses sheaves for caches without checks.
    #[test]
    fn control_with_sheaves() -> Result {
        control("control, with sheaves", Checks::None)
    }

    /// With checks there are no sheaves, and the kernel defers all frees to an irq_work.
    #[test]
    fn control_with_checks() -> Result {
        control("control, with checks", Checks::Poison)
    }
}
