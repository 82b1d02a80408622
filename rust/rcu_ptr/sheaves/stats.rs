// SPDX-License-Identifier: GPL-2.0

//! /sys/kernel/debug/rcu_ptr/caches: a line per cache, with counters and limits. Limits are written
//! in the same format.

use super::{cache::Cache, limits::Limits, pcs::PcsCounter, Sheaves};
use kernel::{debugfs, fmt, prelude::*, sync::atomic::Relaxed, uaccess::UserSliceReader};

/// The file, which is removed when this is dropped.
#[pin_data]
pub(crate) struct CachesFile {
    #[pin]
    file: debugfs::File<()>,
}

impl CachesFile {
    /// Creates the file in `dir`.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn new<'a>(dir: &'a debugfs::Dir) -> impl PinInit<Self> + 'a {
        pin_init!(Self {
            file <- dir.read_write_callback_file(c"caches", (), &show, &change),
        })
    }
}

pub(crate) use crate::sys::generated::rcu_ptr_cache_stats as Counts;

/// The counters and gauges of `cache`, summed over CPUs and barns.
///
/// # Context
///
/// Any but NMI.
pub(crate) fn counts(cache: &Cache) -> Counts {
    let mut n = Counts {
        slab_allocs: cache.slab_allocs.load(Relaxed),
        slab_frees: cache.slab_frees.load(Relaxed),
        now_sheaves: cache.sheaves.load(Relaxed),
        freed_twice: cache.freed_twice.load(Relaxed),
        destructed: cache.destructed.load(Relaxed),
        wait_limit_met: cache.limits.met.load(Relaxed),
        now_waiting_bytes: cache.waiting_bytes() as u64,
        ..Counts::default()
    };
    for pcs in cache.pcs.iter() {
        n.filled += pcs.counted(PcsCounter::Filled);
        n.emptied += pcs.counted(PcsCounter::Emptied);
        n.missed += pcs.counted(PcsCounter::Missed);
        n.nolock_allocs += pcs.counted(PcsCounter::NolockAlloc);
        n.engine_fallback += pcs.counted(PcsCounter::EngineFallback);
        // `Done` of all CPUs is read before `Waited` of any, so that the difference is not
        // negative: a callback may run on another CPU than the one that counted `Waited`. That is
        // counted before the grace period, and `Done` after it, so a reader that sees `Done` sees
        // `Waited`.
        n.now_waiting = n.now_waiting.wrapping_sub(pcs.counted(PcsCounter::Done));
        n.callback_max = n.callback_max.max(pcs.callback_max.load(Relaxed));
        let held = pcs.contents();
        n.now_alloc += held.alloc.unwrap_or(0) as u64;
        n.now_rcu += cache.objects_in(held.rcu) as u64;
        n.now_spare_full += held.spare_full as u64;
        n.now_spare_empty += held.spare_empty as u64;
        n.now_spent += held.spent as u64;
        n.now_closed += held.closed as u64;
        n.now_reuse += held.reuse as u64;
    }
    for pcs in cache.pcs.iter() {
        n.now_waiting = n.now_waiting.wrapping_add(pcs.counted(PcsCounter::Waited));
    }
    for barn in &cache.barns {
        barn.with_locked(|stock| {
            n.now_full += stock.nr_full() as u64;
            n.now_empty += stock.nr_empty() as u64;
        });
        n.reserve += barn.with_reserve(|ring| ring.len()) as u64;
    }
    n
}

/// A line per cache. Four fields of the statistics have other names here: `free_rcu_sheaf` is
/// `filled`, `alloc_sheaf` is `emptied`, `free_rcu_sheaf_fail` is `engine_fallback`, and
/// `alloc_miss` is `missed`.
fn show(_: &(), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for cache in Sheaves::get().caches.lock().iter() {
        let (n, limits) = (counts(cache), cache.limits.get());
        write!(
            f,
            "cache={} size={} capacity={} barn_limit={} wait_limit={} reuse={}",
            cache.name.to_str().unwrap_or("?"),
            cache.size,
            limits.capacity,
            limits.barn,
            limits.wait,
            cache.reuse(),
        )?;
        for (name, value) in [
            ("free_rcu_sheaf", n.filled),
            ("free_rcu_sheaf_fail", n.engine_fallback),
            ("alloc_sheaf", n.emptied),
            ("alloc_miss", n.missed),
            ("nolock_allocs", n.nolock_allocs),
            ("slab_allocs", n.slab_allocs),
            ("slab_frees", n.slab_frees),
            ("reserve", n.reserve),
            ("freed_twice", n.freed_twice),
            ("destructed", n.destructed),
            ("wait_limit_met", n.wait_limit_met),
            ("now_waiting_bytes", n.now_waiting_bytes),
            ("callback_max", n.callback_max),
            ("now_sheaves", n.now_sheaves),
            ("now_waiting", n.now_waiting),
            ("now_alloc", n.now_alloc),
            ("now_rcu", n.now_rcu),
            ("now_spare_full", n.now_spare_full),
            ("now_spare_empty", n.now_spare_empty),
            ("now_spent", n.now_spent),
            ("now_closed", n.now_closed),
            ("now_reuse", n.now_reuse),
            ("now_full", n.now_full),
            ("now_empty", n.now_empty),
        ] {
            write!(f, " {name}={value}")?;
        }
        writeln!(f)?;
    }
    Ok(())
}

/// A line per cache for the file of delays.
///
/// # Context
///
/// May sleep.
pub(crate) fn show_delays(f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for cache in Sheaves::get().caches.lock().iter() {
        write!(f, "cache={}", cache.name.to_str().unwrap_or("?"))?;
        cache.delays.show_buckets(f)?;
    }
    Ok(())
}

/// Maximum length of a written line.
const LINE: usize = 256;

/// Changes limits of the caches with a name: `cache=NAME LIMIT=VALUE...`, with the names that are
/// read. Other limits do not change; 0 is the default.
fn change(_: &(), reader: &mut UserSliceReader) -> Result {
    let mut text = [0; LINE];
    let text = text.get_mut(..reader.len()).ok_or(EINVAL)?;
    reader.read_slice(text)?;
    let text = core::str::from_utf8(text).map_err(|_| EINVAL)?;
    let mut words = text.split_ascii_whitespace();
    let name = words
        .next()
        .and_then(|word| word.strip_prefix("cache="))
        .ok_or(EINVAL)?;
    let mut found = false;
    for cache in Sheaves::get().each(|_| true) {
        if cache.name.to_str() == Ok(name) {
            cache.set_limits(parse(words.clone(), cache.limits.requested())?)?;
            found = true;
        }
    }
    if found {
        Ok(())
    } else {
        Err(ENOENT)
    }
}

/// `limits`, changed as `words` say.
fn parse<'a>(words: impl Iterator<Item = &'a str>, mut limits: Limits) -> Result<Limits> {
    for word in words {
        let (name, value) = word.split_once('=').ok_or(EINVAL)?;
        let value = value.parse().map_err(|_| EINVAL)?;
        match name {
            "capacity" => limits.capacity = value,
            "barn_limit" => limits.barn = value,
            "wait_limit" => limits.wait = value,
            _ => return Err(EINVAL),
        }
    }
    Ok(limits)
}
