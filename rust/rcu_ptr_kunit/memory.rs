// SPDX-License-Identifier: GPL-2.0

//! Memory leaks: compares the number of free pages, those on per-CPU lists included. All functions
//! may sleep.

use crate::{
    bound,
    sys::{alloc, thread, user},
};
use kernel::prelude::*;

/// Whether no object waits for a grace period, by the core's statistics. To be called after a
/// barrier.
pub(crate) fn nothing_waits() -> bool {
    user::sh(
        c"grep '^sum ' /sys/kernel/debug/rcu_ptr/stats | grep ' now_queued=0 ' | \
          grep -q ' now_in_batches=0 '",
    )
    .is_ok()
}

/// Whether the core's statistics of `cpu` match the regular expression `pattern`.
pub(crate) fn stats_match(cpu: i32, pattern: &str) -> bool {
    user::sh_fmt(fmt!(
        "grep -q '^cpu={cpu} .*{pattern}' /sys/kernel/debug/rcu_ptr/stats"
    ))
    .is_ok()
}

/// Calls `f`. The sums of the core's statistics have to change so that `right`, a condition of awk
/// on `n["FIELD"]`, is true.
pub(crate) fn stats_change(right: &str, f: impl FnOnce() -> Result) -> Result {
    user::sh(c"grep ^sum /sys/kernel/debug/rcu_ptr/stats >/tmp/stats_before")?;
    f()?;
    user::sh_fmt(fmt!(
        "grep ^sum /sys/kernel/debug/rcu_ptr/stats | cat /tmp/stats_before - | tr ' ' '\n' | \
         awk -F= '{{ n[$1] = $2 - n[$1] }} END {{ exit !({right}) }}'"
    ))
}

/// The number of free pages at some time.
pub(crate) struct FreeMemory(u64);

impl FreeMemory {
    /// The current number, as soon as it does not increase any more: earlier tests may have freed
    /// memory lazily.
    pub(crate) fn now() -> Self {
        let mut best = 0;
        let mut same = 0;
        while same < 5 {
            let free = alloc::free_pages();
            if free > best {
                best = free;
                same = 0;
            }
            same += 1;
            thread::sleep(10);
        }
        Self(best)
    }

    /// By how much the number of free pages has decreased, at least 0.
    pub(crate) fn missing(&self) -> u64 {
        self.0.saturating_sub(alloc::free_pages())
    }

    /// Waits until at most `pages` are missing: vmalloc and the slab free lazily. Returns whether
    /// that succeeded.
    pub(crate) fn settles(&self, pages: u64) -> bool {
        bound::wait_with_timeout(|| self.missing() <= pages)
    }
}

/// Whether at most `pages` are missing after `f`, in one of `tries` attempts: a leak repeats,
/// allocations of others don't. `report` is called with the number of missing pages.
pub(crate) fn is_returned_after(
    tries: usize,
    pages: u64,
    mut f: impl FnMut() -> Result,
    report: impl Fn(u64),
) -> Result<bool> {
    for _ in 0..tries {
        let before = FreeMemory::now();
        f()?;
        let returned = before.settles(pages);
        report(before.missing());
        if returned {
            return Ok(true);
        }
    }
    Ok(false)
}
