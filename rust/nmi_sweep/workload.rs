// SPDX-License-Identifier: GPL-2.0

//! The workloads of a sweep, one per path through the engine, so that each is taken often.

use crate::{
    bound, cache_workload,
    free_fn::FreeFn,
    params::{self, RestoreDefaults},
    pool::Pool,
    sys::{
        alloc::{self, Source},
        core, core_test,
        cpu::{self, DownStep},
        fault, gp,
        probes::Probes,
        text, thread, user,
    },
};
use ::core::ptr::NonNull;
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Every call, every kind of object, a barrier.
    Light,
    /// As `Light`, with probes at the tracepoints.
    Traced,
    /// More objects than a block holds, which brings the monitor forward.
    Full,
    /// Objects that the monitor drains after the drain interval.
    Monitor,
    /// No blocks: the list, and callers that allocate a block.
    List,
    /// Another CPU takes the lock of this one now and then.
    Contend,
    /// Barriers on every CPU, with objects queued on each.
    Barriers,
    /// debugfs files and parameters, read and written.
    Debugfs,
    /// Objects whose grace period is over before the monitor runs.
    Ready,
    /// As `Ready`, for the list, and the shrinker.
    Shrink,
    /// Refills after the shrinker.
    Refill,
    /// All trace events, and their output.
    Trace,
    /// Trace events that are rare, by themselves.
    RareTrace,
    /// Misuse, after the core has given its warnings.
    Misuse,
    /// A CPU goes down and comes up.
    Hotplug,
    /// No page for a block.
    NoBlocks,
    /// Short-lived caches with small sheaves.
    Caches,
    /// A cache with sheaves of the default size.
    LargeSheaves,
    /// Caches, with failing allocations.
    CachesFail,
    /// The most important workloads, one after another.
    Heavy,
    /// The command of parameter `cmd`.
    Command,
}

/// The set-up of a workload, which is undone when this is dropped.
pub(crate) struct Prepared {
    _restore: Option<RestoreDefaults>,
    /// Enables the tracepoints, which changes the path of most calls.
    _probes: Option<Probes>,
    workload: Workload,
}

impl Drop for Prepared {
    fn drop(&mut self) {
        let off = c"cd /sys/kernel/tracing && echo 0 >events/rcu_ptr/enable && \
                    echo 1408 >buffer_size_kb && echo >trace";
        if matches!(self.workload, Workload::Trace | Workload::RareTrace) && user::sh(off).is_err()
        {
            pr_err!("the tracepoints can't be turned off\n");
        }
    }
}

impl Workload {
    /// Sets parameters, probes and tracing up.
    pub(crate) fn prepare(self) -> Result<Prepared> {
        let restore = match self {
            Self::Ready => Some(params::quick_drain()?),
            Self::Monitor | Self::Barriers => Some(params::quickest_drain()?),
            Self::List => Some(params::no_blocks()?),
            Self::Refill | Self::Trace | Self::RareTrace | Self::NoBlocks => {
                Some(params::short_pause()?)
            }
            _ => None,
        };
        let traced = !matches!(self, Self::Light | Self::Full | Self::List);
        let prepared = Prepared {
            _restore: restore,
            _probes: traced.then(Probes::register).transpose()?,
            workload: self,
        };
        // A small buffer, which is read quickly.
        match self {
            Self::Trace => user::sh(
                c"cd /sys/kernel/tracing && echo 64 >buffer_size_kb && \
                  echo 1 >events/rcu_ptr/enable && echo >trace",
            )?,
            Self::RareTrace => user::sh(
                c"cd /sys/kernel/tracing && echo 64 >buffer_size_kb && for e in batch_start \
                  batch_end \
                  refill shrink sheaf_wait sheaf_refill sheaf_drain sheaf_shrink; do \
                  echo 1 >events/rcu_ptr/rcu_ptr_$e/enable || exit; done && echo >trace",
            )?,
            _ => (),
        }
        Ok(prepared)
    }

    /// Whether it creates caches.
    pub(crate) fn has_caches(self) -> bool {
        matches!(self, Self::Caches | Self::LargeSheaves | Self::CachesFail)
    }

    /// How often it runs for a group at most: its timing differs each time.
    pub(crate) fn tries(self) -> u32 {
        match self {
            Self::Hotplug | Self::Command => 1,
            Self::CachesFail => 8,
            Self::Debugfs | Self::Shrink | Self::Refill | Self::Heavy | Self::Trace => 2,
            _ => 4,
        }
    }

