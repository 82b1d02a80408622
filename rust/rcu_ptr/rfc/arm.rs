// SPDX-License-Identifier: GPL-2.0

//! When the monitor runs, and which context sets its timer.
//!
//! Under the lock it is only decided; timers and irq_works are called after it is dropped, as they have
//! locks and tracepoints of their own. A caller may hold any lock when it queues an object, so that only
//! queues an irq_work, whose handler sets the timer. Between a decision and its execution other contexts
//! may run:
//!
//! - a context that has decided to queue the irq_work has interrupts off, and others on this CPU rely on it;
//! - one context at a time sets the timer, and looks again afterwards if another decided meanwhile: so the
//!   last decision takes effect.

/// The monitor, as far as it is armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Monitor {
    /// It will not run.
    Idle,
    /// It will run within the drain interval.
    Slow,
    /// It will run within a jiffy.
    Fast,
}

/// How soon an irq_work has to run, to arm the monitor or to start a refill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kick {
    /// Not at all.
    No,
    /// With the next tick.
    Lazy,
    /// At once.
    Now,
}

/// What the lock protects.
pub(crate) struct Arming {
    monitor: Monitor,
    /// When it runs, in jiffies, if it is `Slow`.
    expires: usize,
    /// The irq_work that is queued and has not run.
    queued: Kick,
    /// A context is about to set the timer.
    setting: bool,
    /// Another context has decided meanwhile.
    again: bool,
}

impl Arming {
    /// Idle.
    pub(crate) const fn new() -> Self {
        Self {
            monitor: Monitor::Idle,
            expires: 0,
            queued: Kick::No,
            setting: false,
            again: false,
        }
    }

    /// Whether [`Self::needs_arming()`] can lead to an irq_work, which is `soonest` at most: without a look at what is
    /// queued.
    #[inline]
    pub(crate) fn needs_check(&self, soonest: Kick) -> bool {
        self.monitor != Monitor::Fast && self.queued < soonest
    }

    /// Whether the monitor has to be armed, or armed sooner.
    #[inline]
    pub(crate) fn needs_arming(&self, wanted: Monitor) -> bool {
        matches!(
            (self.monitor, wanted),
            (Monitor::Idle, Monitor::Slow | Monitor::Fast) | (Monitor::Slow, Monitor::Fast)
        )
    }

    /// Whether the caller has to queue the irq_work of `kick`, once the lock is dropped and before it
    /// turns interrupts on.
    #[inline]
    pub(crate) fn kick(&mut self, kick: Kick) -> Kick {
        if kick <= self.queued {
            return Kick::No;
        }
        self.queued = kick;
        kick
    }

    /// An irq_work runs: what is decided from here on queues another.
    pub(crate) fn irq_work_runs(&mut self) {
        self.queued = Kick::No;
    }

    /// The monitor runs: what comes from here on arms it again.
    pub(crate) fn monitor_runs(&mut self) {
        self.monitor = Monitor::Idle;
    }

    /// The CPU is dead: its irq_work may not have been queued.
    pub(crate) fn cpu_dead(&mut self) {
        self.irq_work_runs();
        self.monitor_runs();
    }

    /// Decides how the timer has to be set, if at all; [`Self::end()`] has to follow.
    fn begin(&mut self, wanted: Monitor, now: usize, slow: usize, fast: usize) -> Option<usize> {
        let at = now.wrapping_add(slow);
        // Even if nothing is queued: the next object finds the monitor armed.
        let sooner = self.monitor == Monitor::Slow && self.expires.wrapping_sub(at) as isize > 0;
        if !self.needs_arming(wanted) && !sooner {
            return None;
        }
        if self.setting {
            self.again = true;
            return None;
        }
        self.setting = true;
        self.expires = at;
        if wanted == Monitor::Fast {
            self.monitor = Monitor::Fast;
            Some(fast)
        } else {
            self.monitor = Monitor::Slow;
            Some(slow)
        }
    }

    /// The timer is set. Whether to look again.
    fn end(&mut self) -> bool {
        self.setting = false;
        core::mem::take(&mut self.again)
    }
}

/// A CPU's monitor.
pub(crate) trait Timed {
    /// Calls `f` with the lock held, and with how the monitor should be armed for what is queued.
    fn with<R>(&self, f: impl FnOnce(&mut Arming, Monitor) -> R) -> R;

    /// The time, in jiffies.
    fn now(&self) -> usize;

    /// The drain interval, in jiffies. Called with the lock held: a context that changes it takes the lock
    /// afterwards.
    fn interval(&self) -> usize;

    /// Lets the monitor run in `delay` jiffies, whether its timer is set or not.
    fn set(&self, delay: usize);

    /// Stops the timer, and waits until the monitor does not run.
    fn cancel(&self);
}

/// Arms the monitor for what is queued, unless it will run that soon anyway. Where a block's worth is
/// there it runs in `fast` jiffies.
///
/// # Context
///
/// Any but NMI, with interrupts off, so that no other context of this CPU waits for long; no lock is held
/// that a timer takes or, with `fast` 0, a wakeup.
pub(crate) fn arm(cpu: &impl Timed, fast: usize) {
    loop {
        let begin =
            |arming: &mut Arming, wanted| arming.begin(wanted, cpu.now(), cpu.interval(), fast);
        let Some(delay) = cpu.with(begin) else {
            return;
        };
        cpu.set(delay);
        if !cpu.with(|arming, _| arming.end()) {
            return;
        }
    }
}

/// A CPU is dead. The caller drains it, and arms the monitor for what is left. May sleep.
pub(crate) fn cpu_dead(cpu: &impl Timed) {
    // First: a context that arms the monitor just now, as the monitor itself does, would be taken at its word
    // when its timer is gone.
    cpu.cancel();
    cpu.with(|arming, _| arming.cpu_dead());
}
