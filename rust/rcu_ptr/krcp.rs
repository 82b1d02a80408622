// SPDX-License-Identifier: GPL-2.0

//! What both engines have in common per CPU: work items, workqueues and the shrinker. The type of
//! the per-CPU state is `Krcp`, after the kernel's pointer to its `struct kfree_rcu_cpu`.

use crate::{
    calls::Calls,
    engine::{Engine, Gauges},
    params,
    sys::{
        shrinker::Shrink,
        trace,
        work::{DelayedWork, Handler, OwnerRef, RcuWork, WorkQueues},
    },
};
use core::marker::PhantomData;
use kernel::prelude::*;
use pin_init::pin_init_array_from_fn;

/// The name of an engine's shrinker.
pub(crate) const SHRINKER: &CStr = c"rcu_ptr-krc";
/// The name of an engine's CPU hotplug callbacks.
pub(crate) const HOTPLUG: &CStr = c"rcu_ptr:krc";

/// The krcp of an engine.
pub(crate) trait KrcpOps: Sync + Sized + 'static {
    /// Callbacks whose grace period has ended.
    fn calls(&self) -> &Calls;

    /// Counters and gauges, but for those of [`Self::calls()`]. Any context but NMI.
    fn gauges(&self) -> Gauges;

    /// Frees batch `index`, in a worker, once its grace period has ended.
    fn free_batch(&self, index: usize);

    /// Allocates the blocks that are missing, in a worker.
    fn refill(&self);

    /// Delays the next refill. Returns how many objects and blocks [`Self::shrink()`] would give
    /// back.
    ///
    /// # Context
    ///
    /// Memory reclaim: nothing is allocated.
    fn shrinkable(&self) -> usize;

    /// Frees unused blocks, and starts grace periods for queued objects, which count as given back.
    /// Returns how much that is.
    ///
    /// # Context
    ///
    /// As for [`Self::shrinkable()`].
    fn shrink(&self) -> usize;
}

/// The part of a krcp `K` that does not depend on the engine; `N` is the number of batches.
#[pin_data]
pub(crate) struct KrcpCommon<K: KrcpOps, const N: usize> {
    /// The CPU whose objects these are.
    pub(crate) cpu: i32,
    /// Free the batches.
    #[pin]
    pub(crate) batch_works: [RcuWork<KrcpBatchWork<K>>; N],
    /// Allocates blocks.
    #[pin]
    pub(crate) refill: DelayedWork<KrcpRefillWork<K>>,
    /// Callbacks whose grace period has ended.
    #[pin]
    pub(crate) calls: Calls,
    pub(crate) queues: WorkQueues,
}

impl<K: KrcpOps, const N: usize> KrcpCommon<K, N> {
    /// The part of the krcp of `cpu` that `krcp` refers to.
    pub(crate) fn new(
        cpu: i32,
        krcp: OwnerRef<K>,
        queues: WorkQueues,
    ) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            cpu,
            batch_works <- pin_init_array_from_fn(move |index| {
                RcuWork::new(KrcpBatchWork { krcp, index })
            }),
            refill <- DelayedWork::for_refills(KrcpRefillWork(krcp)),
            calls <- Calls::new(queues.clone()),
            queues,
        })
    }

    /// Queues the refill worker, with a delay if `backoff`; `waiting` objects are queued. Returns
    /// `false` if it was queued already.
    ///
    /// # Context
    ///
    /// Any but NMI; no lock is held that a timer or a wakeup takes.
    pub(crate) fn queue_refill(&self, backoff: bool, waiting: usize) -> bool {
        let delay = if backoff {
            params::refill_delay_jiffies()
        } else {
            0
        };
        // ORDERING: Full, by the workqueue: a run that this finds pending counts the blocks
        // afterwards. One that has begun is followed by another.
        let queued = self.refill.queue(&self.queues.refill, delay);
        if queued && backoff {
            trace::defer(self.cpu, trace::DEFER_REFILL, waiting);
        }
        queued
    }
}

/// The work item of a batch.
pub(crate) struct KrcpBatchWork<K> {
    krcp: OwnerRef<K>,
    index: usize,
}

impl<K: KrcpOps> Handler for KrcpBatchWork<K> {
    fn run(&self) {
        self.krcp.free_batch(self.index);
    }
}

/// The work item of refills.
pub(crate) struct KrcpRefillWork<K>(OwnerRef<K>);

impl<K: KrcpOps> Handler for KrcpRefillWork<K> {
    fn run(&self) {
        self.0.refill();
    }
}

/// Shrinks the krcps of engine `E`.
pub(crate) struct KrcShrinker<E>(PhantomData<E>);

impl<E: Engine> Shrink for KrcShrinker<E> {
    fn count() -> usize {
        E::krc().iter().map(|krcp| krcp.shrinkable()).sum()
    }

    fn scan(goal: usize) -> usize {
        let mut done = 0;
        for krcp in E::krc().iter() {
            done += krcp.shrink();
            if done >= goal {
                break;
            }
        }
        done
    }
}
