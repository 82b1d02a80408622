// SPDX-License-Identifier: GPL-2.0

//! In which order the end of a cache stops what works on it, and takes what that has left. No kernel in here: the
//! host tests compile it too.

/// A cache that is not used any more, and whose objects are all past their grace period.
pub(crate) trait Teardown {
    /// What a CPU has of it.
    type Cpu;

    /// Calls `f` for each possible CPU.
    fn each(&self, f: impl FnMut(&Self::Cpu));

    /// Stops the refill for good.
    fn stop_refill(&self);

    /// Waits until the irq_work of a CPU is neither queued nor running.
    fn wait_for_irq_work(&self, cpu: &Self::Cpu);

    /// Stops the monitor of a CPU.
    fn stop_monitor(&self, cpu: &Self::Cpu);

    /// Takes everything off a CPU.
    fn take_off(&self, cpu: &Self::Cpu);

    /// Waits until nothing is counted and no callback runs; takes in what they leave.
    fn wait_until_quiet(&self);

    /// Stops the worker that takes in what callbacks left.
    fn stop_backlog(&self);

    /// Takes in what callbacks left.
    fn process_backlog(&self);

    /// Stops the trim.
    fn stop_trim(&self);

    /// Stops the reaper.
    fn stop_reap(&self);

    /// Frees what is in the barns.
    fn empty_barns(&self);
}

/// Leaves nothing of `cache`, and nothing that works on it.
///
/// # Context
///
/// May sleep.
pub(crate) fn teardown(cache: &impl Teardown) {
    // First, for good: it uses the spares of the CPU it runs on, which queues the irq_work there.
    cache.stop_refill();
    cache.each(|cpu| {
        // The irq_work queues the others.
        cache.wait_for_irq_work(cpu);
        cache.stop_monitor(cpu);
    });
    cache.each(|cpu| cache.take_off(cpu));
    // Callbacks, whose grace periods are over as well, and what they left.
    cache.wait_until_quiet();
    // What queued it has found nothing to leave since: cancelled, as a flush may miss one that is being queued.
    cache.stop_backlog();
    // A callback may have left something, or what follows the one sheaf of a chain that is counted.
    cache.process_backlog();
    // Not queued any more.
    cache.stop_trim();
    cache.stop_reap();
    // A trim or a reap that was cancelled may have been queued by the other.
    cache.stop_trim();
    cache.empty_barns();
}
