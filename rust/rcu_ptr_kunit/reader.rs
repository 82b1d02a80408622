// SPDX-License-Identifier: GPL-2.0

//! Readers that hold `rcu_read_lock()` while the objects they found are freed, and look at them all
//! the time. What waits for them may sleep.

use crate::{
    bound,
    pool::{Object, Pool},
    sys::{cpu, thread},
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        rcu,
    },
};

/// Readers on CPUs of their own, each inside one read-side critical section. Where there is one CPU
/// the reader is preempted by those that free.
pub(crate) struct Readers {
    /// How many there are.
    all: usize,
    /// Whether they may go in.
    open: Atomic<i32>,
    inside: Atomic<usize>,
    /// When they leave, in nanoseconds; 0: not yet known.
    leave: Atomic<i64>,
    looks: Atomic<usize>,
    broken: Atomic<usize>,
}

/// What readers saw.
pub(crate) struct Seen {
    /// Looks at an object.
    pub(crate) looks: usize,
    /// Of those, at one that was not intact.
    pub(crate) broken: usize,
}

impl Readers {
    fn new(all: usize) -> Self {
        Self {
            all,
            open: Atomic::new(0),
            inside: Atomic::new(0),
            leave: Atomic::new(0),
            looks: Atomic::new(0),
            broken: Atomic::new(0),
        }
    }

    /// Lets them in, and waits until all are inside. Returns whether they are.
    pub(crate) fn enter(&self) -> bool {
        // ORDERING: None: what they look at was there before they were made.
        self.open.store(1, Relaxed);
        bound::watchdog(|| self.inside() == self.all)
    }

    fn seen(&self) -> Seen {
        Seen {
            looks: self.looks.load(Relaxed),
            broken: self.broken.load(Relaxed),
        }
    }

    /// How many are still inside their critical section.
    pub(crate) fn inside(&self) -> usize {
        // ORDERING: None: a waiter for a number here looks at no data of the readers.
        self.inside.load(Relaxed)
    }

    /// Lets them leave `msecs` milliseconds from now.
    pub(crate) fn leave_in(&self, msecs: i64) {
        self.leave.store(thread::now() + msecs * 1_000_000, Relaxed);
    }

    fn read(&self, objects: usize, broken: &Look<'_>) {
        while self.open.load(Relaxed) == 0 && !thread::should_stop() {
            thread::sleep(1);
        }
        let guard = rcu::read_lock();
        self.inside.fetch_add(1, Relaxed);
        loop {
            // Before the look: the last one comes after everything that happened until then.
            let leave = self.leave.load(Relaxed);
            let last = leave != 0 && thread::now() >= leave;
            self.broken.fetch_add(broken(), Relaxed);
            self.looks.fetch_add(objects, Relaxed);
            if last {
                break;
            }
        }
        self.inside.fetch_sub(1, Relaxed);
        drop(guard);
    }
}

/// How many of the objects that readers look at are broken.
type Look<'a> = dyn Fn() -> usize + Sync + 'a;

/// Calls `meanwhile` when readers on all other CPUs, or on the only one, are inside. It has to call
/// [`Readers::leave_in()`].
pub(crate) fn watch(pool: &Pool, meanwhile: impl FnOnce(&Readers)) -> Result<Seen> {
    watch_any(pool.len(), &|| broken(pool), meanwhile)
}

fn broken(pool: &Pool) -> usize {
    let bad = pool.objects().iter().filter(|o| !Object::is_intact(o));
    bad.count()
}

/// As [`watch()`], with any `objects` objects, of which `broken` says how many are no longer intact.
pub(crate) fn watch_any(
    objects: usize,
    broken: &Look<'_>,
    meanwhile: impl FnOnce(&Readers),
) -> Result<Seen> {
    let here = cpu::this();
    let alone = cpu::online().count() == 1;
    let others = || cpu::online().filter(|&c| c != here || alone);
    let readers = Readers::new(others().count());
    let all_in = thread::on_cpus(others(), &|_| readers.read(objects, broken), || {
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

/// As [`watch()`], with one reader, on `cpu`, that goes in when `meanwhile` calls
/// [`Readers::enter()`].
pub(crate) fn watch_late(pool: &Pool, cpu: i32, meanwhile: impl FnOnce(&Readers)) -> Result<Seen> {
    let readers = Readers::new(1);
    let body = |_cpu: i32| readers.read(pool.len(), &|| broken(pool));
    thread::on_cpus(::core::iter::once(cpu), &body, || {
        meanwhile(&readers);
        // Should it have failed before it came to that.
        readers.leave_in(0);
    })?;
    Ok(readers.seen())
}
