// SPDX-License-Identifier: GPL-2.0

//! Callbacks of the tests: they free the object that contains their head, are counted, and check
//! the context that they run in; and a gate at which callbacks block.

use crate::{
    bound,
    sys::{
        alloc,
        core::{self, Head},
        cpu,
    },
};
use ::core::ptr::NonNull;
use kernel::sync::atomic::{Atomic, Relaxed};

/// Calls of callbacks.
pub(crate) struct Counters {
    pub(crate) ran: Atomic<u64>,
    /// Subset of `ran`: in another context than the API promises.
    pub(crate) wrong: Atomic<u64>,
}

/// Counts since the module was loaded.
pub(crate) static COUNTERS: Counters = Counters {
    ran: Atomic::new(0),
    wrong: Atomic::new(0),
};

/// Counts the running callback, which may sleep if `sleeps`.
pub(crate) fn count(sleeps: bool) {
    COUNTERS.ran.add(1, Relaxed);
    let right = if sleeps {
        cpu::may_sleep()
    } else {
        cpu::is_bh_off()
    };
    COUNTERS.wrong.add(u64::from(!right), Relaxed);
}

/// # Safety
///
/// The head was passed to [`FreeFn::free()`](crate::free_fn::FreeFn::free), `AT` bytes from the
/// start of an object, which the callback owns.
unsafe extern "C" fn free<const AT: usize, const SLEEPS: bool>(head: *mut Head) {
    count(SLEEPS);
    if let Some(object) = NonNull::new(head.cast::<u8>().wrapping_sub(AT)) {
        // SAFETY: By the safety requirements of this function.
        unsafe { alloc::kvfree(object) };
    }
}

/// Where callbacks or destructors block until the test opens it.
pub(crate) struct Gate {
    open: Atomic<i32>,
    entered: Atomic<u64>,
    left: Atomic<u64>,
    late: Atomic<u64>,
}

impl Gate {
    pub(crate) const fn new() -> Self {
        Self {
            open: Atomic::new(0),
            entered: Atomic::new(0),
            left: Atomic::new(0),
            late: Atomic::new(0),
        }
    }

    /// Closes the gate and clears the counts, for the next test.
    pub(crate) fn reset(&self) {
        self.open.store(0, Relaxed);
        for count in [&self.entered, &self.left, &self.late] {
            count.store(0, Relaxed);
        }
    }

    pub(crate) fn open(&self) {
        self.open.store(1, Relaxed);
    }

    /// Runs `body` in a callback, and counts it. `body` returns false if it timed out.
    pub(crate) fn pass(&self, body: impl FnOnce() -> bool) {
        self.entered.add(1, Relaxed);
        self.late.add(u64::from(!body()), Relaxed);
        self.left.add(1, Relaxed);
    }

    /// Sleeps in a callback until the gate is open.
    pub(crate) fn wait(&self) {
        self.pass(|| bound::wait_with_timeout(|| self.open.load(Relaxed) != 0));
    }

    /// Callbacks that have started.
    pub(crate) fn entered(&self) -> u64 {
        self.entered.load(Relaxed)
    }

    /// Callbacks that are about to return.
    pub(crate) fn left(&self) -> u64 {
        self.left.load(Relaxed)
    }

    /// Subset of [`Self::left()`]: timed out.
    pub(crate) fn late(&self) -> u64 {
        self.late.load(Relaxed)
    }
}

/// The callback that frees an object whose head is `at` bytes from its start.
pub(crate) fn free_at(at: usize, sleeps: bool) -> core::Func {
    match (at, sleeps) {
        (0, false) => free::<0, false>,
        (8, false) => free::<8, false>,
        (16, false) => free::<16, false>,
        (0, true) => free::<0, true>,
        (8, true) => free::<8, true>,
        (16, true) => free::<16, true>,
        _ => panic!("no callback for a head at this offset"),
    }
}

/// Whether `word` is a valid second word of a head: a callback of this file, or 0.
pub(crate) fn is_func(word: u64) -> bool {
    let is = |sleeps| {
        [0, 8, 16]
            .iter()
            .any(|&at| free_at(at, sleeps) as usize as u64 == word)
    };
    word == 0 || is(false) || is(true)
}
