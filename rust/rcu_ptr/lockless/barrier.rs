// SPDX-License-Identifier: GPL-2.0

//! The barrier (`kvfree_rcu_barrier()`): waits until all objects that were queued before the call
//! are freed, on every CPU. No kernel dependencies: compiled by the host tests.

use super::batches::Start;

/// The work items that free the batches of a CPU.
pub(crate) trait Works {
    /// Waits for the worker that polls, if it runs or is queued.
    fn flush_polled(&self);

    /// Waits for the work items of batches that are running.
    fn flush_running(&self);

    /// Waits for the work items of all batches, and so for their grace periods.
    fn flush_waiting(&self);
}

/// The engine, as the barrier needs it.
pub(crate) trait LocklessBarrier {
    /// The state of a CPU.
    type Cpu: Works;

    /// Calls `f` for each possible CPU.
    fn each(&self, f: impl FnMut(&Self::Cpu));

    /// Closes the current block, if there are objects in it.
    fn close_current(&self, cpu: &Self::Cpu);

    /// Whether a context of the CPU is on the slow path.
    fn is_slow(&self, cpu: &Self::Cpu) -> bool;

    /// Makes a batch of the closed blocks and of the list. Also returns whether any batch waits for
    /// its grace period.
    fn start(&self, cpu: &Self::Cpu) -> (Start, bool);

    /// Waits for a grace period.
    fn grace_period(&self);

    /// Queues the worker that frees the batches whose grace period has ended.
    fn free_polled(&self, cpu: &Self::Cpu);
}

/// Waits until all objects that were queued so far are freed.
///
/// An object goes through four states: in the current block of its CPU; in a closed block or on the
/// list; in a batch, or in the overflow while all are busy; being freed by a worker. Each current
/// block with objects is closed on its own CPU, and batches are started everywhere, so that all of
/// them and the barrier wait for the same grace period. Then workers free the batches whose
/// snapshot has expired. The RCU callbacks of these, which may run a grace period later, are not
/// waited for.
///
/// A second grace period is needed only if all batches of a CPU were busy, or if a context was
/// found on the slow path: it may have closed a block and been interrupted before it pushed that to
/// the closed list. It has preemption disabled, so the block is on the list a grace period later.
///
/// # Context
///
/// May sleep. The CPU hotplug lock may be held, and CPU hotplug callbacks may wait for this.
pub(crate) fn barrier(engine: &impl LocklessBarrier) {
    let mut again = false;
    let mut waits = false;
    engine.each(|cpu| {
        engine.close_current(cpu);
        // Read before start(), which then collects the blocks of slow paths that are complete.
        again |= engine.is_slow(cpu);
        let (started, waiting) = engine.start(cpu);
        again |= started == Start::Busy;
        waits |= waiting;
    });
    if waits || again {
        engine.grace_period();
    }
    flush_expired_batches(engine);
    if again {
        engine.each(|cpu| start_all(engine, cpu));
        engine.grace_period();
        flush_expired_batches(engine);
    }
}

/// Lets workers free the batches whose grace period has ended, and waits for all workers that free
/// objects of batches; not for grace periods.
fn flush_expired_batches(engine: &impl LocklessBarrier) {
    engine.each(|cpu| engine.free_polled(cpu));
    engine.each(|cpu| {
        cpu.flush_polled();
        // Afterwards: the work items of batches have taken what the poll did not find.
        cpu.flush_running();
    });
}

/// Makes a batch; waits for a free slot if all are busy.
fn start_all<B: LocklessBarrier>(engine: &B, cpu: &B::Cpu) {
    if engine.start(cpu).0 == Start::Busy {
        wait_for_all(cpu);
        // If all slots are busy again, they were filled since, with the objects that this is about.
        engine.start(cpu);
    }
}

/// Waits until all batches are freed and their work items have run. May sleep.
pub(crate) fn wait_for_all(cpu: &impl Works) {
    cpu.flush_waiting();
    // Afterwards: a poll takes a batch before its work item runs.
    cpu.flush_polled();
}
