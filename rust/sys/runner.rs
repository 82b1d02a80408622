// SPDX-License-Identifier: GPL-2.0

//! For rcu_ptr_kunit.ko on kernels without KUnit: threads for cases, the log, and the parameter.

use super::generated as sys;
use kernel::{bindings, error::to_result, fmt, prelude::*};

/// Prints without the prefix of the module, as KUnit does.
pub(crate) fn print(level: &'static CStr, args: fmt::Arguments<'_>) {
    let args = ::core::ptr::from_ref(&args).cast::<c_void>();
    // SAFETY: `%pA` takes the address of such arguments; the format ends with a NUL.
    unsafe { bindings::_printk(level.as_char_ptr(), args) };
}

/// Calls `rcu_ptr_rs_case()` with `case` in a thread of its own, and `slow` if that takes longer
/// than `seconds`. One case at a time; may sleep.
///
/// # Safety
///
/// `case` is a valid argument of that function.
pub(crate) unsafe fn run(case: *mut c_void, seconds: u32, slow: impl FnOnce()) -> Result {
    // SAFETY: By the safety requirements of this function.
    to_result(unsafe { sys::rcu_ptr_kunit_start(case) })?;
    let mut slow = Some(slow);
    // SAFETY: Started above.
    while !unsafe { sys::rcu_ptr_kunit_wait(seconds) } {
        if let Some(slow) = slow.take() {
            slow();
        }
    }
    Ok(())
}

/// Parameter `filter_glob`, as KUnit has it.
pub(crate) fn filter_glob() -> &'static str {
    // SAFETY: An array in runner.c that always ends with a NUL.
    unsafe { CStr::from_char_ptr(sys::rcu_ptr_kunit_filter_glob()) }
        .to_str()
        .unwrap_or("")
}

/// Whether `text` matches the pattern.
pub(crate) fn glob(pattern: &CStr, text: &CStr) -> bool {
    // SAFETY: Two strings.
    unsafe { sys::rcu_ptr_kunit_glob(pattern.as_char_ptr(), text.as_char_ptr()) }
}

/// A notifier that calls `rcu_ptr_rs_live()` when the module is live; unregistered on drop.
pub(crate) struct WhenLive(());

impl WhenLive {
    /// At module init.
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
