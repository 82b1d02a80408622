// SPDX-License-Identifier: GPL-2.0

//! What was redirected: /sys/kernel/debug/rcu_ptr_takeover/stats, and a line in the log at the end.

use crate::sys::redirected as sys;
use kernel::{
    debugfs, fmt,
    prelude::*,
    time::{Instant, Monotonic},
};

/// The name of each counter: first of those of objects that the engine got.
const NAMES: [(c_uint, &str); 11] = [
    (sys::KVFREE, "kvfree_call_rcu"),
    (sys::KVFREE_NMI, "kvfree_call_rcu_nmi"),
    (sys::HEADLESS, "headless"),
    (sys::HEADLESS_SLEPT, "headless_slept"),
    (sys::NOLOCK, "kfree_call_rcu_nolock"),
    (sys::NOLOCK_NMI, "kfree_call_rcu_nolock_nmi"),
    (sys::WHILE_DESTROYING, "kernel_while_destroying"),
    (sys::NOT_WATCHING, "kernel_not_watching"),
    (sys::NO_ROOM, "headless_no_room"),
    (sys::DESTROYED, "kmem_cache_destroy"),
    (sys::MODULES_GONE, "modules_gone"),
];

/// Objects that the engine got.
fn taken() -> u64 {
    NAMES[..6].iter().map(|&(what, _)| sys::sum(what)).sum()
}

/// The file, which is removed on drop.
#[pin_data]
pub(crate) struct StatsFile {
    #[pin]
    file: debugfs::File<Instant<Monotonic>>,
    _dir: debugfs::Dir,
}

impl StatsFile {
    /// Creates the directory and the file; may sleep. Without CONFIG_DEBUG_FS nothing happens.
    pub(crate) fn new() -> impl PinInit<Self> {
        let dir = debugfs::Dir::new(c"rcu_ptr_takeover");
        pin_init!(Self {
            file <- dir.read_callback_file(c"stats", Instant::now(), &show),
            _dir: dir.clone(),
        })
    }
}

fn show(since: &Instant<Monotonic>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "seconds={}", since.elapsed().as_nanos() / 1_000_000_000)?;
    writeln!(f, "taken={}", taken())?;
    for (what, name) in NAMES {
        writeln!(f, "{name}={}", sys::sum(what))?;
    }
    Ok(())
}

/// Logs the totals.
pub(crate) fn log_totals() {
    pr_info!(
        "{} objects were redirected ({} without a field, {} in NMI), {} caches destroyed\n",
        taken(),
        sys::sum(sys::HEADLESS) + sys::sum(sys::HEADLESS_SLEPT),
        sys::sum(sys::KVFREE_NMI) + sys::sum(sys::NOLOCK_NMI),
        sys::sum(sys::DESTROYED)
    );
}