    /// Runs it once, with objects of `pool` among those that it frees.
    pub(crate) fn run(self, pool: &Pool) -> Result {
        match self {
            Self::Light | Self::Traced => {
                light_calls(pool)?;
                core::barrier();
            }
            Self::Full => full(pool)?,
            Self::Monitor => {
                light_calls(pool)?;
                thread::sleep(10);
                free(pool, Source::Kmalloc, 64, FreeFn::Nolock, 2)?;
                // More than two batches: later blocks wait for a free batch.
                for _ in 0..4 {
                    free(pool, Source::Kmalloc, 32, FreeFn::Kvfree, 520)?;
                    free(pool, Source::Vmalloc, 4096, FreeFn::Kvfree, 2)?;
                    thread::sleep(3);
                }
                thread::sleep(20);
            }
            Self::List => {
                free(pool, Source::Kmalloc, 64, FreeFn::Kvfree, 600)?;
                free(pool, Source::Kmalloc, 64, FreeFn::Call, 20)?;
                free(pool, Source::Kmalloc, 64, FreeFn::CallSleepable, 20)?;
                light_calls(pool)?;
            }
            Self::Contend => contend(pool, 40, true)?,
            Self::Barriers => barriers(pool)?,
            Self::Debugfs => {
                debugfs_and_params()?;
                shorter_interval(pool)?;
            }
            Self::Ready => {
                light_calls(pool)?;
                gp::synchronize();
                thread::sleep(60);
            }
            Self::Shrink => {
                free(pool, Source::Kmalloc, 64, FreeFn::Kvfree, 600)?;
                thread::sleep(10);
                // Too few to bring the monitor forward: their grace period is over when it runs.
                light_calls(pool)?;
                gp::synchronize();
                params::shrink()?;
                light_calls(pool)?;
                gp::synchronize();
            }
            Self::Refill => {
                params::shrink()?;
                free(pool, Source::Kmalloc, 32, FreeFn::Kvfree, 1100)?;
                thread::sleep(150);
                free(pool, Source::Kmalloc, 32, FreeFn::Kvfree, 1100)?;
            }
            Self::Trace => {
                params::shrink()?;
                light_calls(pool)?;
                free(pool, Source::Kmalloc, 64, FreeFn::Kvfree, 20)?;
                contend(pool, 2, false)?;
                core::barrier();
                user::sh(
                    c"cd /sys/kernel/tracing; cat trace >/dev/null; echo >trace; echo 1 \
                      >set_event_pid",
                )?;
                // Again, with a trace that filters for another task.
                let unseen = params::shrink()
                    .and_then(|()| light_calls(pool))
                    .and_then(|()| contend(pool, 1, false));
                core::barrier();
                user::sh(c"echo >/sys/kernel/tracing/set_event_pid")?;
                unseen?;
            }
            Self::RareTrace => {
                params::shrink()?;
                free(pool, Source::Kmalloc, 32, FreeFn::Kvfree, 1100)?;
                thread::sleep(20);
                params::shrink()?;
                core::barrier();
                user::sh(c"cd /sys/kernel/tracing; cat trace >/dev/null; echo >trace")?;
            }
            Self::Misuse => {
                core_test::misuse();
                cache_workload::misuse()?;
            }
            Self::Hotplug => {
                if let Some(cpu) = cpu::other() {
                    let few = || free(pool, Source::Kmalloc, 64, FreeFn::Nolock, 4);
                    let busy = |_: i32| {
                        let _ = free(pool, Source::Kmalloc, 64, FreeFn::Kvfree, 600)
                            .and_then(|()| few());
                    };
                    thread::on_cpus(::core::iter::once(cpu), &busy, || ())?;
                    cache_workload::at_down_step(DownStep::Ended, &few, || {
                        // Fails: the CPU stays up.
                        let _ = cpu::take_down(cpu);
                        Ok(())
                    })?;
                    let gone = cache_workload::at_down_step(DownStep::Dying, &few, || {
                        cpu::take_down(cpu)?;
                        light_calls(pool)?;
                        core::barrier();
                        Ok(())
                    });
                    cpu::bring_up(cpu)?;
                    gone?;
                }
            }
            Self::NoBlocks => no_blocks(pool)?,
            Self::Caches => cache_workload::short_lived()?,
            Self::LargeSheaves => cache_workload::large()?,
            Self::CachesFail => {
                static TURN: Atomic<u64> = Atomic::new(0);
                cache_workload::fail(TURN.fetch_add(1, Relaxed));
            }
            Self::Heavy => {
                light_calls(pool)?;
                full(pool)?;
                params::shrink()?;
                debugfs_and_params()?;
                return Self::Hotplug.run(pool);
            }
            Self::Command => return user::sh_fmt(fmt!("{}", text::sweep_cmd())),
        }
        core::barrier();
        Ok(())
    }
}

