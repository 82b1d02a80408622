// SPDX-License-Identifier: GPL-2.0

//! The threads: readers and writers, each with timers that do the same in hardirq and softirq, and
//! send NMIs; one for CPU hotplug; one for barriers, short-lived caches and failing allocations; in
//! half of the runs a second one for barriers.

use crate::{
    object::Source,
    plan::SLOW,
    records::Record,
    run::Run,
    sys::{
        alloc,
        cache::{Args, SheafCache},
        core,
        cpu::{self, Context, DownStep},
        fault, freed, gp,
        nmi::Receiver,
        perf::{Cycles, Hook},
        thread,
        timer::{Timer, Where},
    },
};
use ::core::ptr;
use kernel::{prelude::*, sync::atomic::Relaxed};

/// Longest read-side critical section in an interrupt, in nanoseconds.
const MAX_IRQ_READ_NSECS: u64 = 20_000;
/// Objects that are queued before a barrier, and checked after it.
const QUEUED_BEFORE: usize = 8;
/// The most other waiting objects that are checked after a barrier, or after a CPU is dead.
const MAX_CHECKED: usize = 128;
/// Objects of a dead CPU are stuck if they are not freed within this time, in nanoseconds ...
const STUCK_NSECS: u64 = 1_000_000_000 * SLOW;
/// ... while this many objects that were queued later, one after the other, are freed.
const STUCK_ROUNDS: u32 = 8;
/// The time within which all objects have to be freed when nothing else runs, in nanoseconds.
const SETTLE_NSECS: u64 = 5_000_000_000 * SLOW;

/// The sources of NMIs of this machine.
pub(crate) enum Nmis<'a> {
    Sent(Receiver<'a>),
    /// Overflows of the cycle counters.
    Counted {
        _events: Cycles<'a>,
    },
    None,
}

impl<'a> Nmis<'a> {
    /// Finds a source. `period`: cycles between overflows.
    pub(crate) fn new(period: u64, hook: &'a Hook<'a>) -> Self {
        if let Ok(receiver) = Receiver::new(hook) {
            return Self::Sent(receiver);
        }
        Cycles::new(period, hook).map_or(Self::None, |_events| Self::Counted { _events })
    }

    /// Whether there are any.
    pub(crate) fn exist(&self) -> bool {
        !matches!(self, Self::None)
    }
}

/// The body of thread `number`.
pub(crate) fn body(run: &Run<'_>, nmis: &Nmis<'_>, number: usize) {
    let plan = run.plan;
    let urgent = plan.writers + plan.readers;
    match number {
        0 if plan.hotplug > 0 => hotplug(run),
        0 => expedite(run),
        1 if plan.disturb > 0 => disturb(run),
        2 if plan.disturb > 0 && run.random.one_in(2) => barriers(run),
        1 | 2 => {}
        n if n - 3 < plan.writers => {
            with_timers(run, nmis, 64, false, |run| run.update(Context::Task))
        }
        n if n - 3 < urgent => with_timers(run, nmis, 8, false, |run| run.read_long(plan.span)),
        _ => with_timers(run, nmis, 4, true, |run| run.update(Context::Task)),
    }
}

/// The number of threads.
pub(crate) fn count(run: &Run<'_>) -> usize {
    3 + run.plan.writers + run.plan.readers + run.plan.urgent
}

/// The body of each NMI.
///
/// # Context
///
/// NMI.
pub(crate) fn on_nmi(run: &Run<'_>) {
    let counts = &run.counts;
    counts.nmis.up();
    let context = cpu::context();
    if context != Context::Nmi {
        counts.elsewhere.up();
    }
    if run.random.one_in(4) {
        run.read(context, MAX_IRQ_READ_NSECS / 4);
    }
    run.update(context);
}

