// SPDX-License-Identifier: GPL-2.0

//! Queues deferred objects: the irq_work a list of up to [`BUDGET`], a worker a longer one, the
//! barrier one of any length. No kernel dependencies: compiled by the host tests.
//!
//! One context at a time does so, as debugobjects and kmemleak are called for the objects with no
//! lock held. Another context returns at once: the first one checks the list again, under the lock,
//! when it has finished, and so finds what the other one was to queue.

use crate::list::{LinkChain, LinkList, Linked, ListEnd};

/// The maximum of objects that an interrupt checks, and that one call queues.
pub(crate) const BUDGET: usize = 64;

/// The state of deferred objects, under the lock.
pub(crate) struct DeferredState {
    /// Removed from the list, and not queued yet.
    rest: DeferredRest,
    /// A context is queueing objects.
    busy: bool,
    /// How often the list was removed.
    pub(crate) taken: usize,
}

struct DeferredRest {
    chain: LinkChain,
    /// The end of the list was found.
    is_sound: bool,
}

impl DeferredRest {
    const fn new() -> Self {
        Self {
            chain: LinkChain::new(),
            is_sound: false,
        }
    }
}

/// The result of [`requeue_some()`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing was left, under the lock; more may have been pushed since.
    Done,
    /// There are more, and no other context queues them: the caller calls again, or queues a
    /// worker.
    More,
    /// Another context is queueing objects, and is responsible for the rest.
    Busy,
}

/// The deferred objects of a CPU.
pub(crate) trait Deferred {
    /// Calls `f` with the lock held.
    fn with_locked<R>(&self, f: impl FnOnce(&mut DeferredState) -> R) -> R;

    /// The list that objects are pushed to.
    fn list(&self) -> &LinkList;

    /// Queues an object or callback of the list. Returns `false` if it was queued before: the links
    /// after it are those of another list.
    fn queue(&self, linked: Linked) -> bool;

    /// The list is cyclic, as one of its objects was pushed again; found after `steps` objects. It
    /// is lost.
    fn report_cyclic(&self, steps: usize);

    /// cond_resched(), between two of many steps.
    fn pause(&self);

    /// Waits a little for the other context.
    fn wait(&self);
}

impl DeferredState {
    pub(crate) const fn new() -> Self {
        Self {
            rest: DeferredRest::new(),
            busy: false,
            taken: 0,
        }
    }

    /// Returns the rest, or the list if there is none.
    fn begin(&mut self, list: &LinkList) -> Result<DeferredRest, Progress> {
        if self.busy {
            return Err(Progress::Busy);
        }
        if self.rest.chain.is_empty() {
            self.rest = DeferredRest {
                chain: list.take(),
                is_sound: false,
            };
            if self.rest.chain.is_empty() {
                return Err(Progress::Done);
            }
            self.taken = self.taken.wrapping_add(1);
        }
        self.busy = true;
        Ok(core::mem::replace(&mut self.rest, DeferredRest::new()))
    }

    /// Stores the rest.
    fn end(&mut self, rest: DeferredRest, list: &LinkList) -> Progress {
        self.rest = rest;
        self.busy = false;
        // The list as well: an irq_work for newer objects may have found this context busy and
        // returned.
        if self.rest.chain.is_empty() && list.is_empty() {
            Progress::Done
        } else {
            Progress::More
        }
    }

    /// Returns whether all objects are queued that were deferred up to when `taken` was `before`.
    /// They were on the list that was removed last by then, or on the next one.
    pub(crate) fn is_past(&self, before: usize) -> bool {
        let since = self.taken.wrapping_sub(before);
        since > 1 || (since == 1 && !self.busy && self.rest.chain.is_empty())
    }
}

/// Queues up to [`BUDGET`] deferred objects. If `atomic` a longer list is left to a worker, which
/// can search for its end.
///
/// # Context
///
/// Any but NMI; may sleep unless `atomic`.
pub(crate) fn requeue_some(cpu: &impl Deferred, atomic: bool) -> Progress {
    let list = cpu.list();
    let mut rest = match cpu.with_locked(|deferred| deferred.begin(list)) {
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
            ListEnd::NotWithinLimit => return cpu.with_locked(|deferred| deferred.end(rest, list)),
            ListEnd::Cyclic(steps) => {
                rest = DeferredRest::new();
                cpu.report_cyclic(steps);
            }
        }
    }
    for _ in 0..BUDGET {
        let Some(linked) = rest.chain.pop() else {
            break;
        };
        if !cpu.queue(linked) {
            rest = DeferredRest::new();
        }
    }
    cpu.with_locked(|deferred| deferred.end(rest, list))
}

/// Queues all objects that were deferred before the call. Returns whether there are more. May
/// sleep.
pub(crate) fn requeue_all(cpu: &impl Deferred) -> bool {
    let before = cpu.with_locked(|deferred| deferred.taken);
    loop {
        match requeue_some(cpu, false) {
            Progress::Done => return false,
            Progress::More => cpu.pause(),
            Progress::Busy => cpu.wait(),
        }
        let (past, more) = cpu.with_locked(|deferred| {
            let more = !deferred.rest.chain.is_empty() || !cpu.list().is_empty();
            (deferred.is_past(before), more && !deferred.busy)
        });
        if past {
            return more;
        }
    }
}
