// SPDX-License-Identifier: GPL-2.0

//! /sys/kernel/debug/rcu_ptr: stats, a line per possible CPU and their sums; and barrier, which scripts
//! write to.

use crate::{api, engine::Gauges, params, sheaf::stats::CachesFile};
use kernel::{debugfs, fmt, prelude::*, uaccess::UserSliceReader};

/// The files; they go when the value is dropped.
#[pin_data]
pub(crate) struct StatsFile {
    #[pin]
    file: debugfs::File<()>,
    #[pin]
    barrier: debugfs::File<()>,
    #[pin]
    caches: CachesFile,
    _dir: debugfs::Dir,
}

impl StatsFile {
    /// Makes the folder and the files. Without CONFIG_DEBUG_FS nothing happens.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn new() -> impl PinInit<Self> {
        let dir = debugfs::Dir::new(c"rcu_ptr");
        pin_init!(Self {
            file <- dir.read_callback_file(c"stats", (), &show),
            barrier <- dir.write_callback_file(c"barrier", (), &run_barrier),
            caches <- CachesFile::new(&dir),
            _dir: dir.clone(),
        })
    }
}

fn line(f: &mut fmt::Formatter<'_>, g: &Gauges) -> fmt::Result {
    let s = &g.stats;
    write!(
        f,
        " queued_slab={} queued_vmalloc={} queued_mixed={} queued_list={} queued_sync={}",
        s.queued[0], s.queued[1], s.queued_mixed, s.queued_list, s.queued_sync
    )?;
    write!(
        f,
        " queued_nolock={} deferred={}",
        s.queued_nolock, s.deferred
    )?;
    write!(
        f,
        " freed={} freed_early={} leaked={} batches={} batches_busy={}",
        s.freed, s.freed_early, s.leaked, s.batches, s.batches_busy
    )?;
    writeln!(
        f,
        " refilled={} backoffs={} shrunk={} now_queued={} now_in_batches={} now_cached={}",
        s.refilled, s.backoffs, s.shrunk, g.queued, g.in_batches, g.cached
    )
}

fn show(_: &(), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut sum = Gauges::default();
    writeln!(f, "engine={}", params::engine().name())?;
    for g in api::gauges() {
        write!(f, "cpu={}", g.cpu)?;
        line(f, &g)?;
        sum += g;
    }
    write!(f, "sum")?;
    line(f, &sum)
}

/// `rcu_ptr_barrier()` for scripts: 1 runs it, nothing else is accepted.
fn run_barrier(_: &(), reader: &mut UserSliceReader) -> Result {
    // A digit and a newline.
    let mut text = [0; 2];
    let n = reader.len();
    let text = text.get_mut(..n).ok_or(EINVAL)?;
    reader.read_slice(text)?;
    if text.trim_ascii() != b"1" {
        return Err(EINVAL);
    }
    api::barrier();
    Ok(())
}
