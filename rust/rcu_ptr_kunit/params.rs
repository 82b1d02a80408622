// SPDX-License-Identifier: GPL-2.0

//! The core's parameters, changed for a test.

use crate::{
    route::Route,
    sys::{
        alloc::{self, Source},
        core, cpu, thread, user,
    },
};
use kernel::{prelude::*, str::CString};

fn set(name: &str, value: u32) -> Result {
    let command =
        CString::try_from_fmt(fmt!("echo {value} >/sys/module/rcu_ptr/parameters/{name}"))?;
    user::sh(&command)
}

/// Whether the core was loaded with engine `lockless`.
///
/// # Context
///
/// May sleep.
pub(crate) fn is_lockless() -> bool {
    user::sh(c"grep -q lockless /sys/module/rcu_ptr/parameters/engine").is_ok()
}

/// Parameters as they are at load, set again on drop.
pub(crate) struct Defaults(());

impl Drop for Defaults {
    fn drop(&mut self) {
        let all = set("rcu_min_cached_objs", 5)
            .and(set("rcu_delay_page_cache_fill_msec", 5000))
            .and(set("drain_interval_msec", 5000));
        if all.is_err() {
            pr_err!("the parameters can't be set back\n");
        }
    }
}

/// No cached blocks, and nothing else is done.
pub(crate) fn no_cached_blocks() -> Result<Defaults> {
    let defaults = Defaults(());
    set("rcu_min_cached_objs", 0)?;
    Ok(defaults)
}

/// No cached blocks: objects go on the list.
pub(crate) fn no_blocks() -> Result<Defaults> {
    let defaults = no_cached_blocks()?;
    // Those that are cached go, and with an object in it the current one of each CPU.
    shrink()?;
    let one_object = |_cpu: i32| {
        if let Some(object) = alloc::alloc(Source::Kmalloc, 64) {
            // SAFETY: Just allocated.
            unsafe { Route::Kvfree.free(object, 0) };
        }
    };
    thread::on_cpus(cpu::online(), &one_object, || ())?;
    core::barrier();
    Ok(defaults)
}

/// Blocks are cached again.
pub(crate) fn some_blocks() -> Result {
    set("rcu_min_cached_objs", 5)
}

fn drain_after(msecs: u32) -> Result<Defaults> {
    let defaults = Defaults(());
    set("drain_interval_msec", msecs)?;
    Ok(defaults)
}

/// Milliseconds of [`quick_drain()`].
pub(crate) const QUICK_DRAIN_MSECS: u32 = 40;

/// Objects are drained 40 ms after the first came.
pub(crate) fn quick_drain() -> Result<Defaults> {
    drain_after(QUICK_DRAIN_MSECS)
}

/// Objects are drained some seconds after the first came, so many that a busy machine adds little.
/// Returns the milliseconds.
pub(crate) fn slow_drain() -> Result<(Defaults, u32)> {
    Ok((drain_after(2000)?, 2000))
}

/// Milliseconds of [`medium_drain()`].
pub(crate) const MEDIUM_DRAIN_MSECS: u32 = 400;

/// Objects are drained 400 ms after the first came: far longer than a grace period.
pub(crate) fn medium_drain() -> Result<Defaults> {
    drain_after(MEDIUM_DRAIN_MSECS)
}

/// Objects are drained after a little less than a second.
pub(crate) fn second_drain() -> Result<Defaults> {
    drain_after(960)
}

/// Objects wait for a whole test, unless something else makes them go.
pub(crate) fn no_drain() -> Result<Defaults> {
    drain_after(600_000)
}

/// Objects are drained a jiffy after the first came.
pub(crate) fn quickest_drain() -> Result<Defaults> {
    drain_after(4)
}

/// Milliseconds that refills pause for after memory pressure, if no test says otherwise.
pub(crate) const PAUSE_MSECS: u32 = 5000;

/// Refills pause for 100 ms after memory pressure, and draining takes its time.
pub(crate) fn short_pause() -> Result<Defaults> {
    let defaults = Defaults(());
    set("rcu_delay_page_cache_fill_msec", 100)?;
    Ok(defaults)
}

/// Calls the core's shrinkers as memory reclaim does; without CONFIG_SHRINKER_DEBUG all shrinkers.
pub(crate) fn shrink() -> Result {
    if !cfg!(CONFIG_SHRINKER_DEBUG) {
        return user::sh(c"echo 2 >/proc/sys/vm/drop_caches");
    }
    user::sh(
        c"for s in /sys/kernel/debug/shrinker/rcu_ptr-*; do \
        cat $s/count >/dev/null && echo 0 0 1000000 >$s/scan || exit 1; done",
    )
}
