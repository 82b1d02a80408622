// SPDX-License-Identifier: GPL-2.0

//! NMIs in tests: what a handler does, and as many of them on all CPUs as the machine stands, while something
//! else goes on. One at every instruction is rust/nmi_sweep.

use crate::{
    pool::Pool,
    route::Route,
    sys::{
        alloc::{self, Source},
        cpu::{self, Context},
        nmi::Receiver,
        perf::{Cycles, Hook},
        thread,
    },
    SLOW,
};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// What an NMI does in a test: it frees objects of a pool and counts. The test asserts.
pub(crate) struct Actor<'a> {
    pool: &'a Pool,
    route: Route,
    burst: usize,
    /// NMIs that still do something; the others only count.
    left: Atomic<i64>,
    inside: Atomic<u64>,
    elsewhere: Atomic<u64>,
    allocated: Atomic<u64>,
}

impl<'a> Actor<'a> {
    /// Each of the next `acts` NMIs frees `burst` objects of `pool`.
    pub(crate) fn new(pool: &'a Pool, route: Route, burst: usize, acts: i64) -> Self {
        Self {
            pool,
            route,
            burst,
            left: Atomic::new(acts),
            inside: Atomic::new(0),
            elsewhere: Atomic::new(0),
            allocated: Atomic::new(0),
        }
    }

    /// The handler. Returns whether it was one of those that act.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    pub(crate) fn fire(&self) -> bool {
        let counter = if cpu::context() == Context::Nmi {
            &self.inside
        } else {
            &self.elsewhere
        };
        counter.add(1, Relaxed);
        if self.left.load(Relaxed) <= 0 || self.left.fetch_sub(1, Relaxed) <= 0 {
            return false;
        }
        for object in (0..self.burst).map_while(|_| self.pool.take()) {
            // SAFETY: Handed out once, with a field there.
            unsafe { self.route.free(object.start, object.at) };
        }
        // What NMIs need most: an object made and freed in here.
        if let Some(object) = alloc::alloc(Source::KmallocNolock, 64) {
            self.allocated.add(1, Relaxed);
            // SAFETY: Just allocated.
            unsafe { self.route.free(object, 0) };
        }
        true
    }

    /// Whether all the NMIs that act have come.
    pub(crate) fn is_spent(&self) -> bool {
        self.left.load(Relaxed) <= 0
    }

    /// Interrupts that came `in_nmi()`.
    pub(crate) fn inside(&self) -> u64 {
        self.inside.load(Relaxed)
    }

    /// Interrupts that came in any other context.
    pub(crate) fn elsewhere(&self) -> u64 {
        self.elsewhere.load(Relaxed)
    }

    /// Objects that were made in the handler.
    pub(crate) fn allocated(&self) -> u64 {
        self.allocated.load(Relaxed)
    }
}

/// Where storms come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NmiSource {
    /// The cycle counters overflow every so many cycles.
    Cycles,
    /// CPUs send NMIs to each other and to themselves.
    Ipi,
}

/// Cycles between two overflows: as short as the guest stands under emulation.
pub(crate) const PERIOD: u64 = 20_000;

/// Calls `f` with NMIs of `nmi_source` calling `body`; no NMI is sent to CPU `spare`: one that is
/// about to start has no way to take it.
///
/// # Context
///
/// May sleep.
///
/// # Errors
///
/// What the source says when the machine hasn't got it.
pub(crate) fn during<R>(
    nmi_source: NmiSource,
    body: &(dyn Fn() + Sync),
    spare: Option<i32>,
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
                    for cpu in cpu::online().filter(|&cpu| Some(cpu) != spare) {
                        // To itself a little more: that one comes between two instructions here.
                        receiver.send(this);
                        receiver.send(cpu);
                    }
                    if SLOW {
                        // Handlers that take milliseconds would leave no time for what they
                        // interrupt.
                        thread::sleep(1);
                    }
                    thread::still_alive();
                }
            };
            let senders = cpu::online().filter(|&cpu| Some(cpu) != spare);
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
