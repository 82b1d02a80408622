// SPDX-License-Identifier: GPL-2.0

//! Runs the callbacks whose grace period has ended, in workers of their own, so that no object
//! waits for a callback.
//!
//! ```text
//!  worker of a batch, or of the monitor    FoundCallbacks: the callbacks of a block or list
//!    |
//!    +--> calls     one worker per CPU, in order, with BH disabled around each
//!    +--> sleeping  up to SLEEPERS workers per CPU, one callback each at a time
//! ```
//!
//! So a long callback delays later non-sleeping ones of the same CPU, as with call_rcu(). Callbacks
//! that sleep delay others of their kind only if [`SLEEPERS`] of them sleep on the same CPU.

use crate::{
    entry::{Call, ReadyCalls, FUNC},
    sys::{
        callback, debug, gp,
        irq::IrqsOff,
        raw_lock::RawSpinLock,
        trace, wait,
        work::{DelayedWork, Handler, OwnerRef, WorkQueues},
    },
    unload,
};
use core::ptr::NonNull;
use kernel::{
    prelude::*,
    static_lock_class,
    sync::atomic::{Acquire, Atomic, Relaxed, Release},
    task::Task,
};
use pin_init::pin_init_array_from_fn;

/// Callbacks of a CPU that can sleep at the same time.
pub(crate) const SLEEPERS: usize = 4;

/// The state under [`Calls::queues`].
struct Queues {
    calls: ReadyCalls,
    sleeping: ReadyCalls,
    /// Callbacks that were removed from `sleeping` so far.
    started: usize,
    /// The sequence number, by `started`, of the callback that each worker is running.
    running: [Option<usize>; SLEEPERS],
    /// Whether the worker is queued or running.
    busy: [bool; SLEEPERS],
    /// The tasks that run callbacks, last the one of `calls`; 0: none.
    running_tasks: [usize; SLEEPERS + 1],
}

/// The ready callbacks of a CPU, and their workers.
#[pin_data]
pub(crate) struct Calls {
    /// A leaf lock: only heads are accessed under it.
    #[pin]
    queues: RawSpinLock<Queues>,
    #[pin]
    work: DelayedWork<CallWork>,
    #[pin]
    sleepers: [DelayedWork<SleepWork>; SLEEPERS],
    /// Callbacks that have returned.
    invoked: Atomic<u64>,
    /// Callbacks that are lost because their head was queued twice.
    leaked: Atomic<u64>,
    workqueues: WorkQueues,
}

/// Back reference from the work items.
type CallsRef = OwnerRef<Calls>;

impl Calls {
    pub(crate) fn new(workqueues: WorkQueues) -> impl PinInit<Self> {
        // SAFETY: Pinned as a part of a krcp; the engine waits for the workers before it drops
        // that.
        let owner = |this| unsafe { CallsRef::new(this) };
        let queues = Queues {
            calls: ReadyCalls::new(),
            sleeping: ReadyCalls::new(),
            started: 0,
            running: [None; SLEEPERS],
            busy: [false; SLEEPERS],
            running_tasks: [0; SLEEPERS + 1],
        };
        pin_init!(&this in Self {
            queues <- RawSpinLock::new(queues, c"rcu_ptr_calls", static_lock_class!()),
            work <- DelayedWork::for_calls(CallWork(owner(this))),
            sleepers <- pin_init_array_from_fn(|index| {
                DelayedWork::for_sleeping_calls(SleepWork { calls: owner(this), index })
            }),
            invoked: Atomic::new(0),
            leaked: Atomic::new(0),
            workqueues,
        })
    }

    fn with_locked<R>(&self, f: impl FnOnce(&mut Queues) -> R) -> R {
        let irqs = IrqsOff::save();
        let mut queues = self.queues.lock(&irqs);
        f(&mut queues)
    }

    /// Queues callbacks whose grace period has ended to the workers.
    ///
    /// # Context
    ///
    /// Any but NMI; no lock is held that a wakeup takes.
    pub(crate) fn add(&self, found: FoundCallbacks) {
        if let (Some(head), times) = found.twice {
            self.leaked.add(times, Relaxed);
            callback::warn_twice(head);
        }
        let [calls, sleeping] = found.ready;
        let (any, any_sleeping) = (!calls.is_empty(), !sleeping.is_empty());
        if !any && !any_sleeping {
            return;
        }
        self.with_locked(|queues| {
            queues.calls.append(calls);
            queues.sleeping.append(sleeping);
        });
        if any_sleeping {
            self.wake_sleeper();
        }
        // Last, as this worker may preempt the caller at once.
        if any {
            self.work.queue(&self.workqueues.calls, 0);
        }
    }

    /// Queues an idle worker for callbacks that may sleep, if there is one, and a callback for it.
    fn wake_sleeper(&self) {
        let idle = self.with_locked(|queues| {
            if queues.sleeping.is_empty() {
                return None;
            }
            let idle = queues.busy.iter().position(|busy| !busy)?;
            queues.busy[idle] = true;
            Some(idle)
        });
        if let Some(idle) = idle {
            self.sleepers[idle].queue(&self.workqueues.sleeping, 0);
        }
    }

