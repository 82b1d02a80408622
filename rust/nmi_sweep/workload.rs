// SPDX-License-Identifier: GPL-2.0

//! What goes on while NMIs come at every instruction: each way through the engine by itself, so
//! that it is taken often.

use crate::{
    bound, cache_load,
    params::{self, Defaults},
    pool::Pool,
    route::Route,
    sys::{
        alloc::{self, Source},
        core, core_test,
        cpu::{self, Moment},
        fault, gp,
        probes::Probes,
        text, thread, user,
    },
};
use ::core::ptr::NonNull;
use kernel::{
    prelude::*,
    str::CString,
    sync::atomic::{Atomic, Relaxed},
};

/// A way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// Every call, every kind of object, a barrier.
    Light,
    /// The same, with the tracepoints in use.
    Traced,
    /// More objects than a block holds, which hurries the monitor.
    Full,
    /// Objects that the monitor drains when their time has come.
    Monitor,
    /// No blocks: the list, and callers that allocate their own.
    List,
    /// Another CPU holds this one's lock now and then.
    Contend,
    /// Barriers on every CPU, while each has objects waiting.
    Barriers,
    /// Statistics and parameters, read and written.
    Files,
    /// Objects whose grace period is over before the monitor comes.
    Ready,
    /// The same for the list, and the shrinker.
    Shrink,
    /// Refills after the shrinker.
    Refill,
    /// The events of every tracepoint, and their output.
    Trace,
    /// Those that come rarely, by themselves.
    RareTrace,
    /// What is plainly wrong, after the warning for it was given.
    Misuse,
    /// A CPU goes down and comes up.
    Hotplug,
    /// No page for a block.
    NoBlocks,
    /// Caches with small sheaves that come and go.
    Caches,
    /// One with sheaves of the usual size.
    LargeSheaves,
    /// The same, with memory that is not there.
    CachesFail,
    /// The most important of these, one after another.
    Heavy,
    /// The command of parameter `cmd`.
    Command,
}

/// How things are set up for a load, until this goes.
pub(crate) struct Prepared {
    _defaults: Option<Defaults>,
    /// The code of every tracepoint is run, too: another way through most calls.
    _probes: Option<Probes>,
    load: Load,
}

impl Drop for Prepared {
    fn drop(&mut self) {
        let off = c"cd /sys/kernel/tracing && echo 0 >events/rcu_ptr/enable && \
                    echo 1408 >buffer_size_kb && echo >trace";
        if matches!(self.load, Load::Trace | Load::RareTrace) && user::sh(off).is_err() {
            pr_err!("the tracepoints can't be turned off\n");
        }
    }
}

impl Load {
    /// Sets things up.
    pub(crate) fn prepare(self) -> Result<Prepared> {
        let defaults = match self {
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
            _defaults: defaults,
            _probes: traced.then(Probes::register).transpose()?,
            load: self,
        };
        // With a small buffer, so that it is read quickly.
        match self {
            Self::Trace => user::sh(
                c"cd /sys/kernel/tracing && echo 64 >buffer_size_kb && \
                  echo 1 >events/rcu_ptr/enable && echo >trace",
            )?,
            Self::RareTrace => user::sh(
                c"cd /sys/kernel/tracing && echo 64 >buffer_size_kb && for e in batch_start batch_end \
                  refill shrink sheaf_wait sheaf_refill sheaf_drain sheaf_shrink; do \
                  echo 1 >events/rcu_ptr/rcu_ptr_$e/enable || exit; done && echo >trace",
            )?,
            _ => (),
        }
        Ok(prepared)
    }

    /// Whether caches come and go in it.
    pub(crate) fn has_caches(self) -> bool {
        matches!(self, Self::Caches | Self::LargeSheaves | Self::CachesFail)
    }