/// Nanoseconds until a timer expires again whose handler started at `began`; 0: it is not rearmed.
fn next_expiry(run: &Run<'_>, began: u64) -> u64 {
    let random = &run.random;
    if run.idle.load(Relaxed) != 0 || random.one_in(1024) {
        return 0;
    }
    let next = if random.one_in(4) {
        // Often right after the last one.
        random.skewed(2 * run.plan.timer)
    } else {
        1 + random.below(2 * run.plan.timer)
    };
    // All timers together leave half of a CPU to tasks, on slow machines too, where interrupt entry
    // and exit cost as much.
    next.max((thread::now_in_nmi() - began) * 4 * SLOW.min(4) * count(run) as u64)
}

/// Updates or reads, and returns the context.
fn update_or_read(run: &Run<'_>) -> Context {
    let context = cpu::context();
    if run.random.one_in(2) {
        run.update(context);
    } else {
        run.read(context, MAX_IRQ_READ_NSECS);
    }
    context
}

fn in_hardirq(run: &Run<'_>, nmis: &Nmis<'_>) -> u64 {
    let began = thread::now_in_nmi();
    let context = update_or_read(run);
    // On PREEMPT_RT a hard timer may run late, in its thread.
    if let (Nmis::Sent(receiver), Context::Hardirq) = (nmis, context) {
        let nmis_for_8 = run.plan.nmis + run.random.below(8);
        for _ in 0..nmis_for_8 / 8 {
            send(run, receiver);
        }
    }
    next_expiry(run, began)
}

/// Sends an NMI to this CPU or to another.
fn send(run: &Run<'_>, receiver: &Receiver<'_>) {
    let this = cpu::this();
    let skip = run.random.below(4) as usize;
    let other = cpu::online().cycle().nth(skip);
    let target = match other {
        Some(cpu) if run.random.one_in(2) => cpu,
        _ => this,
    };
    if target == this || target != run.excluded_cpu.load(Relaxed) {
        receiver.send(target);
    }
}

fn in_softirq(run: &Run<'_>) -> u64 {
    let began = thread::now_in_nmi();
    update_or_read(run);
    next_expiry(run, began)
}

