// SPDX-License-Identifier: GPL-2.0

//! /sys/kernel/debug/rcu_ptr/caches: a line per cache.

use super::Sheaves;
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

/// Counts since the cache was made: `free_rcu_sheaf` sheaves that were filled and `alloc_sheaf` that
/// were emptied, `free_rcu_sheaf_fail` objects that went to the engine, `alloc_miss` allocations
/// that found no sheaf, `alloc_foreign` of these served by kmalloc_nolock().
fn show(_: &(), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for cache in Sheaves::get().caches.lock().iter() {
        let name = cache.name.to_str().unwrap_or("?");
        write!(
            f,
            "cache={} size={} capacity={}",
            name, cache.size, cache.capacity
        )?;
        let (mut filled, mut emptied, mut missed, mut foreign, mut fell_back) = (0, 0, 0, 0, 0);
        for pcs in cache.pcs.iter() {
            filled += pcs.filled.load(Relaxed);
            emptied += pcs.emptied.load(Relaxed);
            missed += pcs.missed.load(Relaxed);
            foreign += pcs.foreign.load(Relaxed);
            fell_back += pcs.fell_back.load(Relaxed);
        }
        let (mut full, mut empty) = (0, 0);
        for barn in &cache.barns {
            barn.with(|stock| {
                full += stock.nr_full();
                empty += stock.nr_empty();
            });
        }
        writeln!(
            f,
            " free_rcu_sheaf={filled} free_rcu_sheaf_fail={fell_back} alloc_sheaf={emptied} \
             alloc_miss={missed} alloc_foreign={foreign} obtained={} returned={} now_full={full} \
             now_empty={empty}",
            cache.obtained.load(Relaxed),
            cache.returned.load(Relaxed),
        )?;
    }
    Ok(())
}
