// SPDX-License-Identifier: GPL-2.0

//! The monitor: a pinned timer per CPU that collects closed blocks and, once per drain interval,
//! closes the current one. It stays armed while objects keep coming, so that nobody has to wake it;
//! what wakes it from NMI is a lazy irq_work, which the next tick runs. Who fills a block with
//! interrupts on does not wait for it.
//!
//! ```text
//!            first block opened, first object linked: tick
//!   Idle ─────────────────────────────────────────────────> Armed ──┐ every jiffy while it finds some,
//!     ^                                                        │    │ then after twice as long each
//!     └── a whole drain interval without an object ────────────┘ <──┘ time, at last once per interval
//! ```
//!
//! An object is closed within the drain interval wherever it is: its block was opened after the last
//! time that the monitor closed the current block, and it will again an interval after that.

use super::{
    batch::{self, Start},
    block,
    cpu::This,
    insert::{self, Close},
    krcp::{Krcp, KrcpRef},
    refill,
    word::Layout,
    Lockless, Page,
};
use crate::{
    params,
    sys::{
        context, debug, ipi, irq::IrqsOff, pinned_timer::jiffies, preempt::OnCpu, work::Handler,
    },
};
use kernel::sync::atomic::Relaxed;

/// A full block or a block's worth of linked objects waits at most this long for the monitor.
fn max_wait() -> usize {
    params::second_jiffies()
}

/// So many objects that are not collected do not wait for longer than a jiffy. Where the tick is
/// stopped that costs an interrupt, so they are some blocks' worth.
const HURRY_OBJECTS: usize = 4 * Page::CAPACITY;

/// How an armed monitor is told from an idle one at jiffy 0.
const ARMED: usize = 1 << (usize::BITS - 1);

/// Wakes the monitor if it is idle, or sleeps for longer than the drain interval is by now: something
/// has to be drained one day.
///
/// # Context
///
/// Any, NMI included, on this CPU.
#[inline]
pub(super) fn wake(krcp: &Krcp, on: &impl OnCpu) {
    let expires = krcp.expires.load(Relaxed);
    if expires == 0 || remaining(expires & !ARMED) > params::drain_jiffies() {
        krcp.tick.queue(on);
    }
}

/// There is a block's worth to collect. With interrupts on it is done here: nobody holds a lock that
/// call_rcu() or a wakeup takes. Otherwise the monitor is woken if it is idle or sleeps for long, or
/// a little if there is more.
///
/// # Context
///
/// As for [`wake()`].
#[inline]
pub(super) fn collect(krcp: &Krcp, on: &impl OnCpu) {
    if context::may_lock() {
        batch::start(krcp, &IrqsOff::save());
        // The monitor, which would, may sleep on.
        refill::start(krcp);
        return;
    }
    let expires = krcp.expires.load(Relaxed);
    let wait = if krcp.waiting() < HURRY_OBJECTS {
        max_wait()
    } else {
        1
    };
    if expires == 0 || remaining(expires & !ARMED) > wait {
        krcp.tick.queue(on);
    }
}

/// Jiffies until `at` (the topmost bit of both may be lost).
fn remaining(at: usize) -> usize {
    let left = at.wrapping_sub(jiffies()) & !ARMED;
    // The past is far away.
    if left > ARMED / 2 {
        0
    } else {
        left
    }
}

fn arm(krcp: &Krcp, period: usize, irqs: &IrqsOff) {
    let left = remaining(krcp.drain_at.load(Relaxed) & !ARMED);
    let delay = period.min(left).max(1);
    krcp.period.store(period, Relaxed);
    let at = jiffies().wrapping_add(delay);
    // Before the timer is set: it may run at once only after interrupts are on.
    krcp.expires.store(at | ARMED, Relaxed);
    krcp.monitor.set(at, irqs);
}

/// The drain interval as the monitor counts it: a jiffy less, for the tick that may pass before an
/// irq_work runs.
fn interval() -> usize {
    params::drain_jiffies().saturating_sub(1).max(1)
}

