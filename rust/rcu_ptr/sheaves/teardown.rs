// SPDX-License-Identifier: GPL-2.0

//! Order of the teardown of a cache. No kernel dependencies: compiled by the host tests.

/// A cache that is no longer in use, and whose objects' grace periods are over.
pub(crate) trait Teardown {
    /// The per-CPU part.
    type Cpu;

    fn each(&self, f: impl FnMut(&Self::Cpu));

    /// Stops the refill worker, and keeps it from being queued again.
    fn stop_refill(&self);

    /// Waits until the irq_work of a CPU is neither queued nor running.
    fn wait_for_irq_work(&self, cpu: &Self::Cpu);

    /// Stops the monitor of a CPU.
    fn stop_monitor(&self, cpu: &Self::Cpu);

    /// Moves all sheaves of a CPU to the barn.
    fn take_off(&self, cpu: &Self::Cpu);

    /// Waits until nothing is counted and no callback runs, processing what callbacks leave.
    fn wait_until_quiet(&self);

    /// Stops the worker that processes what callbacks leave.
    fn stop_backlog(&self);

    /// Processes what callbacks left.
    fn process_backlog(&self);

    /// Stops the trim worker.
    fn stop_trim(&self);

    fn stop_reap(&self);

    fn empty_barns(&self);
}

/// Stops all work of `cache`, and frees all sheaves.
///
/// # Context
///
/// May sleep.
pub(crate) fn teardown(cache: &impl Teardown) {
    // First: the refill uses the spares of the CPU that it runs on, which queues the irq_work.
    cache.stop_refill();
    cache.each(|cpu| {
        // The irq_work queues the monitor.
        cache.wait_for_irq_work(cpu);
        cache.stop_monitor(cpu);
    });
    cache.each(|cpu| cache.take_off(cpu));
    // Callbacks, and what they leave; their grace periods are over too.
    cache.wait_until_quiet();
    // Everything that queues the worker has stopped. Cancelled rather than flushed, as a flush may
    // miss an item that is just being queued.
    cache.stop_backlog();
    // A callback may have left sheaves. Only the first sheaf of a chain is counted, so others may
    // still be here.
    cache.process_backlog();
    // Nothing queues these any more, except each other.
    cache.stop_trim();
    cache.stop_reap();
    // The reaper may have queued the trim before it was cancelled.
    cache.stop_trim();
    cache.empty_barns();
}
