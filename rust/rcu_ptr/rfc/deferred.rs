// SPDX-License-Identifier: GPL-2.0

//! Queueing what was deferred, a piece at a time: in the irq_work's handler as far as an interrupt may, in a
//! worker and in the barrier.
//!
//! One context at a time takes over, as debugobjects and kmemleak are called for the objects with no lock
//! held. Another context leaves at once: the first one looks at the list again, under the lock, when it
//! returns the rest, and so sees what the other came for.

use crate::list::{DeferredList, LinkChain, Linked, ListEnd};

/// Objects that an interrupt looks at, and the most that are taken over in one go.
pub(crate) const BUDGET: usize = 64;

/// What the lock protects.
pub(crate) struct DeferredState {
    /// Taken off the list.
    rest: Rest,
    /// A context is taking over.
    busy: bool,
    /// How often the list was taken.
    pub(crate) taken: usize,
}

struct Rest {
    chain: LinkChain,
    /// Its end was found.
    is_sound: bool,
}

impl Rest {
    const fn new() -> Self {
        Self {
            chain: LinkChain::new(),
            is_sound: false,
        }
    }
}

/// How far [`requeue_some()`] got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing was left while the lock was held; more may have been pushed since.
    Done,
    /// There is more, and no other context takes it over: the caller goes on, or queues a worker.
    More,
    /// Another context is taking over, and responsible for the rest.
    Busy,
}

/// A CPU's deferred objects, and where they go.
pub(crate) trait Deferred {
    /// Calls `f` with the lock held.
    fn with<R>(&self, f: impl FnOnce(&mut DeferredState) -> R) -> R;

    /// Where objects are pushed to.
    fn list(&self) -> &DeferredList;

    /// Queues something of the list. Returns `false` if it was queued before, so that the links behind it are
    /// those of another list.
    fn queue(&self, linked: Linked) -> bool;

    /// The list is a ring, as one of its objects was pushed again: `steps` objects were looked at to find out.
    fn report_cyclic(&self, steps: usize);

    /// Between two steps where there may be many: lets others run.
    fn pause(&self);

    /// Another context is taking over: waits a little.
    fn wait(&self);
}

impl DeferredState {
    /// Nothing taken.
    pub(crate) const fn new() -> Self {
        Self {
            rest: Rest::new(),
            busy: false,
            taken: 0,
        }
    }

    /// Hands out the rest, or what is on the list if there is none.
    fn begin(&mut self, list: &DeferredList) -> Result<Rest, Progress> {
        if self.busy {
            return Err(Progress::Busy);
        }
        if self.rest.chain.is_empty() {
            self.rest = Rest {
                chain: list.take(),
                is_sound: false,
            };
            if self.rest.chain.is_empty() {
                return Err(Progress::Done);
            }
            self.taken = self.taken.wrapping_add(1);
        }
        self.busy = true;
        Ok(core::mem::replace(&mut self.rest, Rest::new()))
    }

    /// Takes the rest back.
    fn end(&mut self, rest: Rest, list: &DeferredList) -> Progress {
        self.rest = rest;
        self.busy = false;
        // Not only the rest: the irq_work for what was pushed meanwhile may have run and left.
        if self.rest.chain.is_empty() && list.is_empty() {
            Progress::Done
        } else {
            Progress::More
        }
    }

    /// Returns whether everything is taken over that was deferred while `taken` was `before`, or earlier: it was
    /// on the list taken last by then, or on the next one.
    pub(crate) fn is_past(&self, before: usize) -> bool {
        let since = self.taken.wrapping_sub(before);
        since > 1 || (since == 1 && !self.busy && self.rest.chain.is_empty())
    }
}

/// Takes over a piece. `atomic`: at most [`BUDGET`] objects are looked at, and a longer list is left for
/// a worker, which can look for its end.
///
/// # Context
///
/// Any but NMI; may sleep unless `atomic`.
pub(crate) fn requeue_some(cpu: &impl Deferred, atomic: bool) -> Progress {
    let list = cpu.list();
    let mut rest = match cpu.with(|deferred| deferred.begin(list)) {
        Ok(rest) => rest,
        Err(progress) => return progress,
    };
    if !rest.is_sound {
        let end = if atomic {
            rest.chain.check(BUDGET, || ())
        } else {
            rest.chain.check(usize::MAX, || cpu.pause())
        };
        match end {
            ListEnd::At(_) => rest.is_sound = true,
            ListEnd::NotWithinLimit => return cpu.with(|deferred| deferred.end(rest, list)),
            ListEnd::Cyclic(steps) => {
                rest = Rest::new();
                cpu.report_cyclic(steps);
            }
        }
    }
    for _ in 0..BUDGET {
        let Some(linked) = rest.chain.pop() else {
            break;
        };
        if !cpu.queue(linked) {
            rest = Rest::new();
        }
    }
    cpu.with(|deferred| deferred.end(rest, list))
}

/// Takes over all that was deferred before the call. Returns whether there is more. May sleep.
pub(crate) fn requeue_all(cpu: &impl Deferred) -> bool {
    let before = cpu.with(|deferred| deferred.taken);
    loop {
        match requeue_some(cpu, false) {
            Progress::Done => return false,
            Progress::More => cpu.pause(),
            Progress::Busy => cpu.wait(),
        }
        let (past, more) = cpu.with(|deferred| {
            let more = !deferred.rest.chain.is_empty() || !cpu.list().is_empty();
            (deferred.is_past(before), more && !deferred.busy)
        });
        if past {
            return more;
        }
    }
}
