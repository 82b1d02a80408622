// SPDX-License-Identifier: GPL-2.0

//! The barrier (`kvfree_rcu_barrier()`): moves all queued objects into batches that share one grace
//! period, and frees these. No kernel dependencies: compiled by the host tests.

use crate::sync::AtomicLink;

/// The engine, as the barrier needs it.
pub(crate) trait RfcBarrier {
    /// The state of a CPU.
    type Cpu;

    /// A sequence count: twice the number of completed turns, plus 1 while one runs. Written under
    /// the mutex.
    fn turns(&self) -> &AtomicLink;

    /// Calls `f` with the mutex held.
    fn with_mutex(&self, f: impl FnOnce());

    /// A full memory barrier.
    fn mb(&self);

    /// Calls `f` for each possible CPU.
    fn each(&self, f: impl FnMut(&Self::Cpu));

    /// Queues all objects that were deferred before.
    fn requeue_deferred(&self, cpu: &Self::Cpu);

    /// Makes a batch of what is queued. Returns whether there is any batch.
    fn start(&self, cpu: &Self::Cpu) -> bool;

    /// Waits for a grace period.
    fn grace_period(&self);

    /// Frees the batches whose grace period has ended.
    fn free_expired_batches(&self, cpu: &Self::Cpu);

    /// Waits until the objects are freed that monitors, the shrinker and running work items have
    /// removed.
    fn wait_for_others(&self, cpu: &Self::Cpu);
}

/// Waits until all objects that were queued so far are freed.
///
/// An object goes through five states, in this order only: deferred; queued; being freed by a
/// monitor or the shrinker, if its grace period has ended; in a batch; being freed by the work item
/// of that. The first loop moves all objects out of the first two states, so that one grace period
/// is enough. (It queues deferred objects itself, as their irq_work may never run on a dead CPU.)
/// Then batches are freed here, as their RCU callbacks may run later than the grace period ends;
/// then this waits for the lock that monitors hold while they free, and for running work items.
/// Nothing is cancelled: objects that are queued meanwhile keep their monitor.
///
/// Barriers take turns. Those that begin while a turn runs share the next one.
///
/// # Context
///
/// May sleep. Waits for no CPU: the CPU hotplug lock may be held, and hotplug callbacks may wait
/// for this.
pub(crate) fn barrier(engine: &impl RfcBarrier) {
    // ORDERING: A turn that begins after this sees what was queued before: pairs with the mb() of
    // that turn.
    engine.mb();
    let done = engine.turns().load_relaxed().wrapping_add(3) & !1;
    engine.with_mutex(|| {
        let turn = engine.turns().load_relaxed();
        if turn.wrapping_sub(done) as i64 >= 0 {
            // ORDERING: By the mutex, everything that turn did is visible.
            return;
        }
        engine.turns().store_relaxed(turn.wrapping_add(1));
        // ORDERING: The loop below sees what was queued before barriers that have read the old
        // number.
        engine.mb();
        let mut waits = false;
        engine.each(|cpu| {
            engine.requeue_deferred(cpu);
            waits |= engine.start(cpu);
        });
        if waits {
            engine.grace_period();
        }
        engine.each(|cpu| engine.free_expired_batches(cpu));
        engine.each(|cpu| engine.wait_for_others(cpu));
        engine.turns().store_relaxed(turn.wrapping_add(2));
    });
}
