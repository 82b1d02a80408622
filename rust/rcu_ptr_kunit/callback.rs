// SPDX-License-Identifier: GPL-2.0

//! Callbacks of tests: they free what their head is in, count, and look at the context that they run in.

use crate::sys::{
    alloc,
    core::{self, Head},
    cpu,
};
use ::core::ptr::NonNull;
use kernel::sync::atomic::{Atomic, Relaxed};

/// What callbacks saw.
pub(crate) struct Counters {
    /// Callbacks that ran.
    pub(crate) ran: Atomic<u64>,
    /// Of those, in another context than they are promised.
    pub(crate) wrong: Atomic<u64>,
}

/// All since the module was loaded.
pub(crate) static COUNTERS: Counters = Counters {
    ran: Atomic::new(0),
    wrong: Atomic::new(0),
};

/// Counts a callback that `sleeps` or not.
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
/// The head was handed in by [`Route::free()`](crate::route::Route::free), `AT` bytes from the start of an
/// object that is the callback's to free.
unsafe extern "C" fn free<const AT: usize, const SLEEPS: bool>(head: *mut Head) {
    count(SLEEPS);
    if let Some(object) = NonNull::new(head.cast::<u8>().wrapping_sub(AT)) {
        // SAFETY: By the safety requirements of this function.
        unsafe { alloc::kvfree(object) };
    }
}

/// What frees an object whose head is `at` bytes from its start.
pub(crate) fn free_at(at: usize, sleeps: bool) -> core::Func {
    match (at, sleeps) {
        (0, false) => free::<0, false>,
        (8, false) => free::<8, false>,
        (16, false) => free::<16, false>,
        (0, true) => free::<0, true>,
        (8, true) => free::<8, true>,
        (16, true) => free::<16, true>,
        _ => panic!("no callback for a head there"),
    }
}

/// Whether `word` is what the second word of a head may be: a callback of here, or none.
pub(crate) fn is_func(word: u64) -> bool {
    let is = |sleeps| {
        [0, 8, 16]
            .iter()
            .any(|&at| free_at(at, sleeps) as usize as u64 == word)
    };
    word == 0 || is(false) || is(true)
}
