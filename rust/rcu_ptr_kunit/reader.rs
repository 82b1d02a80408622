// SPDX-License-Identifier: GPL-2.0

//! Readers that hold `rcu_read_lock()`, or sleep in an SRCU domain, while their objects are being
//! freed, and check them all the time. Functions that wait for them may sleep.

use crate::{
    bound,
    pool::{Object, Pool},
    sys::{cpu, srcu_domain::Domain, thread},
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        rcu,
    },
};

/// Readers on other CPUs, each in one read-side critical section. On a single CPU the reader is
/// preempted by the task that frees.
pub(crate) struct Readers {
    /// The number of readers.
    all: usize,
    /// Whether they may enter their critical sections.
    open: Atomic<i32>,
    /// Readers in their critical sections.
    inside: Atomic<usize>,
    /// When they leave, in nanoseconds; 0: not yet known.
    leave: Atomic<i64>,
    checks: Atomic<usize>,
    broken: Atomic<usize>,
}

/// Results of readers.
pub(crate) struct Seen {
    /// Checks of an object.
    pub(crate) checks: usize,
    /// Subset of `checks`: the object was not intact.
    pub(crate) broken: usize,
}

impl Readers {
    fn new(all: usize) -> Self {
        Self {
            all,
            open: Atomic::new(0),
            inside: Atomic::new(0),
            leave: Atomic::new(0),
            checks: Atomic::new(0),
            broken: Atomic::new(0),
        }
    }

    /// Has them enter, and waits until all are inside. Returns whether they are.
    pub(crate) fn enter(&self) -> bool {
        // ORDERING: None: their objects were written before they were started.
        self.open.store(1, Relaxed);
        bound::wait_with_timeout(|| self.inside() == self.all)
    }

    fn seen(&self) -> Seen {
        Seen {
            checks: self.checks.load(Relaxed),
            broken: self.broken.load(Relaxed),
        }
    }

    /// The number of readers in their critical sections.
    pub(crate) fn inside(&self) -> usize {
        // ORDERING: None: callers access no data of the readers.
        self.inside.load(Relaxed)
    }

    /// Has them leave `msecs` milliseconds from now.
    pub(crate) fn leave_in(&self, msecs: i64) {
        self.leave.store(thread::now() + msecs * 1_000_000, Relaxed);
    }

    fn read(&self, objects: usize, count_broken: &CountBroken<'_>) {
        while self.open.load(Relaxed) == 0 && !thread::should_stop() {
            thread::sleep(1);
        }
        let guard = rcu::read_lock();
        self.check(objects, count_broken, || ());
        drop(guard);
    }

    /// Checks the objects, and calls `pause`, until it is time to leave the critical section.
    fn check(&self, objects: usize, count_broken: &CountBroken<'_>, pause: impl Fn()) {
        self.inside.fetch_add(1, Relaxed);
        loop {
            // Before the check, so that the last check is after the time to leave.
            let leave = self.leave.load(Relaxed);
            let last = leave != 0 && thread::now() >= leave;
            self.broken.fetch_add(count_broken(), Relaxed);
            self.checks.fetch_add(objects, Relaxed);
            if last {
                break;
            }
            pause();
        }
        self.inside.fetch_sub(1, Relaxed);
    }
}

/// Checks all objects of the readers, and returns the number of broken ones.
type CountBroken<'a> = dyn Fn() -> usize + Sync + 'a;

/// Calls `meanwhile` with readers of the objects of `pool` in their critical sections, on all other
/// CPUs, or on the only one. `meanwhile` has to call [`Readers::leave_in()`].
pub(crate) fn watch(pool: &Pool, meanwhile: impl FnOnce(&Readers)) -> Result<Seen> {
    watch_any(pool.len(), &|| count_broken(pool), meanwhile)
}

fn count_broken(pool: &Pool) -> usize {
    let bad = pool.objects().iter().filter(|o| !Object::is_intact(o));
    bad.count()
}

/// As [`watch()`], with `objects` objects that `count_broken` checks.
pub(crate) fn watch_any(
    objects: usize,
    count_broken: &CountBroken<'_>,
    meanwhile: impl FnOnce(&Readers),
) -> Result<Seen> {
    let here = cpu::this();
    let alone = cpu::online().count() == 1;
    let others = || cpu::online().filter(|&c| c != here || alone);
    let readers = Readers::new(others().count());
    let all_in = thread::on_cpus(others(), &|_| readers.read(objects, count_broken), || {
        let all_in = readers.enter();
        if all_in {
            meanwhile(&readers);
        } else {
            readers.leave_in(0);
        }
        all_in
    })?;
    if !all_in || readers.all == 0 {
        return Err(ETIME);
    }
    Ok(readers.seen())
}

/// As [`watch()`], with one reader, on `cpu`, that enters when `meanwhile` calls
/// [`Readers::enter()`].
pub(crate) fn watch_late(pool: &Pool, cpu: i32, meanwhile: impl FnOnce(&Readers)) -> Result<Seen> {
    let readers = Readers::new(1);
    let body = |_cpu: i32| readers.read(pool.len(), &|| count_broken(pool));
    thread::on_cpus(::core::iter::once(cpu), &body, || {
        meanwhile(&readers);
        // In case it failed before that.
        readers.leave_in(0);
    })?;
    Ok(readers.seen())
}

/// As [`watch_any()`], with one reader, on another CPU, that is one of `domain` and sleeps between
/// checks. It leaves when `meanwhile` returns unless that has told it when. Returns the result of
/// `meanwhile`, too.
pub(crate) fn watch_asleep<R>(
    domain: &Domain,
    count_broken: &CountBroken<'_>,
    meanwhile: impl FnOnce(&Readers) -> R,
) -> Result<(Seen, R)> {
    let readers = Readers::new(1);
    let body = |_: i32| domain.read(|| readers.check(1, count_broken, || thread::sleep(1)));
    let cpu = cpu::other().unwrap_or(0);
    let ret = thread::on_cpus(::core::iter::once(cpu), &body, || {
        bound::wait_with_timeout(|| readers.inside() == 1);
        let ret = meanwhile(&readers);
        if readers.leave.load(Relaxed) == 0 {
            readers.leave_in(0);
        }
        ret
    })?;
    Ok((readers.seen(), ret))
}
