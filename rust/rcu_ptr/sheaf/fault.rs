// SPDX-License-Identifier: GPL-2.0

//! Allocations that fail because a test says so: each place where a cache needs memory asks here
//! first. (The kernel's own fault injection reaches tasks only, and few kernels have it.)

use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// Allocations until the first that fails, that one included; 0: none fails.
static NTH: Atomic<u64> = Atomic::new(0);
/// The first has failed.
const FAILING: u64 = u64::MAX;
/// How many are still to fail.
static TIMES: Atomic<u64> = Atomic::new(0);

/// Lets the `nth` allocation from now on fail, and as many as `times` in all; 0: none.
/// Returns how far away the first failure of the last call still was; 0: it has come.
///
/// # Context
///
/// Any, NMI included.
pub(crate) fn set(nth: u64, times: u64) -> u64 {
    TIMES.store(times, Relaxed);
    match NTH.xchg(nth.min(FAILING - 1), Relaxed) {
        FAILING => 0,
        nth => nth,
    }
}

/// Memory is about to be allocated.
///
/// # Context
///
/// Any, NMI included.
///
/// # Errors
///
/// `ENOMEM` where a test wants it.
#[inline]
pub(crate) fn point() -> Result {
    match NTH.load(Relaxed) {
        0 => Ok(()),
        n => count(n),
    }
}

#[cold]
fn count(mut nth: u64) -> Result {
    while nth != FAILING {
        let next = match nth {
            0 => return Ok(()),
            1 => FAILING,
            n => n - 1,
        };
        match NTH.cmpxchg(nth, next, Relaxed) {
            Ok(_) if next != FAILING => return Ok(()),
            Ok(_) => break,
            Err(was) => nth = was,
        }
    }
    let mut times = TIMES.load(Relaxed);
    while times > 0 {
        match TIMES.cmpxchg(times, times - 1, Relaxed) {
            Ok(_) => {
                if times == 1 {
                    let _ = NTH.cmpxchg(FAILING, 0, Relaxed);
                }
                return Err(ENOMEM);
            }
            Err(was) => times = was,
        }
    }
    Ok(())
}