    /// Waits until all callbacks that were added before the call have returned.
    ///
    /// # Context
    ///
    /// May sleep. Not from a callback.
    pub(crate) fn wait(&self) {
        self.work.flush();
        let all = self.with_locked(|queues| queues.started.wrapping_add(queues.sleeping.len()));
        wait::until(self, &|| {
            self.with_locked(|queues| {
                let is_over = |nr: usize| nr.wrapping_sub(all) as isize >= 0;
                is_over(queues.started) && queues.running.iter().flatten().all(|&nr| is_over(nr))
            })
        });
    }

    /// Whether the current task is running one of the callbacks.
    pub(crate) fn is_caller(&self) -> bool {
        let task = Task::current_raw().addr();
        self.with_locked(|queues| queues.running_tasks.contains(&task))
    }

    /// Callbacks that wait for a worker.
    pub(crate) fn ready(&self) -> usize {
        self.with_locked(|queues| queues.calls.len() + queues.sleeping.len())
    }

    /// The numbers of callbacks that have returned, and of those that are lost. To be read before
    /// the counters of queued callbacks, so that these are not lower.
    pub(crate) fn ended(&self) -> (u64, u64) {
        // ORDERING: Acquire: sees what was counted before the callbacks were.
        (self.invoked.load(Acquire), self.leaked.load(Acquire))
    }

    fn call(&self, head: NonNull<u8>, sleeps: bool) {
        // SAFETY: From a list of ready callbacks: the grace period has ended.
        match unsafe { callback::invoke(head, FUNC, sleeps) } {
            Some(func) => {
                unload::returned(func);
                // ORDERING: Release, after the lock under which it was removed: see `ended()`.
                self.invoked.fetch_add(1, Release);
            }
            None => self.leaked.add(1, Relaxed),
        }
        gp::cond_resched();
    }

    /// Counts the callbacks that are lost with a cyclic list.
    #[cold]
    fn lose(&self, lost: usize) {
        debug::warn_endless(lost);
        self.leaked.add(lost as u64, Relaxed);
    }
}

/// The worker for callbacks that may not sleep.
struct CallWork(CallsRef);

impl Handler for CallWork {
    /// Runs only the callbacks that are queued now. Later ones requeue the item, so that flush()
    /// does not wait for them.
    fn run(&self) {
        let calls = &*self.0;
        let mut ready = calls.with_locked(|queues| {
            queues.running_tasks[SLEEPERS] = Task::current_raw().addr();
            queues.calls.take()
        });
        while let Some(head) = ready.pop() {
            calls.call(head, false);
        }
        calls.with_locked(|queues| queues.running_tasks[SLEEPERS] = 0);
        if !ready.is_empty() {
            calls.lose(ready.len());
        }
    }
}

/// A worker for callbacks that may sleep.
struct SleepWork {
    calls: CallsRef,
    index: usize,
}

impl Handler for SleepWork {
    fn run(&self) {
        let calls = &*self.calls;
        let task = Task::current_raw().addr();
        loop {
            let mut lost = 0;
            let head = calls.with_locked(|queues| {
                let head = queues.sleeping.pop();
                if head.is_none() {
                    lost = queues.sleeping.take().len();
                    queues.started = queues.started.wrapping_add(lost);
                }
                queues.running[self.index] = head.map(|_| queues.started);
                queues.busy[self.index] = head.is_some();
                queues.running_tasks[self.index] = head.map_or(0, |_| task);
                queues.started = queues.started.wrapping_add(usize::from(head.is_some()));
                head
            });
            wait::wake(calls);
            if lost != 0 {
                calls.lose(lost);
            }
            let Some(head) = head else {
                return;
            };
            // The callback below may sleep: let another worker continue.
            calls.wake_sleeper();
            calls.call(head, true);
        }
    }
}

/// Callbacks that were found in blocks and lists whose grace period has ended.
pub(crate) struct FoundCallbacks {
    /// Those that may not sleep, and those that may.
    ready: [ReadyCalls; 2],
    /// Heads that were queued twice: the last one found, and their number.
    twice: (Option<NonNull<u8>>, u64),
}

impl FoundCallbacks {
    pub(crate) const fn new() -> Self {
        Self {
            ready: [const { ReadyCalls::new() }; 2],
            twice: (None, 0),
        }
    }

    /// Adds `call` in front: it was queued before the others.
    ///
    /// # Safety
    ///
    /// Its head was queued under the contract of `rcu_ptr_call()`, and its grace period has ended.
    pub(crate) unsafe fn push(&mut self, call: Call) {
        // SAFETY: By the safety requirements of this function.
        if !unsafe { self.ready[usize::from(call.sleeps())].push_front(call) } {
            self.twice = (Some(call.head()), self.twice.1 + 1);
        }
    }

    /// Appends callbacks that were queued later.
    pub(crate) fn append(&mut self, newer: Self) {
        let both = self.ready.iter_mut().zip(newer.ready);
        both.for_each(|(ready, newer)| ready.append(newer));
        self.twice = (newer.twice.0.or(self.twice.0), self.twice.1 + newer.twice.1);
    }
}

/// Traces that `call` was queued.
#[inline]
pub(crate) fn trace(engine: c_uint, channel: c_uint, call: Call, caller: usize) {
    trace::call(engine, channel, call.head(), call.sleeps(), caller);
}
