// SPDX-License-Identifier: GPL-2.0

//! Whether memory came back: free pages now and before, those on the lists of the CPUs included. All of it may sleep.

use crate::{
    bound,
    sys::{alloc, thread, user},
};
use kernel::{prelude::*, str::CString};

/// Whether the core says that nothing waits for its grace period.
///
/// # Context
///
/// May sleep, behind a barrier.
pub(crate) fn nothing_waits() -> bool {
    user::sh(
        c"grep '^sum ' /sys/kernel/debug/rcu_ptr/stats | grep ' now_queued=0 ' | \
          grep -q ' now_in_batches=0 '",
    )
    .is_ok()
}

/// Whether the core's statistics of `cpu` match `pattern`.
pub(crate) fn stats_match(cpu: i32, pattern: &str) -> bool {
    let command = CString::try_from_fmt(fmt!(
        "grep -q '^cpu={cpu} .*{pattern}' /sys/kernel/debug/rcu_ptr/stats"
    ));
    command.is_ok_and(|command| user::sh(&command).is_ok())
}

/// Free memory at some moment.
pub(crate) struct Mark(u64);

impl Mark {
    /// Now. What earlier tests freed lazily has to be back first.
    pub(crate) fn take() -> Self {
        let mut best = 0;
        let mut same = 0;
        while same < 5 {
            let now = alloc::free_pages();
            if now > best {
                best = now;
                same = 0;
            }
            same += 1;
            thread::sleep(10);
        }
        Self(best)
    }

    /// Pages that are not free and were, 0 when there are more now.
    pub(crate) fn missing(&self) -> u64 {
        self.0.saturating_sub(alloc::free_pages())
    }

    /// Waits until all but `pages` are back. What is freed in other places (vmalloc's lazy work,
    /// caches of the slab) takes its time. Returns whether they came.
    pub(crate) fn settles(&self, pages: u64) -> bool {
        bound::watchdog(|| self.missing() <= pages)
    }
}

/// Whether all but `pages` come back after `f`, in one of `tries`: what others take at the same time they take
/// once, and a leak comes each time. `say` gets the pages that are missing.
pub(crate) fn comes_back(
    tries: usize,
    pages: u64,
    mut f: impl FnMut() -> Result,
    say: impl Fn(u64),
) -> Result<bool> {
    for _ in 0..tries {
        let mark = Mark::take();
        f()?;
        let back = mark.settles(pages);
        say(mark.missing());
        if back {
            return Ok(true);
        }
    }
    Ok(false)
}
