// SPDX-License-Identifier: GPL-2.0

//! The barrier: everything queued before the call is freed when it returns, on every CPU and from
//! every path (`kvfree_rcu_barrier()`). No kernel in here: the host tests compile it too.

use super::batches::Start;

/// The work items that free the batches of a CPU.
pub(crate) trait Works {
    /// Waits for the one that frees batches which it finds over, if it runs or is queued.
    fn flush_polled(&self);

    /// Waits for those of batches, as far as they run.
    fn flush_running(&self);

    /// Waits for those of batches, which come after their grace periods.
    fn flush_waiting(&self);
}

/// What a barrier works on: everything that the engine has.
pub(crate) trait LocklessBarrier {
    /// What a CPU has.
    type Cpu: Works;

    /// Calls `f` for each possible CPU.
    fn each(&self, f: impl FnMut(&Self::Cpu));

    /// Closes the current block, if there are objects in it.
    fn close_current(&self, cpu: &Self::Cpu);

    /// Whether a context is on the slow path.
    fn is_slow(&self, cpu: &Self::Cpu) -> bool;

    /// Makes a batch of what is closed and linked. Returns whether any waits for its grace period, too.
    fn start(&self, cpu: &Self::Cpu) -> (Start, bool);

    /// Waits for a grace period.
    fn grace_period(&self);

    /// Has a worker free the batches whose grace period is over.
    fn free_polled(&self, cpu: &Self::Cpu);
}

/// Waits for everything queued so far.
///
/// An object is in one of four places: the current block of its CPU; a closed block or the list; a
/// batch, or the overflow while none is free; a worker that frees it. Every current block with objects is
/// closed on its own CPU, and batches are started everywhere, so that all of them and the barrier wait for
/// the same grace period. Then workers free the batches whose snapshot is over; their callbacks, which may
/// run a grace period later, are not waited for.
///
/// A second grace period is needed only where a CPU was found on the slow path, which may have closed a
/// block and been interrupted before it was pushed to the closed list (it has preemption disabled: a grace
/// period later it has been pushed); and where no batch was free.
///
/// # Context
///
/// May sleep. The CPU hotplug lock may be held, and CPU hotplug callbacks may wait for it.
pub(crate) fn barrier(engine: &impl LocklessBarrier) {
    let mut again = false;
    let mut waits = false;
    engine.each(|cpu| {
        engine.close_current(cpu);
        // Before the batch, which has what is handed over by now.
        again |= engine.is_slow(cpu);
        let (started, waiting) = engine.start(cpu);
        again |= started == Start::Busy;
        waits |= waiting;
    });
    if waits || again {
        engine.grace_period();
    }
    free_expired_batches(engine);
    if again {
        engine.each(|cpu| start_all(engine, cpu));
        engine.grace_period();
        free_expired_batches(engine);
    }
}

/// Has workers free the batches whose grace period is over. Waits for them, and for what was taken from batches
/// before; not for grace periods.
fn free_expired_batches(engine: &impl LocklessBarrier) {
    engine.each(|cpu| engine.free_polled(cpu));
    engine.each(|cpu| {
        cpu.flush_polled();
        // Now: what that did not find any more was taken by the batch's own work.
        cpu.flush_running();
    });
}

/// Makes a batch of what is there, and waits for a free place if need be.
fn start_all<B: LocklessBarrier>(engine: &B, cpu: &B::Cpu) {
    if engine.start(cpu).0 == Start::Busy {
        wait_for_all(cpu);
        // Busy again: all places were filled since, and what was there is in them.
        engine.start(cpu);
    }
}

/// Waits until all batches are freed, and their callbacks have come. May sleep.
pub(crate) fn wait_for_all(cpu: &impl Works) {
    cpu.flush_waiting();
    // Now, as what was taken from a batch was so before its own work came.
    cpu.flush_polled();
}
