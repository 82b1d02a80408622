// SPDX-License-Identifier: GPL-2.0

//! The barrier (`kvfree_rcu_barrier()`): what is queued anywhere moves into batches that share one grace
//! period, and these are freed here. No kernel in here: the host tests compile it too.

use crate::sync::AtomicLink;

/// What a barrier works on: everything that the engine has.
pub(crate) trait RfcBarrier {
    /// What a CPU has.
    type Cpu;

    /// Twice the turns that are done, and 1 while one is taken. Written under the mutex.
    fn turns(&self) -> &AtomicLink;

    /// Calls `f` with the mutex of barriers held.
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

    /// Frees the batches whose grace period is over.
    fn free_expired_batches(&self, cpu: &Self::Cpu);

    /// Waits until objects are freed that a monitor or the shrinker has detached, and batches whose work runs.
    fn wait_for_others(&self, cpu: &Self::Cpu);
}

/// Waits for everything queued so far.
///
/// An object is in one of five places, and goes through them in this order only: deferred; queued;
/// taken by a monitor or the shrinker because it was ready; in a batch; taken by the batch's work.
/// The first loop empties the first two places on every CPU, so that one grace period is enough. (It
/// empties the deferred lists itself, so it needn't wait for an irq_work, which may never run on a CPU that
/// died.) Afterwards batches are freed here, as their callbacks may run later than their grace period. Then
/// it waits for the lock that monitors hold while they free, and for work items that run. Nothing is
/// cancelled: objects that are queued meanwhile keep their monitor.
///
/// Barriers take turns. Those that begin while one runs share the next one.
///
/// # Context
///
/// May sleep. No CPU is waited for, so the hotplug lock may be held, and a hotplug callback may wait.
pub(crate) fn barrier(engine: &impl RfcBarrier) {
    // ORDERING: What was queued before is seen by a turn that begins after this: pairs with the barrier
    // after its beginning.
    engine.mb();
    let done = engine.turns().load_relaxed().wrapping_add(3) & !1;
    engine.with_mutex(|| {
        let turn = engine.turns().load_relaxed();
        if turn.wrapping_sub(done) as i64 >= 0 {
            // ORDERING: By the mutex: what that turn did is seen.
            return;
        }
        engine.turns().store_relaxed(turn.wrapping_add(1));
        // ORDERING: What a barrier that read the old number covers was queued before the loop below.
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
