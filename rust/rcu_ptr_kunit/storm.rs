// SPDX-License-Identifier: GPL-2.0

//! NMIs in tests: a handler that frees objects, and storms of NMIs on all CPUs beside something
//! else. rust/nmi_sweep has an NMI at every instruction.

use crate::{
    bound::SLOW,
    free_fn::FreeFn,
    pool::Pool,
    sys::{
        alloc::{self, Source},
        cpu::{self, Context},
        nmi::Receiver,
        perf::{Cycles, Hook},
        thread,
    },
};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// An NMI handler that frees objects of a pool by [`FreeFn::Nolock`], and counts. The test checks
/// the counts.
pub(crate) struct Actor<'a> {
    pool: &'a Pool,
    burst: usize,
    /// The remaining NMIs that free objects; later ones are only counted.
    left: Atomic<i64>,
    inside: Atomic<u64>,
    elsewhere: Atomic<u64>,
    allocated: Atomic<u64>,
}

impl<'a> Actor<'a> {
    /// A handler of which the first `acts` calls free `burst` objects of `pool` each.
    pub(crate) fn new(pool: &'a Pool, burst: usize, acts: i64) -> Self {
        Self {
            pool,
            burst,
            left: Atomic::new(acts),
            inside: Atomic::new(0),
            elsewhere: Atomic::new(0),
            allocated: Atomic::new(0),
        }
    }

    /// The handler. Returns whether it freed objects.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    pub(crate) fn on_nmi(&self) -> bool {
        let counter = if cpu::context() == Context::Nmi {
            &self.inside
        } else {
            &self.elsewhere
        };
        counter.add(1, Relaxed);
        if self.left.load(Relaxed) <= 0 || self.left.fetch_sub(1, Relaxed) <= 0 {
            return false;
        }
        self.pool.free(FreeFn::Nolock, self.burst);
        // Handlers like that of BPF allocate and free in NMI.
        if let Some(object) = alloc::alloc(Source::KmallocNolock, 64) {
            self.allocated.add(1, Relaxed);
            // SAFETY: Just allocated.
            unsafe { FreeFn::Nolock.free(object, 0) };
        }
        true
    }

    /// Whether all the NMIs that free objects have come.
    pub(crate) fn is_spent(&self) -> bool {
        self.left.load(Relaxed) <= 0
    }

    /// Calls of the handler `in_nmi()`.
    pub(crate) fn inside(&self) -> u64 {
        self.inside.load(Relaxed)
    }

    /// Calls of the handler in any other context.
    pub(crate) fn elsewhere(&self) -> u64 {
        self.elsewhere.load(Relaxed)
    }

    /// Objects that were allocated in the handler.
    pub(crate) fn allocated(&self) -> u64 {
        self.allocated.load(Relaxed)
    }
}

/// A source of NMI storms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NmiSource {
    /// The cycle counters overflow every [`PERIOD`] cycles.
    Cycles,
    /// CPUs send NMIs to each other and to themselves.
    Ipi,
}

/// Cycles between two overflows: the shortest that a guest sustains under emulation.
pub(crate) const PERIOD: u64 = 20_000;

/// NMIs that any storm has at least.
const MIN_NMIS: u64 = 50;

/// NMIs from `source` that a storm has at least when a test has done `n` things in it: one for a
/// hundred, usually four. Where QEMU emulates the cycle counter of arm64 on a busy host there are
/// only a few for a thousand.
pub(crate) fn expected(source: NmiSource, n: u64) -> u64 {
    match source {
        NmiSource::Cycles => MIN_NMIS,
        NmiSource::Ipi => MIN_NMIS.max(n / 100),
    }
}

/// `n` rounds of a task beside a storm that counts `nmis`, and up to ten times as many until it has
/// [`MIN_NMIS`].
pub(crate) fn rounds(n: usize, nmis: &Atomic<u64>) -> impl Iterator<Item = usize> + '_ {
    (0..n * 10).take_while(move |&i| i < n || nmis.load(Relaxed) < MIN_NMIS)
}

/// Calls `f` beside a storm of NMIs from `nmi_source` whose handler is `body`. No NMI is sent to
/// CPU `excluded`: a CPU that is starting up can't handle any.
///
/// # Context
///
/// May sleep.
///
/// # Errors
///
/// That of the source, if the machine lacks it.
pub(crate) fn during<R>(
    nmi_source: NmiSource,
    body: &(dyn Fn() + Sync),
    excluded: Option<i32>,
    f: impl FnOnce() -> R,
) -> Result<R> {
    let hook = Hook::new(body);
    match nmi_source {
        NmiSource::Cycles => {
            let cycles = Cycles::new(PERIOD, &hook)?;
            let ret = f();
            drop(cycles);
            Ok(ret)
        }
        NmiSource::Ipi => {
            let receiver = Receiver::new(&hook)?;
            let stop = Atomic::<i32>::new(0);
            let send = |this: i32| {
                while stop.load(Relaxed) == 0 {
                    for cpu in cpu::online().filter(|&cpu| Some(cpu) != excluded) {
                        // More often to itself: such an NMI interrupts this loop.
                        receiver.send(this);
                        receiver.send(cpu);
                    }
                    if SLOW {
                        // Handlers that take milliseconds would leave no time for the tasks.
                        thread::sleep(1);
                    }
                    thread::still_alive();
                }
            };
            let senders = cpu::online().filter(|&cpu| Some(cpu) != excluded);
            let ret = thread::on_cpus(senders, &send, || {
                let ret = f();
                stop.store(1, Relaxed);
                ret
            });
            drop(receiver);
            ret
        }
    }
}

/// The strongest source of NMIs of this machine.
pub(crate) fn strongest() -> Option<NmiSource> {
    let nothing = || ();
    [NmiSource::Cycles, NmiSource::Ipi]
        .into_iter()
        .find(|&nmi_source| during(nmi_source, &nothing, None, || ()).is_ok())
}
