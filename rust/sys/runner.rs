// SPDX-License-Identifier: GPL-2.0

//! Threads for cases, the log, and the parameter, where the kernel has no KUnit.

use super::generated as sys;
use crate::runner::{self, Case};
use kernel::{bindings, error::to_result, fmt, prelude::*};

/// Prints without the module's name in front, as KUnit does.
pub(crate) fn print(level: &'static CStr, args: fmt::Arguments<'_>) {
    // SAFETY: `%pA` takes the address of such arguments; the format ends with a NUL.
    unsafe {
        bindings::_printk(
            level.as_char_ptr(),
            ::core::ptr::from_ref(&args).cast::<c_void>(),
        )
    };
}

/// Runs a case in a thread of its own; `slow` is called if it takes longer than `seconds`.
///
/// # Context
///
/// May sleep. One case at a time.
///
/// # Errors
///
/// No thread could be created.
pub(crate) fn run(case: &'static Case, seconds: u32, slow: impl FnOnce()) -> Result {
    let data = ::core::ptr::from_ref(case).cast_mut().cast();
    // SAFETY: `rcu_ptr_rs_case()` gets a case.
    to_result(unsafe { sys::rcu_ptr_kunit_start(data) })?;
    let mut slow = Some(slow);
    // SAFETY: Started above.
    while !unsafe { sys::rcu_ptr_kunit_wait(seconds) } {
        if let Some(slow) = slow.take() {
            slow();
        }
    }
    Ok(())
}

/// # Safety
///
/// `case` is what `run()` gave the thread.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_rs_case(case: *mut c_void) {
    // SAFETY: By the safety requirements of this function; a static.
    runner::run_in_thread(unsafe { &*case.cast::<Case>() });
}

/// Parameter `filter_glob`, as KUnit has it.
pub(crate) fn filter_glob() -> &'static str {
    // SAFETY: An array in runner.c that always ends with a NUL.
    unsafe { CStr::from_char_ptr(sys::rcu_ptr_kunit_filter_glob()) }
        .to_str()
        .unwrap_or("")
}

/// Whether the pattern fits.
pub(crate) fn glob(pattern: &CStr, text: &CStr) -> bool {
    // SAFETY: Two strings.
    unsafe { sys::rcu_ptr_kunit_glob(pattern.as_char_ptr(), text.as_char_ptr()) }
}

/// Calls [`runner::live()`] when the module is loaded, until it is dropped.
pub(crate) struct WhenLive(());

impl WhenLive {
    /// At module init.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn register() -> Result<Self> {
        // SAFETY: Unregistered in `drop()`.
        to_result(unsafe { sys::rcu_ptr_kunit_notify() })?;
        Ok(Self(()))
    }
}

impl Drop for WhenLive {
    fn drop(&mut self) {
        // SAFETY: Registered in `register()`.
        unsafe { sys::rcu_ptr_kunit_no_notify() };
    }
}

#[no_mangle]
extern "C" fn rcu_ptr_rs_live() {
    runner::live();
}
