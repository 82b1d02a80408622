// SPDX-License-Identifier: GPL-2.0

//! Decides when the monitor runs, and which context sets its timer. No kernel dependencies:
//! compiled by the host tests.
//!
//! Decisions are made under the lock and carried out after it is dropped, as timers and irq_works
//! have locks and tracepoints of their own. A caller may hold any lock when it queues an object, so
//! it only queues an irq_work, whose handler sets the timer. Other contexts may run between a
//! decision and its execution:
//!
//! - a context that has decided to queue the irq_work does so before it enables interrupts, and
//!   other contexts of this CPU rely on that;
//! - one context at a time sets the timer, and checks again afterwards if another one has decided
//!   meanwhile, so that the last decision takes effect.

/// How the monitor is armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Monitor {
    /// It will not run.
    Idle,
    /// It will run within the drain interval.
    Slow,
    /// It will run within a jiffy.
    Fast,
}

/// How soon an irq_work has to run that arms the monitor or starts a refill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kick {
    /// Not at all.
    No,
    /// With the next tick.
    Lazy,
    /// At once.
    Now,
}

/// The state of the monitor, under the lock.
pub(crate) struct Arming {
    monitor: Monitor,
    /// When the monitor runs, in jiffies, if it is `Slow`.
    expires: usize,
    /// The irq_work that is queued and has not run yet.
    queued: Kick,
    /// A context is setting the timer.
    setting: bool,
    /// Another context has decided meanwhile: the one that sets the timer has to check again.
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

    /// Whether [`Self::needs_arming()`] has to be called at all: a cheap test without the number of
    /// objects. `soonest` is the most urgent irq_work that arming the monitor may take.
    #[inline]
    pub(crate) fn needs_check(&self, soonest: Kick) -> bool {
        self.monitor != Monitor::Fast && self.queued < soonest
    }

    /// Whether the monitor has to be armed, or to be armed for an earlier time.
    #[inline]
    pub(crate) fn needs_arming(&self, wanted: Monitor) -> bool {
        matches!(
            (self.monitor, wanted),
            (Monitor::Idle, Monitor::Slow | Monitor::Fast) | (Monitor::Slow, Monitor::Fast)
        )
    }

    /// Requests the irq_work `kick`. The caller has to queue the one that is returned, after it has
    /// dropped the lock and before it enables interrupts.
    #[inline]
    pub(crate) fn kick(&mut self, kick: Kick) -> Kick {
        if kick <= self.queued {
            return Kick::No;
        }
        self.queued = kick;
        kick
    }

    /// An irq_work runs: later requests queue another.
    pub(crate) fn irq_work_runs(&mut self) {
        self.queued = Kick::No;
    }

    /// The monitor runs: objects that are queued after this arm it again.
    pub(crate) fn monitor_runs(&mut self) {
        self.monitor = Monitor::Idle;
    }

    /// The CPU is dead, and its irq_work may never run.
    pub(crate) fn cpu_dead(&mut self) {
        self.irq_work_runs();
        self.monitor_runs();
    }

    /// Returns the delay if the timer has to be set; then [`Self::end()`] has to follow.
    fn begin(
        &mut self,
        wanted: Monitor,
        now: usize,
        slow: usize,
        fast_delay: usize,
    ) -> Option<usize> {
        let at = now.wrapping_add(slow);
        // Even if nothing is queued: the next object would rely on the armed monitor.
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
            Some(fast_delay)
        } else {
            self.monitor = Monitor::Slow;
            Some(slow)
        }
    }

    /// The timer is set. Returns whether to check again.
    fn end(&mut self) -> bool {
        self.setting = false;
        core::mem::take(&mut self.again)
    }
}

/// The monitor of a CPU.
pub(crate) trait Timed {
    /// Calls `f` with the lock held, and with how the monitor has to be armed for what is queued.
    fn with_locked<R>(&self, f: impl FnOnce(&mut Arming, Monitor) -> R) -> R;

    /// The time, in jiffies.
    fn now(&self) -> usize;

    /// The drain interval, in jiffies. Called with the lock held: a context that changes the
    /// interval takes the lock afterwards.
    fn interval(&self) -> usize;

    /// Sets the timer to `delay` jiffies from now, whether it is set or not.
    fn set(&self, delay: usize);

    /// Stops the timer, and waits for a running monitor.
    fn cancel(&self);
}

/// Arms the monitor for what is queued, unless it runs soon enough. With a block's worth of objects
/// it runs in `fast_delay` jiffies.
///
/// # Context
///
/// Any but NMI, with interrupts disabled, so that no other context of this CPU has to wait for
/// long. No lock is held that a timer or, if `fast_delay` is 0, a wakeup takes.
pub(crate) fn arm(cpu: &impl Timed, fast_delay: usize) {
    loop {
        let begin = |arming: &mut Arming, wanted| {
            arming.begin(wanted, cpu.now(), cpu.interval(), fast_delay)
        };
        let Some(delay) = cpu.with_locked(begin) else {
            return;
        };
        cpu.set(delay);
        if !cpu.with_locked(|arming, _| arming.end()) {
            return;
        }
    }
}

/// A CPU is dead. The caller drains it, and arms the monitor for the rest. May sleep.
pub(crate) fn cpu_dead(cpu: &impl Timed) {
    // Before the reset: if a context armed the monitor between the two, as the monitor itself may,
    // its timer would be stopped here, and the monitor would stay marked as armed.
    cpu.cancel();
    cpu.with_locked(|arming, _| arming.cpu_dead());
}