/// The most objects per call that are taken from the pool.
const TRACKED: usize = 16;

/// Allocates object `i` of a call, and returns it with the offset of its field. Of the first ones
/// every other is from the pool, if there are any left.
fn object(pool: &Pool, source: Source, size: usize, i: usize) -> Result<(NonNull<u8>, usize)> {
    let is_tracked = i % 2 == 0 && i < 2 * TRACKED && source != Source::Vmalloc;
    if let Some(object) = is_tracked.then(|| pool.take()).flatten() {
        return Ok((object.start, object.at));
    }
    let object = alloc::alloc_retry(source, size).ok_or(ENOMEM)?;
    Ok((object, 8))
}

fn free(pool: &Pool, source: Source, size: usize, free_fn: FreeFn, n: usize) -> Result {
    for i in 0..n {
        let (object, at) = object(pool, source, size, i)?;
        // SAFETY: Just allocated, or handed out by the pool, with a field at `at`.
        unsafe { free_fn.free(object, at) };
    }
    Ok(())
}

fn free_one_irqs_off() {
    if let Some(object) = alloc::alloc(Source::KmallocNolock, 64) {
        // SAFETY: Just allocated.
        unsafe { FreeFn::Kvfree.free(object, 0) };
    }
}

fn try_free(pool: &Pool, n: usize) {
    for i in 0..n {
        let Ok((object, _)) = object(pool, Source::Kmalloc, 32, i) else {
            return;
        };
        // SAFETY: Just allocated, or handed out.
        if !unsafe { core::try_kfree_nolock(object) } {
            // SAFETY: Not queued, so the caller still owns it.
            unsafe { alloc::kvfree(object) };
        }
    }
}

fn light_calls(pool: &Pool) -> Result {
    free(pool, Source::Kmalloc, 64, FreeFn::Kvfree, 3)?;
    free(pool, Source::KmallocNolock, 64, FreeFn::Nolock, 2)?;
    free(pool, Source::Vmalloc, 4096, FreeFn::Kvfree, 1)?;
    free(pool, Source::Vmalloc, 4096, FreeFn::Nolock, 1)?;
    free(pool, Source::Kmalloc, 64, FreeFn::Mightsleep, 1)?;
    free(pool, Source::Vmalloc, 4096, FreeFn::Mightsleep, 1)?;
    free(pool, Source::Kmalloc, 64, FreeFn::Call, 2)?;
    free(pool, Source::Vmalloc, 4096, FreeFn::CallSleepable, 1)?;
    try_free(pool, 2);
    cpu::irqs_off(free_one_irqs_off);
    core_test::free_null();
    for cpu in cpu::online() {
        core_test::words(cpu).for_each(drop);
    }
    Ok(())
}

fn full(pool: &Pool) -> Result {
    // More than fit into all cached blocks.
    free(pool, Source::Kmalloc, 32, FreeFn::Kvfree, 4000)?;
    free(pool, Source::Kmalloc, 32, FreeFn::Nolock, 600)?;
    try_free(pool, 600);
    free(pool, Source::Kmalloc, 32, FreeFn::Mightsleep, 600)?;
    free(pool, Source::Kmalloc, 32, FreeFn::Call, 600)?;
    free(pool, Source::Kmalloc, 32, FreeFn::CallSleepable, 20)?;
    thread::sleep(12);
    Ok(())
}

