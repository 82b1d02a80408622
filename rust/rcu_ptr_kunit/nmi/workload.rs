// SPDX-License-Identifier: GPL-2.0

//! What goes on while NMIs come at every instruction: each way through the engine by itself, so
//! that it is taken often.

use crate::{
    params::{self, Defaults},
    route::Route,
    sys::{
        core, cpu,
        mem::{self, Hog, Source},
        probes::Probes,
        text, thread, user,
    },
};
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
    /// Statistics and parameters, read and written.
    Files,
    /// Objects whose grace period is over before anybody looks, and the shrinker.
    Shrink,
    /// Refills after the shrinker.
    Refill,
    /// The events of every tracepoint, and their output.
    Trace,
    /// What is plainly wrong, after the warning for it was given.
    Misuse,
    /// A CPU goes down and comes up.
    Hotplug,
    /// All memory is taken.
    Starved,
    /// The most important of these, one after another.
    Heavy,
    /// The command of parameter `sweep_cmd`.
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
        if self.load == Load::Trace && events(c"0").is_err() {
            pr_err!("the tracepoints can't be turned off\n");
        }
    }
}

fn events(on: &CStr) -> Result {
    let on = on.to_str().map_err(|_| EINVAL)?;
    let command = CString::try_from_fmt(fmt!(
        "echo {} >/sys/kernel/tracing/events/rcu_ptr/enable && echo >/sys/kernel/tracing/trace",
        on
    ))?;
    user::sh(&command)
}

