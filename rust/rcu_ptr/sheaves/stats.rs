// SPDX-License-Identifier: GPL-2.0

//! /sys/kernel/debug/rcu_ptr/caches: a line per cache.

use super::{cache::Cache, geometry::SLOTS, Sheaves};
use kernel::{debugfs, fmt, prelude::*, sync::atomic::Relaxed};

/// The file; it goes when the value is dropped.
#[pin_data]
pub(crate) struct CachesFile {
    #[pin]
    file: debugfs::File<()>,
}

impl CachesFile {
    /// Makes the file in `dir`.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn new<'a>(dir: &'a debugfs::Dir) -> impl PinInit<Self> + 'a {
        pin_init!(Self {
            file <- dir.read_callback_file(c"caches", (), &show),
        })
    }
}

pub(crate) use crate::sys::slab::CacheStats as Counts;

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
        ..Counts::default()
    };
    for pcs in cache.pcs.iter() {
        n.filled += pcs.filled.load(Relaxed);
        n.emptied += pcs.emptied.load(Relaxed);
        n.missed += pcs.missed.load(Relaxed);
        n.nolock_allocs += pcs.nolock_allocs.load(Relaxed);
        n.engine_fallback += pcs.engine_fallback.load(Relaxed);
        // Done first: what waits then is not below zero. Callbacks may run on another CPU than
        // the one that waited.
        n.now_waiting = n.now_waiting.wrapping_sub(pcs.done.load(Relaxed));
        n.callback_max = n.callback_max.max(pcs.callback_max.load(Relaxed));
        let held = pcs.held();
        n.now_alloc += held.alloc.unwrap_or(0) as u64;
        // The first object of a sheaf is in its first slot that may be used.
        n.now_rcu += held.rcu.map_or(0, |next| next + cache.capacity - SLOTS) as u64;
        n.now_spare_full += held.spare_full as u64;
        n.now_spare_empty += held.spare_empty as u64;
        n.now_spent += held.spent as u64;
        n.now_closed += held.closed as u64;
        n.now_reuse += held.reuse as u64;
    }
    for pcs in cache.pcs.iter() {
        n.now_waiting = n.now_waiting.wrapping_add(pcs.waited.load(Relaxed));
    }
    for barn in &cache.barns {
        barn.with(|stock| {
            n.now_full += stock.nr_full() as u64;
            n.now_empty += stock.nr_empty() as u64;
        });
        n.reserve += barn.with_reserve(|ring| ring.len()) as u64;
    }
    n
}

/// A line per cache, with the names that the slab's own counters have where there are such: `free_rcu_sheaf`
/// sheaves that were filled, `alloc_sheaf` emptied, `free_rcu_sheaf_fail` objects that went to the
/// engine, `alloc_miss` allocations that found no sheaf, `nolock_allocs` of these served by
/// kmalloc_nolock().
fn show(_: &(), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for cache in Sheaves::get().caches.lock().iter() {
        let n = counts(cache);
        writeln!(
            f,
            "cache={} size={} capacity={} reuse={} free_rcu_sheaf={} free_rcu_sheaf_fail={} alloc_sheaf={} \
             alloc_miss={} nolock_allocs={} slab_allocs={} slab_frees={} reserve={} freed_twice={} destructed={} callback_max={} \
             now_sheaves={} now_waiting={} now_alloc={} now_rcu={} now_spare_full={} \
             now_spare_empty={} now_spent={} now_closed={} now_reuse={} now_full={} now_empty={}",
            cache.name.to_str().unwrap_or("?"),
            cache.size,
            cache.capacity,
            cache.reuse(),
            n.filled,
            n.engine_fallback,
            n.emptied,
            n.missed,
            n.nolock_allocs,
            n.slab_allocs,
            n.slab_frees,
            n.reserve,
            n.freed_twice,
            n.destructed,
            n.callback_max,
            n.now_sheaves,
            n.now_waiting,
            n.now_alloc,
            n.now_rcu,
            n.now_spare_full,
            n.now_spare_empty,
            n.now_spent,
            n.now_closed,
            n.now_reuse,
            n.now_full,
            n.now_empty
        )?;
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
        cache.delays.show(f)?;
    }
    Ok(())
}
