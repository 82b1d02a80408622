// SPDX-License-Identifier: GPL-2.0

//! Readers that hold `rcu_read_lock()` while the objects they found are freed, and look at them all
//! the time.

use crate::{
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

/// A reader on every CPU but one, each inside one read-side critical section.
pub(crate) struct Readers {
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
    /// How many are still inside their critical section.
    pub(crate) fn inside(&self) -> usize {
        // ORDERING: None: who waits for a number here looks at no data of the readers.
        self.inside.load(Relaxed)
    }

    /// Lets them leave `msecs` milliseconds from now.
    pub(crate) fn leave_in(&self, msecs: i64) {
        self.leave.store(thread::now() + msecs * 1_000_000, Relaxed);
    }

    fn read(&self, pool: &Pool) {
        let guard = rcu::read_lock();
        self.inside.fetch_add(1, Relaxed);
        loop {
            // Before the look: the last one comes after everything that happened until then.
            let leave = self.leave.load(Relaxed);
            let last = leave != 0 && thread::now() >= leave;
            let bad = pool.objects().iter().filter(|o| !Object::is_intact(o));
            self.broken.fetch_add(bad.count(), Relaxed);
            self.looks.fetch_add(pool.len(), Relaxed);
            if last {
                break;
            }
        }
        self.inside.fetch_sub(1, Relaxed);
        drop(guard);
    }
}

/// Calls `meanwhile` when readers on all other CPUs are inside. It has to call
/// [`Readers::leave_in()`].
///
/// # Context
///
/// May sleep.
pub(crate) fn watch(pool: &Pool, meanwhile: impl FnOnce(&Readers)) -> Result<Seen> {
    let readers = Readers {
        inside: Atomic::new(0),
        leave: Atomic::new(0),
        looks: Atomic::new(0),
        broken: Atomic::new(0),
    };
    let here = cpu::this();
    let others = || cpu::online().filter(|&c| c != here);
    let n = others().count();
    let all_in = thread::on_cpus(others(), &|_| readers.read(pool), || {
        let all_in = thread::wait_for(20_000, || readers.inside() == n);
        if all_in {
            meanwhile(&readers);
        } else {
            readers.leave_in(0);
        }
        all_in
    })?;
    if !all_in || n == 0 {
        return Err(ETIME);
    }
    Ok(Seen {
        looks: readers.looks.load(Relaxed),
        broken: readers.broken.load(Relaxed),
    })
}