/// Calls `act` repeatedly, up to `burst` times in a row, and starts the timers of the thread, until
/// the thread has to stop.
fn with_timers(run: &Run<'_>, nmis: &Nmis<'_>, burst: u64, urgent: bool, act: impl Fn(&Run<'_>)) {
    let hard = || in_hardirq(run, nmis);
    let soft = || in_softirq(run);
    let timers = Timer::new(Where::Hardirq, &hard).and_then(|hard| {
        let soft = Timer::new(Where::Softirq, &soft)?;
        Ok((hard, soft))
    });
    let Ok((hard, soft)) = timers else { return };
    if urgent {
        thread::set_fifo();
    }
    while !thread::should_stop() {
        if run.idle.load(Relaxed) != 0 {
            thread::sleep(1 + run.random.below(8) as u32);
            continue;
        }
        let began = thread::now_in_nmi();
        hard.start(run.random.skewed(run.plan.timer) + 1);
        soft.start(run.random.skewed(run.plan.timer) + 1);
        for _ in 0..1 + run.random.below(burst) {
            act(run);
            if !urgent {
                thread::cond_resched();
            }
        }
        if run.random.one_in(16) {
            migrate(run);
        }
        if urgent || run.random.one_in(8) {
            // The wakeup interrupts another task at an arbitrary instruction. All urgent threads
            // together leave half of a CPU to others, as there may be only one.
            let spent = (thread::now_in_nmi() - began) / 1000 * run.plan.urgent as u64;
            let least = if urgent { spent.min(100_000) as u32 } else { 0 };
            thread::sleep_us(least + 20 + run.random.below(500) as u32);
        }
    }
}

fn migrate(run: &Run<'_>) {
    let skip = run.random.below(16) as usize;
    // On PREEMPT_RT __set_cpus_allowed_ptr() warns about threads whose CPU goes down.
    let free = cfg!(CONFIG_PREEMPT_RT) && run.plan.hotplug > 0;
    let cpu = if free || run.random.one_in(8) {
        -1
    } else {
        cpu::online().cycle().nth(skip).unwrap_or(-1)
    };
    thread::move_to(cpu);
}

/// Takes CPUs down and brings them up again.
fn hotplug(run: &Run<'_>) {
    let every = run.plan.hotplug;
    while !thread::should_stop() {
        thread::sleep(1 + run.random.below(2 * u64::from(every)) as u32);
        let last = cpu::online().count() as u64;
        // The first CPU can't go down on most machines.
        let skip = 1 + run.random.below(last.saturating_sub(1)) as usize;
        let Some(cpu) = cpu::online().nth(skip) else {
            continue;
        };
        run.excluded_cpu.store(cpu, Relaxed);
        // Wait for senders that have not seen this: they run with interrupts off.
        kernel::sync::rcu::synchronize_rcu();
        let is_down = take_down(run, cpu).is_ok();
        if run.random.one_in(2) {
            check_left(run, cpu);
        }
        if is_down {
            thread::sleep(run.random.below(u64::from(every)) as u32);
            if cpu::bring_up(cpu).is_ok() {
                run.counts.hotplugs.up();
            }
        }
        run.excluded_cpu.store(-1, Relaxed);
    }
}

/// Takes a CPU down; in half of the cases frees objects on it at some moment, and may have it
/// rolled back there.
fn take_down(run: &Run<'_>, cpu: i32) -> Result {
    if run.random.one_in(2) {
        return cpu::take_down(cpu);
    }
    let moment = DownStep::ALL[run.random.below(DownStep::ALL.len() as u64) as usize];
    let returns = moment != DownStep::Dying && run.random.one_in(2);
    let body = || {
        for _ in 0..1 + run.random.below(8) {
            // What is allowed in NMI is allowed here.
            run.update(Context::Nmi);
        }
        if returns {
            run.counts.returns.up();
            Err(EBUSY)
        } else {
            Ok(())
        }
    };
    cpu::at_down_step(moment, &body, || cpu::take_down(cpu))?
}

/// Checks that objects that were queued on a CPU that is dead, or was rolled back, are freed.
fn check_left(run: &Run<'_>, cpu: i32) {
    let mut waiting = [None; MAX_CHECKED];
    let is_asked = |record: &Record| record.is_plain_of(cpu);
    run.records.waiting(0, &mut waiting, is_asked);
    let end = thread::now_in_nmi() + STUCK_NSECS;
    let (mut rounds, mut latest) = (0, None);
    loop {
        let mut left = waiting
            .iter()
            .flatten()
            .filter(|(record, number)| record.is_waiting(*number));
        let Some((record, _)) = left.next() else {
            return;
        };
        if rounds >= STUCK_ROUNDS && thread::now_in_nmi() >= end {
            run.counts.stuck.up();
            return record.failed(c"still waits since its CPU went down");
        }
        if latest.is_none_or(|(record, number): (&Record, u64)| !record.is_waiting(number)) {
            latest = run.queue_one(Source::Kmalloc);
            rounds += u32::from(latest.is_some());
        }
        thread::sleep(2);
    }
}

/// Waits without a barrier until all queued objects are freed.
///
/// # Context
///
/// May sleep; nothing else runs.
pub(crate) fn settle(run: &Run<'_>) {
    let end = thread::now_in_nmi() + SETTLE_NSECS;
    loop {
        let mut waiting = [None];
        let is_asked = |record: &Record| !record.is_cache();
        run.records.waiting(0, &mut waiting, is_asked);
        let [Some((record, _))] = waiting else { return };
        if thread::now_in_nmi() >= end {
            run.counts.stuck.up();
            return record.failed(c"still waits, and nothing else goes on");
        }
        thread::sleep(10);
    }
}

/// Runs expedited grace periods beside the normal ones.
fn expedite(run: &Run<'_>) {
    while !thread::should_stop() {
        thread::sleep_us(50 + run.random.skewed(4000) as u32);
        if run.idle.load(Relaxed) == 0 {
            gp::synchronize_expedited();
            run.counts.expedited.up();
        }
    }
}

/// Runs barriers, short-lived caches, prefills, failing allocations, memory pressure.
fn disturb(run: &Run<'_>) {
    while !thread::should_stop() {
        thread::sleep(1 + run.random.below(2 * u64::from(run.plan.disturb)) as u32);
        match run.random.below(8) {
            0..3 => barrier(run),
            3 | 4 => short_lived_cache(run),
            5 => {
                let cache = run.cache(run.some_cache());
                let _ = cache.prefill(run.random.below(4) as usize);
            }
            6 if run.plan.fail > 0 => {
                fault::fail(1 + run.random.below(run.plan.fail), run.random.skewed(16))
            }
            7 if run.plan.squeeze > 0 => {
                alloc::squeeze(run.plan.squeeze);
                run.counts.squeezes.up();
            }
            _ => run.alloc_and_free(),
        }
    }
    fault::fail(0, 0);
}

/// Runs barriers and short-lived caches beside those of [`disturb()`].
fn barriers(run: &Run<'_>) {
    while !thread::should_stop() {
        thread::sleep(1 + run.random.below(2 * u64::from(run.plan.disturb)) as u32);
        if run.random.one_in(4) {
            short_lived_cache(run);
        } else {
            barrier(run);
        }
    }
}

/// Checks that objects that were queued before a barrier, on several CPUs and in all contexts, are
/// freed after it, and that callbacks and destructors have returned; or the destructors after the
/// barrier of a cache.
fn barrier(run: &Run<'_>) {
    let of_cache = run.random.one_in(4);
    let mut queued = [None; QUEUED_BEFORE];
    for queued in &mut queued {
        if run.random.one_in(3) {
            migrate(run);
        }
        let is_destructed = of_cache || run.random.one_in(4);
        *queued = run.queue_one(if is_destructed {
            Source::SmallCache
        } else {
            Source::Kmalloc
        });
    }
    if run.random.one_in(2) {
        migrate(run);
    }
    let mut others = [None; MAX_CHECKED];
    if of_cache {
        run.cache(Source::SmallCache).barrier();
    } else {
        let start = run.random.next() as usize;
        run.records
            .waiting(start, &mut others, Record::is_of_barrier);
        core::barrier();
    }
    check_none_waits(run, Iterator::chain(queued.into_iter(), others).flatten());
    run.counts.barriers.up();
}

/// Checks that a barrier has waited for these objects.
fn check_none_waits<'a>(run: &Run<'_>, queued: impl Iterator<Item = (&'a Record, u64)>) {
    for (record, number) in queued {
        if record.is_waiting(number) {
            run.counts.left_by_barrier.up();
            record.failed(c"still waits after a barrier");
        }
    }
}

/// Creates a cache, uses it on several CPUs, and destroys it while objects wait. In some runs its
/// barrier comes before: no other thread fills its sheaves, so only the barrier closes them.
fn short_lived_cache(run: &Run<'_>) {
    let size = 32 + 8 * run.random.below(32) as usize;
    let capacity = run.random.below(57) as u32;
    let destructor = run.random.one_in(2);
    let srcu = if run.random.one_in(4) {
        run.domain.raw()
    } else {
        ptr::null_mut()
    };
    let args = Args {
        sheaf_capacity: capacity,
        dtor: destructor.then_some(freed::destructed),
        srcu,
        ..Args::default()
    };
    let Ok(short) = SheafCache::new(c"rcu_ptr_torture_short", size, args) else {
        return;
    };
    let source = if destructor {
        Source::SmallCache
    } else {
        Source::Cache
    };
    let mut queued = [None; QUEUED_BEFORE];
    for i in 0..run.random.skewed(400) as usize {
        if run.random.one_in(8) {
            migrate(run);
        }
        let object = if run.random.one_in(2) {
            short.alloc_with(alloc::quiet(false))
        } else {
            short.alloc_nolock()
        };
        if let Some(object) = object {
            queued[i % QUEUED_BEFORE] = run.free_rcu(&short, source, object);
        }
        thread::cond_resched();
    }
    if destructor && run.random.one_in(2) {
        short.barrier();
        check_none_waits(run, queued.into_iter().flatten());
        run.counts.barriers.up();
    }
    drop(short);
    run.counts.caches.up();
}
