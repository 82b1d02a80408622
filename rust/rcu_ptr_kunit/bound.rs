// SPDX-License-Identifier: GPL-2.0

//! How much a case does: less where everything is slow, and in the short form. And how long something may take:
//! in drain intervals, and in grace periods as long as they are at the moment. What waits may sleep.

use crate::sys::{cpu, gp, kunit, thread};
use kernel::prelude::*;

/// Sanitizers make everything an order of magnitude slower, and keep memory of their own.
pub(crate) const SLOW: bool = cfg!(any(CONFIG_KASAN, CONFIG_PROVE_LOCKING));

/// `n`, or a part of it where everything is slow.
pub(crate) const fn scaled(n: usize) -> usize {
    if SLOW {
        n / 16
    } else {
        n
    }
}

/// What a case does in the short form, and otherwise.
pub(crate) fn by_length<T>(short: T, full: T) -> T {
    if kunit::is_short() {
        short
    } else {
        full
    }
}

/// What has not come by then, and its drain intervals, in nanoseconds, is not waited for any more.
const LATE: i64 = 10_000_000_000;

/// What keeps a hang from eating the boot, and says nothing else.
pub(crate) const WATCHDOG_MSECS: u32 = 60_000;

/// What comes with no drain interval takes a tick or two, two grace periods at most, and a worker, which
/// sanitizers make slow.
const GRACE_PERIODS: i64 = if SLOW { 20 } else { 6 };

/// A grace period or a look that takes less counts as much, in nanoseconds: two ticks and a half.
const LEAST: i64 = 10_000_000;

/// Waits until `done`, where the test has its own say on what came: a watchdog, and no bound. Returns whether
/// it came to that.
pub(crate) fn watchdog(done: impl FnMut() -> bool) -> bool {
    thread::wait_for(WATCHDOG_MSECS, done)
}

/// When a watchdog that begins now ends.
///
/// # Context
///
/// Any but NMI.
pub(crate) fn watchdog_ends() -> i64 {
    thread::now() + i64::from(WATCHDOG_MSECS) * 1_000_000
}

/// What [`soon()`] allows, in milliseconds, as long as grace periods are now.
pub(crate) fn soon_msecs() -> u32 {
    let grace_period = i64::from(gp::msecs()) * 1_000_000;
    (GRACE_PERIODS * grace_period.max(LEAST) / 1_000_000) as u32
}

/// Whether `done` comes with no drain interval, but a grace period and a worker.
pub(crate) fn soon(done: impl FnMut() -> bool) -> bool {
    within(0, done)
}

/// Whether `done` comes within `msecs` milliseconds of drain intervals and what [`soon()`] allows.
pub(crate) fn within(msecs: u32, done: impl FnMut() -> bool) -> bool {
    times(1, msecs, done)
}

/// The slowest of the looks that as many threads as there are CPUs take on any of them, for `nsecs`: a busy host may
/// leave out a CPU that the caller is not on. Only once something is late, as it wakes CPUs that are idle.
fn slowest_elsewhere(nsecs: i64) -> i64 {
    let start = thread::now();
    let (mut last, mut slowest) = (start, 0);
    while last - start < nsecs.min(LATE / 10) {
        let look = |_| thread::sleep(2);
        if thread::together(cpu::online().count(), &look, || ()).is_err() {
            break;
        }
        let now = thread::now();
        slowest = slowest.max(now - last);
        last = now;
    }
    slowest
}

/// The same, `n` times over.
pub(crate) fn times(n: u32, msecs: u32, mut done: impl FnMut() -> bool) -> bool {
    let base = i64::from(n) * i64::from(msecs) * 1_000_000;
    let start = thread::now();
    let (mut last, mut slowest) = (start, 0);
    let mut came = done();
    while !came && last - start < LATE + base {
        thread::sleep(2);
        came = done();
        let now = thread::now();
        // A host that leaves the guest alone shows here.
        slowest = slowest.max(now - last);
        last = now;
    }
    // Afterwards: one before would be time that is not counted.
    let grace_period = i64::from(gp::msecs()) * 1_000_000;
    let most = |unit: i64| base + GRACE_PERIODS * unit * i64::from(n);
    let mut unit = slowest.max(grace_period).max(LEAST);
    if came && last - start > most(unit) {
        unit = unit.max(slowest_elsewhere(last - start));
    }
    let most = most(unit);
    let in_time = came && last - start <= most;
    if !in_time {
        pr_info!(
            "too late: came: {}, after {} ms, where {} ms are allowed; a grace period took {} ms, a look {} ms, elsewhere {} ms\n",
            came,
            (last - start) / 1_000_000,
            most / 1_000_000,
            grace_period / 1_000_000,
            slowest / 1_000_000,
            unit / 1_000_000
        );
    }
    in_time
}
