// SPDX-License-Identifier: GPL-2.0

//! The core's parameters, changed for a test and restored afterwards.

use crate::{
    free_fn::FreeFn,
    sys::{
        alloc::{self, Source},
        core, cpu, thread, user,
    },
};
use kernel::prelude::*;

fn set(name: &str, value: u32) -> Result {
    user::sh_fmt(fmt!("echo {value} >/sys/module/rcu_ptr/parameters/{name}"))
}

/// Whether the core was loaded with engine `lockless`.
///
/// # Context
///
/// May sleep.
pub(crate) fn is_lockless() -> bool {
    user::sh(c"grep -q lockless /sys/module/rcu_ptr/parameters/engine").is_ok()
}

/// Restores the default parameters when it is dropped.
pub(crate) struct RestoreDefaults(());

impl Drop for RestoreDefaults {
    fn drop(&mut self) {
        let all = set("rcu_min_cached_objs", 5)
            .and(set("rcu_delay_page_cache_fill_msec", 5000))
            .and(set("drain_interval_msec", 5000));
        if all.is_err() {
            pr_err!("the parameters can't be set back\n");
        }
    }
}

/// Sets a parameter until the result is dropped.
fn change(name: &str, value: u32) -> Result<RestoreDefaults> {
    let restore = RestoreDefaults(());
    set(name, value)?;
    Ok(restore)
}

/// Sets the limit of cached blocks to 0.
pub(crate) fn no_cached_blocks() -> Result<RestoreDefaults> {
    change("rcu_min_cached_objs", 0)
}

/// Sets the limit of cached blocks to 0 and uses up the open blocks: objects are linked from here
/// on.
pub(crate) fn no_blocks() -> Result<RestoreDefaults> {
    let restore = no_cached_blocks()?;
    // Frees the cached blocks. An object in each current block has it freed with the barrier.
    shrink()?;
    let one_object = |_cpu: i32| {
        if let Some(object) = alloc::alloc(Source::Kmalloc, 64) {
            // SAFETY: Just allocated.
            unsafe { FreeFn::Kvfree.free(object, 0) };
        }
    };
    thread::on_cpus(cpu::online(), &one_object, || ())?;
    core::barrier();
    Ok(restore)
}

/// Sets the default limit of cached blocks.
pub(crate) fn some_blocks() -> Result {
    set("rcu_min_cached_objs", 5)
}

fn drain_after(msecs: u32) -> Result<RestoreDefaults> {
    change("drain_interval_msec", msecs)
}

/// The interval of [`quick_drain()`], in milliseconds.
pub(crate) const QUICK_DRAIN_MSECS: u32 = 40;

/// A drain interval of 40 ms.
pub(crate) fn quick_drain() -> Result<RestoreDefaults> {
    drain_after(QUICK_DRAIN_MSECS)
}

/// A drain interval of a few seconds, which is long compared with delays of a busy machine. Returns
/// it in milliseconds.
pub(crate) fn slow_drain() -> Result<(RestoreDefaults, u32)> {
    Ok((drain_after(2000)?, 2000))
}

/// The interval of [`medium_drain()`], in milliseconds.
pub(crate) const MEDIUM_DRAIN_MSECS: u32 = 400;

/// A drain interval of 400 ms: far longer than a grace period.
pub(crate) fn medium_drain() -> Result<RestoreDefaults> {
    drain_after(MEDIUM_DRAIN_MSECS)
}

/// A drain interval of 960 ms.
pub(crate) fn second_drain() -> Result<RestoreDefaults> {
    drain_after(960)
}

/// A drain interval of ten minutes: longer than any test.
pub(crate) fn no_drain() -> Result<RestoreDefaults> {
    drain_after(600_000)
}

/// A drain interval of one jiffy.
pub(crate) fn quickest_drain() -> Result<RestoreDefaults> {
    drain_after(4)
}

/// The default pause of refills after memory pressure, in milliseconds.
pub(crate) const PAUSE_MSECS: u32 = 5000;

/// A pause of refills of 100 ms after memory pressure.
pub(crate) fn short_pause() -> Result<RestoreDefaults> {
    change("rcu_delay_page_cache_fill_msec", 100)
}

/// Calls the core's shrinkers as memory reclaim does; without CONFIG_SHRINKER_DEBUG, all shrinkers.
pub(crate) fn shrink() -> Result {
    if !cfg!(CONFIG_SHRINKER_DEBUG) {
        return user::sh(c"echo 2 >/proc/sys/vm/drop_caches");
    }
    user::sh(
        c"for s in /sys/kernel/debug/shrinker/rcu_ptr-*; do \
        cat $s/count >/dev/null && echo 0 0 1000000 >$s/scan || exit 1; done",
    )
}
