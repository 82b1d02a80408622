// SPDX-License-Identifier: GPL-2.0

//! The files in /sys/kernel/debug/rcu_ptr.

use crate::{api, delays, engine::Gauges, params, sheaves::stats::CachesFile};
use kernel::{debugfs, fmt, prelude::*, uaccess::UserSliceReader};

/// The files, removed when the value is dropped.
#[pin_data]
pub(crate) struct Files {
    #[pin]
    stats: debugfs::File<()>,
    #[pin]
    barrier: debugfs::File<()>,
    #[pin]
    caches: CachesFile,
    #[pin]
    delays: debugfs::File<()>,
    _dir: debugfs::Dir,
}

impl Files {
    /// Creates the directory and the files, if the kernel has CONFIG_DEBUG_FS. May sleep.
    pub(crate) fn new() -> impl PinInit<Self> {
        let dir = debugfs::Dir::new(c"rcu_ptr");
        pin_init!(Self {
            stats <- dir.read_callback_file(c"stats", (), &show),
            barrier <- dir.write_callback_file(c"barrier", (), &run_barrier),
            caches <- CachesFile::new(&dir),
            delays <- dir.read_callback_file(c"delays", (), &delays::show),
            _dir: dir.clone(),
        })
    }
}

fn line(f: &mut fmt::Formatter<'_>, g: &Gauges) -> fmt::Result {
    for (name, n) in g.stats.named() {
        write!(f, " {name}={n}")?;
    }
    writeln!(
        f,
        " now_queued={} now_in_batches={} now_ready={} now_cached={}",
        g.queued, g.in_batches, g.ready, g.cached
    )
}

/// Shows `stats`: a line per possible CPU, and their sums.
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

/// Runs [`api::barrier()`] if 1 is written to `barrier`; nothing else is accepted.
fn run_barrier(_: &(), reader: &mut UserSliceReader) -> Result {
    // Room for a digit and a newline.
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
