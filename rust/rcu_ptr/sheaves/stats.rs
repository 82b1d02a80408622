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

/// What a cache did since it was made (`struct rcu_ptr_cache_stats`).
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) filled: u64,
    pub(crate) emptied: u64,
    pub(crate) missed: u64,
    pub(crate) nolock_allocs: u64,
    pub(crate) engine_fallback: u64,
    pub(crate) slab_allocs: u64,
    pub(crate) slab_frees: u64,
    pub(crate) now_full: usize,
    pub(crate) now_empty: usize,
    pub(crate) now_sheaves: u64,
    pub(crate) now_waiting: u64,
    pub(crate) now_alloc: usize,
    pub(crate) now_rcu: usize,
    pub(crate) now_spare_full: usize,
    pub(crate) now_spare_empty: usize,
    pub(crate) now_spent: usize,
    pub(crate) now_closed: usize,
    pub(crate) now_reuse: usize,
    pub(crate) callback_max: u64,
    pub(crate) freed_twice: u64,
    pub(crate) reserve: usize,
}

impl Counts {
    /// Adds up what CPUs and barns have.
    ///
    /// # Context
    ///
    /// Any but NMI.
    pub(crate) fn of(cache: &Cache) -> Self {
        let mut n = Self {
            slab_allocs: cache.slab_allocs.load(Relaxed),
            slab_frees: cache.slab_frees.load(Relaxed),
            now_sheaves: cache.sheaves.load(Relaxed),
            freed_twice: cache.freed_twice.load(Relaxed),
            ..Self::default()
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
            n.now_alloc += held.alloc.unwrap_or(0);
            // The first object of a sheaf is in its first slot that may be used.
            n.now_rcu += held.rcu.map_or(0, |next| next + cache.capacity - SLOTS);
            n.now_spare_full += held.spare_full;
            n.now_spare_empty += held.spare_empty;
            n.now_spent += held.spent;
            n.now_closed += held.closed;
            n.now_reuse += held.reuse;
        }
        for pcs in cache.pcs.iter() {
            n.now_waiting = n.now_waiting.wrapping_add(pcs.waited.load(Relaxed));
        }
        for barn in &cache.barns {
            barn.with(|stock| {
                n.now_full += stock.nr_full();
                n.now_empty += stock.nr_empty();
            });
            n.reserve += barn.with_reserve(|ring| ring.len());
        }
        n
    }
}

/// [`Counts`], with the names that the slab's own counters have where there are such: `free_rcu_sheaf`
/// sheaves that were filled, `alloc_sheaf` emptied, `free_rcu_sheaf_fail` objects that went to the
/// engine, `alloc_miss` allocations that found no sheaf, `nolock_allocs` of these served by
/// kmalloc_nolock().
fn show(_: &(), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for cache in Sheaves::get().caches.lock().iter() {
        let n = Counts::of(cache);
        writeln!(
            f,
            "cache={} size={} capacity={} reuse={} free_rcu_sheaf={} free_rcu_sheaf_fail={} alloc_sheaf={} \
             alloc_miss={} nolock_allocs={} slab_allocs={} slab_frees={} reserve={} freed_twice={} callback_max={} \
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
