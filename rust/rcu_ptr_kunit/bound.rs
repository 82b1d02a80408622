// SPDX-License-Identifier: GPL-2.0

//! The amount of work of a test case, and time limits. Limits are in drain intervals and grace
//! periods, of which the current length is measured. Functions that wait may sleep.

use crate::sys::{cpu, gp, kunit, thread};
use kernel::prelude::*;

/// Sanitizers are an order of magnitude slower, and hold memory back.
pub(crate) const SLOW: bool = cfg!(any(CONFIG_KASAN, CONFIG_PROVE_LOCKING));

/// `n`, reduced on slow kernels.
pub(crate) const fn scaled(n: usize) -> usize {
    if SLOW {
        n / 16
    } else {
        n
    }
}

/// Selects a value by the length of the run: `length=short` or full.
pub(crate) fn by_length<T>(short: T, full: T) -> T {
    if kunit::is_short() {
        short
    } else {
        full
    }
}

/// [`within()`] and [`within_times()`] give up after this and the drain intervals, in nanoseconds.
const GIVE_UP_NSECS: i64 = 10_000_000_000;

/// Timeout of waits that only keep a hang from blocking the boot.
pub(crate) const TIMEOUT_MSECS: u32 = 60_000;

/// Limit for processing that waits for no drain interval, in grace periods: a tick or two, at most
/// two grace periods, and a worker, which is slow under sanitizers.
const GRACE_PERIODS: i64 = if SLOW { 20 } else { 6 };

/// Lower limit of the measured unit, in nanoseconds: two and a half ticks.
pub(crate) const MIN_UNIT_NSECS: i64 = 10_000_000;

/// Waits for `done`, with a timeout that keeps a hang from blocking the boot and is not a limit
/// under test. Returns whether `done` became true.
pub(crate) fn wait_with_timeout(done: impl FnMut() -> bool) -> bool {
    thread::wait_for(TIMEOUT_MSECS, done)
}

/// The time at which a [`wait_with_timeout()`] that starts now would give up.
///
/// # Context
///
/// Any but NMI.
pub(crate) fn timeout_end() -> i64 {
    thread::now() + i64::from(TIMEOUT_MSECS) * 1_000_000
}

/// The limit of [`soon()`] in milliseconds, for the current length of grace periods.
pub(crate) fn soon_msecs() -> u32 {
    let grace_period = i64::from(gp::msecs()) * 1_000_000;
    (GRACE_PERIODS * grace_period.max(MIN_UNIT_NSECS) / 1_000_000) as u32
}

/// Whether `done` becomes true within a few grace periods, without waiting for a drain interval.
pub(crate) fn soon(done: impl FnMut() -> bool) -> bool {
    within(0, done)
}

/// Whether `done` becomes true within `msecs` milliseconds of drain intervals plus the limit of
/// [`soon()`].
pub(crate) fn within(msecs: u32, done: impl FnMut() -> bool) -> bool {
    within_times(1, msecs, done)
}

/// Polls in as many threads as there are CPUs for `nsecs`, and returns the longest time between two
/// polls: a busy host may deschedule the vCPU that was late, which need not be the caller's. It
/// wakes idle CPUs, so it is called only when something was late.
fn slowest_elsewhere(nsecs: i64) -> i64 {
    let start = thread::now();
    let (mut last, mut slowest) = (start, 0);
    while last - start < nsecs.min(GIVE_UP_NSECS / 10) {
        let poll = |_| thread::sleep(2);
        if thread::together(cpu::online().count(), &poll, || ()).is_err() {
            break;
        }
        let now = thread::now();
        slowest = slowest.max(now - last);
        last = now;
    }
    slowest
}

/// As [`within()`], for `n` times the limit.
pub(crate) fn within_times(n: u32, msecs: u32, mut done: impl FnMut() -> bool) -> bool {
    let base = i64::from(n) * i64::from(msecs) * 1_000_000;
    let start = thread::now();
    let (mut last, mut slowest) = (start, 0);
    let mut came = done();
    while !came && last - start < GIVE_UP_NSECS + base {
        thread::sleep(2);
        came = done();
        let now = thread::now();
        // Detects a host that deschedules the guest.
        slowest = slowest.max(now - last);
        last = now;
    }
    // Measured afterwards: a measurement before the wait would extend it.
    let grace_period = i64::from(gp::msecs()) * 1_000_000;
    let most = |unit: i64| base + GRACE_PERIODS * unit * i64::from(n);
    let mut unit = slowest.max(grace_period).max(MIN_UNIT_NSECS);
    if came && last - start > most(unit) {
        unit = unit.max(slowest_elsewhere(last - start));
    }
    let most = most(unit);
    let in_time = came && last - start <= most;
    if !in_time {
        pr_info!(
            "too late: done: {came}, after {} ms of {} ms; a grace period took {} ms, a poll {} \
             ms, elsewhere {} ms\n",
            (last - start) / 1_000_000,
            most / 1_000_000,
            grace_period / 1_000_000,
            slowest / 1_000_000,
            unit / 1_000_000
        );
    }
    in_time
}