/// Sets when the current block is closed next: if it is idle, or the drain interval has become shorter.
fn plan(krcp: &Krcp, idle: bool) {
    if idle || remaining(krcp.drain_at.load(Relaxed) & !ARMED) > interval() {
        krcp.drain_at
            .store(jiffies().wrapping_add(interval()), Relaxed);
    }
}

/// Heeds a drain interval that was set just now: what is queued waits for no longer than that.
///
/// # Context
///
/// Process context, interrupts on.
pub(super) fn heed_interval(krcp: &Krcp) {
    if !closes_past(krcp, interval()) {
        return;
    }
    // The timer is that CPU's to set. Where it is on its way down, its hotplug callback does all.
    ipi::call_on(krcp.cpu, krcp, |krcp, irqs| {
        plan(krcp, false);
        // One that looks for closed blocks earlier than that goes on, and closes the current one in time.
        if sleeps_past(krcp, interval()) {
            arm(krcp, interval(), irqs);
        }
    });
}

/// Whether the monitor is armed, and does not close the current block within the next `jiffies`.
fn closes_past(krcp: &Krcp, jiffies: usize) -> bool {
    krcp.expires.load(Relaxed) != 0 && remaining(krcp.drain_at.load(Relaxed) & !ARMED) > jiffies
}

/// Whether the monitor is armed, and not for the next `jiffies`.
fn sleeps_past(krcp: &Krcp, jiffies: usize) -> bool {
    let expires = krcp.expires.load(Relaxed);
    expires != 0 && remaining(expires & !ARMED) > jiffies
}

/// What a tick does for NMI: collects, and arms the monitor.
pub(super) struct Tick(pub(super) KrcpRef);

impl Handler for Tick {
    fn run(&self) {
        let krcp = &*self.0;
        let irqs = IrqsOff::save();
        if !Lockless::get().is_this_cpu(krcp, &irqs) {
            return;
        }
        scan_current(krcp);
        refill::start(krcp);
        let busy = batch::start(krcp, &irqs) != Start::Nothing;
        plan(krcp, krcp.expires.load(Relaxed) == 0);
        arm(krcp, if busy { 1 } else { interval() }, &irqs);
    }
}

/// The timer.
pub(super) struct MonitorTimer(pub(super) KrcpRef);

impl Handler for MonitorTimer {
    fn run(&self) {
        let krcp = &*self.0;
        let irqs = IrqsOff::save();
        if !Lockless::get().is_this_cpu(krcp, &irqs) {
            // The CPU has died, and its hotplug callback takes care of all.
            return;
        }
        // From here on who comes in NMI wakes the monitor again, unless it is armed below; what came
        // before is seen below.
        krcp.expires.store(0, Relaxed);
        let mut came = false;
        plan(krcp, false);
        let due = remaining(krcp.drain_at.load(Relaxed) & !ARMED) == 0;
        if due {
            let this = This::new(&irqs, krcp);
            // A fresh block takes the place of one with objects: they keep coming, and find the
            // monitor armed.
            came = insert::close(&this, true) != Close::Nothing;
            krcp.drain_at
                .store(jiffies().wrapping_add(interval()), Relaxed);
        }
        refill::start(krcp);
        came |= batch::start(krcp, &irqs) != Start::Nothing;
        if due && !came {
            // Neither a block nor a listed object: idle. (Should NMI have opened a block just now,
            // it has woken the monitor.)
            return;
        }
        let period = if came && !due {
            1
        } else {
            (krcp.period.load(Relaxed).saturating_mul(2)).clamp(1, interval())
        };
        arm(krcp, period, &irqs);
    }
}

/// kmemleak: blocks that came in NMI are told to it here.
fn scan_current(krcp: &Krcp) {
    let base = Page::base(krcp.current.load(Relaxed));
    // SAFETY: On this CPU, preemption off; ticks and nobody else ask.
    if cfg!(CONFIG_DEBUG_KMEMLEAK) && base != 0 && !unsafe { block::is_scanned(base, true) } {
        debug::kmemleak_scan(base, Page::BLOCK as usize);
    }
}
