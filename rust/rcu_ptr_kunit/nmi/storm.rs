// SPDX-License-Identifier: GPL-2.0

//! As many NMIs on all CPUs as the machine stands, while something else goes on.

use crate::{
    sys::{
        cpu,
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
