// SPDX-License-Identifier: GPL-2.0

//! What goes on while NMIs come at every instruction: each way through the engine, in a few
//! milliseconds or with all that takes longer.

use crate::{
    params,
    route::Route,
    sys::{
        core, cpu,
        mem::{self, Source},
        text, thread, user,
    },
};
use kernel::{prelude::*, str::CString};

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// Queue in every way, barrier, reclaim.
    Light,
    /// And full blocks, the monitor, the shrinker, parameters, statistics, a CPU down and up.
    Heavy,
    /// The command of parameter `sweep_cmd`.
    Command,
}

fn free(source: Source, size: usize, route: Route, n: usize) -> Result {
    for _ in 0..n {
        let object = mem::alloc_patiently(source, size).ok_or(ENOMEM)?;
        // SAFETY: Just allocated.
        unsafe { route.free(object, 8) };
    }
    Ok(())
}

/// Runs it once.
///
/// # Context
///
/// May sleep.
pub(crate) fn run(load: Load) -> Result {
    if load == Load::Command {
        let command = CString::try_from_fmt(fmt!("{}", text::sweep_cmd()))?;
        return user::sh(&command);
    }
    free(Source::Kmalloc, 64, Route::Kvfree, 3)?;
    free(Source::KmallocNolock, 64, Route::Nolock, 2)?;
    free(Source::Vmalloc, 4096, Route::Kvfree, 1)?;
    free(Source::Kmalloc, 64, Route::Mightsleep, 1)?;
    cpu::irqs_off(free_one_irqs_off);
    if load == Load::Heavy {
        free(Source::Kmalloc, 32, Route::Kvfree, 1100)?;
        free(Source::Kmalloc, 32, Route::Nolock, 600)?;
        thread::sleep(12);
        params::shrink()?;
        free(Source::Kmalloc, 64, Route::Mightsleep, 2)?;
        user::sh(
            c"cat /sys/kernel/debug/rcu_ptr/stats /sys/module/rcu_ptr/parameters/* >/dev/null; \
              echo 5 >/sys/module/rcu_ptr/parameters/rcu_min_cached_objs; \
              echo x >/sys/module/rcu_ptr/parameters/rcu_min_cached_objs; true",
        )?;
        if let Some(cpu) = cpu::online().filter(|&c| c != 0).last() {
            cpu::take_down(cpu)?;
            cpu::bring_up(cpu)?;
        }
    }
    core::barrier();
    Ok(())
}

fn free_one_irqs_off() {
    if let Some(object) = mem::alloc(Source::KmallocNolock, 64) {
        // SAFETY: Just allocated.
        unsafe { Route::Kvfree.free(object, 0) };
    }
}
