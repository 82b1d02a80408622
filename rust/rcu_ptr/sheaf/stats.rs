// SPDX-License-Identifier: GPL-2.0

//! /sys/kernel/debug/rcu_ptr/caches: a line per cache.

use super::{cache::Cache, Sheaves};
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
    pub(crate) foreign: u64,
    pub(crate) fell_back: u64,
    pub(crate) obtained: u64,
    pub(crate) returned: u64,
    pub(crate) now_full: usize,
    pub(crate) now_empty: usize,
}

impl Counts {
    /// Adds up what CPUs and barns have.
    ///
    /// # Context
    ///
    /// Any but NMI.
    pub(crate) fn of(cache: &Cache) -> Self {
        let mut n = Self {
            obtained: cache.obtained.load(Relaxed),
            returned: cache.returned.load(Relaxed),
            ..Self::default()
        };
        for pcs in cache.pcs.iter() {
            n.filled += pcs.filled.load(Relaxed);
            n.emptied += pcs.emptied.load(Relaxed);
            n.missed += pcs.missed.load(Relaxed);
            n.foreign += pcs.foreign.load(Relaxed);
            n.fell_back += pcs.fell_back.load(Relaxed);
        }
        for barn in &cache.barns {
            barn.with(|stock| {
                n.now_full += stock.nr_full();
                n.now_empty += stock.nr_empty();
            });
        }
        n
    }
}

/// [`Counts`], with the names that the slab's own counters have where there are such: `free_rcu_sheaf`
/// sheaves that were filled, `alloc_sheaf` emptied, `free_rcu_sheaf_fail` objects that went to the
/// engine, `alloc_miss` allocations that found no sheaf, `alloc_foreign` of these served by
/// kmalloc_nolock().
fn show(_: &(), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for cache in Sheaves::get().caches.lock().iter() {
        let n = Counts::of(cache);
        writeln!(
            f,
            "cache={} size={} capacity={} free_rcu_sheaf={} free_rcu_sheaf_fail={} alloc_sheaf={} \
             alloc_miss={} alloc_foreign={} obtained={} returned={} now_full={} now_empty={}",
            cache.name.to_str().unwrap_or("?"),
            cache.size,
            cache.capacity,
            n.filled,
            n.fell_back,
            n.emptied,
            n.missed,
            n.foreign,
            n.obtained,
            n.returned,
            n.now_full,
            n.now_empty
        )?;
    }
    Ok(())
}