/// Calls that find the lock held by another CPU, which reads the words of this one all the time.
fn contend(pool: &Pool, rounds: usize, many: bool) -> Result {
    let here = cpu::this();
    let stop = Atomic::<i32>::new(0);
    let holders = Atomic::<i32>::new(0);
    let hold = |_: i32| {
        holders.add(1, Relaxed);
        while stop.load(Relaxed) == 0 {
            for _ in 0..1000 {
                core_test::words(here).for_each(drop);
            }
            thread::still_alive();
        }
    };
    let alone = cpu::online().count() < 2;
    let body = |_: i32| {
        bound::wait_with_timeout(|| alone || holders.load(Relaxed) > 0);
        for _ in 0..rounds {
            let _ = free(pool, Source::Kmalloc, 32, FreeFn::Nolock, 20)
                .and_then(|()| free(pool, Source::Kmalloc, 32, FreeFn::Kvfree, 5))
                .and_then(|()| free(pool, Source::Kmalloc, 32, FreeFn::Call, 5));
            try_free(pool, 20);
        }
        if many {
            let _ = defer_many(pool);
        }
        stop.store(1, Relaxed);
    };
    let either = |cpu: i32| if cpu == here { body(cpu) } else { hold(cpu) };
    thread::on_cpus(cpu::online(), &either, || ())
}

/// Concurrent barriers, with open blocks and batches of several grace periods.
fn barriers(pool: &Pool) -> Result {
    let body = |_: i32| {
        for _ in 0..3 {
            let _ = free(pool, Source::Kmalloc, 32, FreeFn::Kvfree, 1100)
                .and_then(|()| free(pool, Source::Kmalloc, 32, FreeFn::Call, 20))
                .and_then(|()| free(pool, Source::Vmalloc, 4096, FreeFn::Kvfree, 2));
            core::barrier();
            // Each batch waits for another grace period.
            for _ in 0..6 {
                let _ = free(pool, Source::Kmalloc, 32, FreeFn::Kvfree, 520);
                gp::synchronize_expedited();
            }
            core::barrier();
        }
    };
    thread::on_cpus(cpu::online(), &body, || ())
}

/// More calls with interrupts off than an irq_work takes over in one run.
fn defer_many(pool: &Pool) -> Result {
    let mut objects = KVVec::with_capacity(1000, GFP_KERNEL)?;
    for i in 0..1000 {
        objects.push(object(pool, Source::Kmalloc, 32, i)?, GFP_KERNEL)?;
    }
    cpu::irqs_off(|| {
        for (object, at) in objects {
            // SAFETY: Just allocated, or handed out, with a field there.
            unsafe { FreeFn::Nolock.free(object, at) };
        }
    });
    Ok(())
}

/// Reads and writes all files, with builtin shell commands only: no process is started.
fn debugfs_and_params() -> Result {
    user::sh(
        c"cd /sys/module/rcu_ptr/parameters; i=0; while [ $i -lt 4 ]; do i=$((i + 1)); \
          for f in /sys/kernel/debug/rcu_ptr/* *; do read -r x <$f; done; \
          for f in rcu_* drain_*; do read -r x <$f; echo $x >$f; echo x >$f; echo 4000000 >$f; \
          echo 18446744073709551616 >$f; echo >$f; done; done 2>/dev/null; true",
    )
}

/// Shortens the drain interval while monitors are armed for a long one.
fn shorter_interval(pool: &Pool) -> Result {
    let long = params::no_drain()?;
    let few = |_: i32| {
        let _ = free(pool, Source::Kmalloc, 64, FreeFn::Kvfree, 2);
    };
    thread::on_cpus(cpu::online(), &few, || ())?;
    thread::sleep(10);
    let quick = params::quick_drain()?;
    thread::sleep(50);
    drop((long, quick));
    Ok(())
}

/// Every call when no page for a block, or no second one, is available.
fn no_blocks(pool: &Pool) -> Result {
    for nth in 1..3 {
        params::shrink()?;
        fault::fail_blocks(nth, u64::MAX);
        let freed = free(pool, Source::Kmalloc, 64, FreeFn::Mightsleep, 2)
            .and_then(|()| free(pool, Source::Vmalloc, 4096, FreeFn::Mightsleep, 1))
            .and_then(|()| free(pool, Source::Kmalloc, 32, FreeFn::Kvfree, 600))
            .and_then(|()| free(pool, Source::Kmalloc, 32, FreeFn::Nolock, 600))
            .and_then(|()| free(pool, Source::Kmalloc, 32, FreeFn::Call, 20));
        cpu::irqs_off(free_one_irqs_off);
        try_free(pool, 20);
        thread::sleep(5);
        fault::fail_blocks(0, 0);
        freed?;
        core::barrier();
    }
    Ok(())
}