    /// How often it is worth a try: what it does comes differently each time.
    pub(crate) fn tries(self) -> u32 {
        match self {
            Self::Hotplug | Self::Command => 1,
            Self::CachesFail => 8,
            Self::Files | Self::Shrink | Self::Refill | Self::Heavy | Self::Trace => 2,
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
                free(pool, Source::Kmalloc, 64, Route::Nolock, 2)?;
                // More than both batches take: blocks wait until their grace period is over.
                for _ in 0..4 {
                    free(pool, Source::Kmalloc, 32, Route::Kvfree, 520)?;
                    free(pool, Source::Vmalloc, 4096, Route::Kvfree, 2)?;
                    thread::sleep(3);
                }
                thread::sleep(20);
            }
            Self::List => {
                free(pool, Source::Kmalloc, 64, Route::Kvfree, 600)?;
                free(pool, Source::Kmalloc, 64, Route::Call, 20)?;
                free(pool, Source::Kmalloc, 64, Route::CallSleepable, 20)?;
                light_calls(pool)?;
            }
            Self::Contend => contend(pool, 40, true)?,
            Self::Barriers => barriers(pool)?,
            Self::Files => {
                files()?;
                shorter_interval(pool)?;
            }
            Self::Ready => {
                light_calls(pool)?;
                gp::synchronize();
                thread::sleep(60);
            }
            Self::Shrink => {
                free(pool, Source::Kmalloc, 64, Route::Kvfree, 600)?;
                thread::sleep(10);
                // Too few to hurry the monitor: it comes when their grace period is over.
                light_calls(pool)?;
                gp::synchronize();
                params::shrink()?;
                light_calls(pool)?;
                gp::synchronize();
            }
            Self::Refill => {
                params::shrink()?;
                free(pool, Source::Kmalloc, 32, Route::Kvfree, 1100)?;
                thread::sleep(150);
                free(pool, Source::Kmalloc, 32, Route::Kvfree, 1100)?;
            }
            Self::Trace => {
                params::shrink()?;
                light_calls(pool)?;
                free(pool, Source::Kmalloc, 64, Route::Kvfree, 20)?;
                contend(pool, 2, false)?;
                core::barrier();
                user::sh(
                    c"cd /sys/kernel/tracing; cat trace >/dev/null; echo >trace; echo 1 >set_event_pid",
                )?;
                // The same for a trace that only wants another task's events.
                let unseen = params::shrink()
                    .and_then(|()| light_calls(pool))
                    .and_then(|()| contend(pool, 1, false));
                core::barrier();
                user::sh(c"echo >/sys/kernel/tracing/set_event_pid")?;
                unseen?;
            }
            Self::RareTrace => {
                params::shrink()?;
                free(pool, Source::Kmalloc, 32, Route::Kvfree, 1100)?;
                thread::sleep(20);
                params::shrink()?;
                core::barrier();
                user::sh(c"cd /sys/kernel/tracing; cat trace >/dev/null; echo >trace")?;
            }
            Self::Misuse => {
                core_test::misuse();
                cache_load::misuse()?;
            }
            Self::Hotplug => {
                if let Some(cpu) = cpu::other() {
                    let few = || free(pool, Source::Kmalloc, 64, Route::Nolock, 4);
                    let busy = |_: i32| {
                        let _ = free(pool, Source::Kmalloc, 64, Route::Kvfree, 600)
                            .and_then(|()| few());
                    };
                    thread::on_cpus(::core::iter::once(cpu), &busy, || ())?;
                    cache_load::on_the_way_down(Moment::Ended, &few, || {
                        // It stays up.
                        let _ = cpu::take_down(cpu);
                        Ok(())
                    })?;
                    let gone = cache_load::on_the_way_down(Moment::Dying, &few, || {
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
            Self::Caches => cache_load::come_and_go()?,
            Self::LargeSheaves => cache_load::large()?,
            Self::CachesFail => {
                static TURN: Atomic<u64> = Atomic::new(0);
                cache_load::fail(TURN.fetch_add(1, Relaxed));
            }
            Self::Heavy => {
                light_calls(pool)?;
                full(pool)?;
                params::shrink()?;
                files()?;
                return Self::Hotplug.run(pool);
            }
            Self::Command => {
                let command = CString::try_from_fmt(fmt!("{}", text::sweep_cmd()))?;
                return user::sh(&command);
            }
        }
        core::barrier();
        Ok(())
    }
}

/// Of a call's first objects, so many are of the pool, if there are any left: every other one.
const TRACKED: usize = 16;

/// An object, and where its field is. Of the first ones every other is the pool's.
fn object(pool: &Pool, source: Source, size: usize, i: usize) -> Result<(NonNull<u8>, usize)> {
    let is_tracked = i % 2 == 0 && i < 2 * TRACKED && source != Source::Vmalloc;
    if let Some(object) = is_tracked.then(|| pool.take()).flatten() {
        return Ok((object.start, object.at));
    }
    let object = alloc::alloc_patiently(source, size).ok_or(ENOMEM)?;
    Ok((object, 8))
}

fn free(pool: &Pool, source: Source, size: usize, route: Route, n: usize) -> Result {
    for i in 0..n {
        let (object, at) = object(pool, source, size, i)?;
        // SAFETY: Just allocated, or handed out, with a field there.
        unsafe { route.free(object, at) };
    }
    Ok(())
}

fn free_one_irqs_off() {
    if let Some(object) = alloc::alloc(Source::KmallocNolock, 64) {
        // SAFETY: Just allocated.
        unsafe { Route::Kvfree.free(object, 0) };
    }
}

fn try_free(pool: &Pool, n: usize) {
    for i in 0..n {
        let Ok((object, _)) = object(pool, Source::Kmalloc, 32, i) else {
            return;
        };
        // SAFETY: Just allocated, or handed out.
        if !unsafe { core::try_kfree_nolock(object) } {
            // SAFETY: Refused, so it is still the caller's.
            unsafe { alloc::kvfree(object) };
        }
    }
}

fn light_calls(pool: &Pool) -> Result {
    free(pool, Source::Kmalloc, 64, Route::Kvfree, 3)?;
    free(pool, Source::KmallocNolock, 64, Route::Nolock, 2)?;
    free(pool, Source::Vmalloc, 4096, Route::Kvfree, 1)?;
    free(pool, Source::Vmalloc, 4096, Route::Nolock, 1)?;
    free(pool, Source::Kmalloc, 64, Route::Mightsleep, 1)?;
    free(pool, Source::Vmalloc, 4096, Route::Mightsleep, 1)?;
    free(pool, Source::Kmalloc, 64, Route::Call, 2)?;
    free(pool, Source::Vmalloc, 4096, Route::CallSleepable, 1)?;
    try_free(pool, 2);
    cpu::irqs_off(free_one_irqs_off);
    core_test::free_null();
    for cpu in cpu::online() {
        core_test::words(cpu).for_each(drop);
    }
    Ok(())
}

fn full(pool: &Pool) -> Result {
    // More than all cached blocks take.
    free(pool, Source::Kmalloc, 32, Route::Kvfree, 4000)?;
    free(pool, Source::Kmalloc, 32, Route::Nolock, 600)?;
    try_free(pool, 600);
    free(pool, Source::Kmalloc, 32, Route::Mightsleep, 600)?;
    free(pool, Source::Kmalloc, 32, Route::Call, 600)?;
    free(pool, Source::Kmalloc, 32, Route::CallSleepable, 20)?;
    thread::sleep(12);
    Ok(())
}

/// Calls that find the lock held by another CPU, which looks at this one's words all the time.
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
        bound::watchdog(|| alone || holders.load(Relaxed) > 0);
        for _ in 0..rounds {
            let _ = free(pool, Source::Kmalloc, 32, Route::Nolock, 20)
                .and_then(|()| free(pool, Source::Kmalloc, 32, Route::Kvfree, 5))
                .and_then(|()| free(pool, Source::Kmalloc, 32, Route::Call, 5));
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

/// Barriers that meet each other, blocks that are being filled, and batches of several grace periods.
fn barriers(pool: &Pool) -> Result {
    let body = |_: i32| {
        for _ in 0..3 {
            let _ = free(pool, Source::Kmalloc, 32, Route::Kvfree, 1100)
                .and_then(|()| free(pool, Source::Kmalloc, 32, Route::Call, 20))
                .and_then(|()| free(pool, Source::Vmalloc, 4096, Route::Kvfree, 2));
            core::barrier();
            // Each has a grace period of its own to wait for.
            for _ in 0..6 {
                let _ = free(pool, Source::Kmalloc, 32, Route::Kvfree, 520);
                gp::synchronize_expedited();
            }
            core::barrier();
        }
    };
    thread::on_cpus(cpu::online(), &body, || ())
}

/// More calls than an irq_work takes on in one go, with interrupts off.
fn defer_many(pool: &Pool) -> Result {
    let mut objects = KVVec::with_capacity(1000, GFP_KERNEL)?;
    for i in 0..1000 {
        objects.push(object(pool, Source::Kmalloc, 32, i)?, GFP_KERNEL)?;
    }
    cpu::irqs_off(|| {
        for (object, at) in objects {
            // SAFETY: Just allocated, or handed out, with a field there.
            unsafe { Route::Nolock.free(object, at) };
        }
    });
    Ok(())
}

/// With commands of the shell only: no process is started.
fn files() -> Result {
    user::sh(
        c"cd /sys/module/rcu_ptr/parameters; i=0; while [ $i -lt 4 ]; do i=$((i + 1)); \
          for f in /sys/kernel/debug/rcu_ptr/* *; do read -r x <$f; done; \
          for f in rcu_* drain_*; do read -r x <$f; echo $x >$f; echo x >$f; echo 4000000 >$f; \
          echo 18446744073709551616 >$f; echo >$f; done; done 2>/dev/null; true",
    )
}

/// Monitors that sleep for long are told of a shorter interval.
fn shorter_interval(pool: &Pool) -> Result {
    let long = params::no_drain()?;
    let few = |_: i32| {
        let _ = free(pool, Source::Kmalloc, 64, Route::Kvfree, 2);
    };
    thread::on_cpus(cpu::online(), &few, || ())?;
    thread::sleep(10);
    let quick = params::quick_drain()?;
    thread::sleep(50);
    drop((long, quick));
    Ok(())
}

/// Every call when no page for a block is available, or no second one.
fn no_blocks(pool: &Pool) -> Result {
    for nth in 1..3 {
        params::shrink()?;
        fault::fail_blocks(nth, u64::MAX);
        let freed = free(pool, Source::Kmalloc, 64, Route::Mightsleep, 2)
            .and_then(|()| free(pool, Source::Vmalloc, 4096, Route::Mightsleep, 1))
            .and_then(|()| free(pool, Source::Kmalloc, 32, Route::Kvfree, 600))
            .and_then(|()| free(pool, Source::Kmalloc, 32, Route::Nolock, 600))
            .and_then(|()| free(pool, Source::Kmalloc, 32, Route::Call, 20));
        cpu::irqs_off(free_one_irqs_off);
        try_free(pool, 20);
        thread::sleep(5);
        fault::fail_blocks(0, 0);
        freed?;
        core::barrier();
    }
    Ok(())
}