impl Load {
    /// Sets things up.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn prepare(self) -> Result<Prepared> {
        let defaults = match self {
            Self::Monitor => Some(params::quickest_drain()?),
            Self::List | Self::Starved => Some(params::no_blocks()?),
            Self::Refill | Self::Trace => Some(params::short_pause()?),
            _ => None,
        };
        let traced = !matches!(self, Self::Light | Self::Full | Self::List);
        let prepared = Prepared {
            _defaults: defaults,
            _probes: traced.then(Probes::register).transpose()?,
            load: self,
        };
        if self == Self::Trace {
            events(c"1")?;
        }
        Ok(prepared)
    }

    /// For the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Traced => "light, traced",
            Self::Full => "full blocks",
            Self::Monitor => "monitor",
            Self::List => "list",
            Self::Contend => "contended",
            Self::Files => "files",
            Self::Shrink => "shrinker",
            Self::Refill => "refills",
            Self::Trace => "tracepoints",
            Self::Misuse => "misuse",
            Self::Hotplug => "hotplug",
            Self::Starved => "no memory",
            Self::Heavy => "heavy",
            Self::Command => "command",
        }
    }

    /// How often it is worth a try: what it does comes differently each time.
    pub(crate) fn tries(self) -> u32 {
        match self {
            Self::Hotplug | Self::Starved | Self::Command => 1,
            Self::Files | Self::Shrink | Self::Refill | Self::Heavy | Self::Trace => 2,
            _ => 4,
        }
    }

    /// Runs it once.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn run(self) -> Result {
        match self {
            Self::Light | Self::Traced => light()?,
            Self::Full => full()?,
            Self::Monitor => {
                light_calls()?;
                thread::sleep(10);
                free(Source::Kmalloc, 64, Route::Nolock, 2)?;
                thread::sleep(10);
            }
            Self::List => {
                free(Source::Kmalloc, 64, Route::Kvfree, 600)?;
                light_calls()?;
            }
            Self::Contend => contend(40)?,
            Self::Files => return files(),
            Self::Shrink => {
                free(Source::Kmalloc, 64, Route::Kvfree, 600)?;
                light_calls()?;
                thread::synchronize();
                params::shrink()?;
            }
            Self::Refill => {
                params::shrink()?;
                free(Source::Kmalloc, 32, Route::Kvfree, 1100)?;
                thread::sleep(150);
                free(Source::Kmalloc, 32, Route::Kvfree, 1100)?;
            }
            Self::Trace => {
                params::shrink()?;
                light_calls()?;
                free(Source::Kmalloc, 64, Route::Kvfree, 20)?;
                contend(4)?;
                core::barrier();
                user::sh(
                    c"cat /sys/kernel/tracing/trace >/dev/null; echo >/sys/kernel/tracing/trace",
                )?;
            }
            Self::Misuse => core::misuse(),
            Self::Hotplug => {
                if let Some(cpu) = cpu::online().filter(|&c| c != 0).last() {
                    let busy = |_: i32| {
                        let _ = free(Source::Kmalloc, 64, Route::Kvfree, 600)
                            .and_then(|()| free(Source::Kmalloc, 64, Route::Nolock, 4));
                    };
                    thread::on_cpus(::core::iter::once(cpu), &busy, || ())?;
                    cpu::take_down(cpu)?;
                    cpu::bring_up(cpu)?;
                }
            }
            Self::Starved => starved()?,
            Self::Heavy => {
                light_calls()?;
                full()?;
                params::shrink()?;
                files()?;
                return Self::Hotplug.run();
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

fn free(source: Source, size: usize, route: Route, n: usize) -> Result {
    for _ in 0..n {
        let object = mem::alloc_patiently(source, size).ok_or(ENOMEM)?;
        // SAFETY: Just allocated.
        unsafe { route.free(object, 8) };
    }
    Ok(())
}

fn free_one_irqs_off() {
    if let Some(object) = mem::alloc(Source::KmallocNolock, 64) {
        // SAFETY: Just allocated.
        unsafe { Route::Kvfree.free(object, 0) };
    }
}

fn try_free(n: usize) {
    for object in (0..n).map_while(|_| mem::alloc(Source::Kmalloc, 32)) {
        // SAFETY: Just allocated.
        if !unsafe { core::try_kfree_nolock(object) } {
            // SAFETY: Refused, so it is still the caller's.
            unsafe { mem::kvfree(object) };
        }
    }
}

fn light_calls() -> Result {
    free(Source::Kmalloc, 64, Route::Kvfree, 3)?;
    free(Source::KmallocNolock, 64, Route::Nolock, 2)?;
    free(Source::Vmalloc, 4096, Route::Kvfree, 1)?;
    free(Source::Vmalloc, 4096, Route::Nolock, 1)?;
    free(Source::Kmalloc, 64, Route::Mightsleep, 1)?;
    free(Source::Vmalloc, 4096, Route::Mightsleep, 1)?;
    try_free(2);
    cpu::irqs_off(free_one_irqs_off);
    core::free_null();
    for cpu in cpu::online() {
        core::words(cpu).for_each(drop);
    }
    Ok(())
}

fn light() -> Result {
    light_calls()?;
    core::barrier();
    Ok(())
}

fn full() -> Result {
    free(Source::Kmalloc, 32, Route::Kvfree, 1100)?;
    free(Source::Kmalloc, 32, Route::Nolock, 600)?;
    try_free(600);
    free(Source::Kmalloc, 32, Route::Mightsleep, 600)?;
    thread::sleep(12);
    Ok(())
}

/// Calls that find the lock held by another CPU, which looks at this one's words all the time.
fn contend(rounds: usize) -> Result {
    let here = cpu::this();
    let stop = Atomic::<i32>::new(0);
    let holders = Atomic::<i32>::new(0);
    let hold = |_: i32| {
        holders.add(1, Relaxed);
        while stop.load(Relaxed) == 0 {
            for _ in 0..1000 {
                core::words(here).for_each(drop);
            }
            thread::cond_resched();
        }
    };
    let alone = cpu::online().count() < 2;
    let body = |_: i32| {
        thread::wait_for(1000, || alone || holders.load(Relaxed) > 0);
        for _ in 0..rounds {
            let _ = free(Source::Kmalloc, 32, Route::Nolock, 20)
                .and_then(|()| free(Source::Kmalloc, 32, Route::Kvfree, 5));
            try_free(20);
        }
        stop.store(1, Relaxed);
    };
    let either = |cpu: i32| if cpu == here { body(cpu) } else { hold(cpu) };
    thread::on_cpus(cpu::online(), &either, || ())
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

/// Takes all memory, then frees objects without a field.
fn starved() -> Result {
    let objects: [_; 8] = ::core::array::from_fn(|_| mem::alloc(Source::Kmalloc, 64));
    // From here on an allocation that insists would be the end of the machine.
    let hog = Hog::new(usize::MAX);
    for object in objects.into_iter().flatten() {
        // SAFETY: Just allocated.
        unsafe { Route::Mightsleep.free(object, 0) };
    }
    let _ = free(Source::KmallocNolock, 32, Route::Nolock, 600)
        .and_then(|()| free(Source::KmallocNolock, 32, Route::Kvfree, 600));
    drop(hog);
    Ok(())
}
