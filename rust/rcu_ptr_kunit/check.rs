// SPDX-License-Identifier: GPL-2.0

//! `check!`, the assertion of the suites, `skip!` and similar macros, and `expect_splat!`.
//!
//! KUnit's own assertion ends the thread of the case without running destructors: caches would stay
//! and pin the core, hooks and readers would refer to a freed stack, CPUs would stay offline.
//! `check!` evaluates to an error instead: the case returns it.

#[cfg(RCU_PTR_RUNNER)]
pub(crate) use crate::runner::skip as mark_skipped;
#[cfg(not(RCU_PTR_RUNNER))]
pub(crate) use crate::sys::kunit::skip as mark_skipped;
use kernel::prelude::*;

/// `Ok(())` if the condition is true; otherwise logs it and is an error. A case that returns that
/// has failed.
macro_rules! check {
    ($condition:expr $(,)?) => {
        if $condition {
            Ok(())
        } else {
            $crate::check::failed(::core::file!(), ::core::line!(), stringify!($condition))
        }
    };
}

/// Skip reason of cases that need caches to recycle objects.
pub(crate) const CHECKED: &CStr = c"this kernel checks what is freed";

/// Skip reason of cases that need caches to reuse objects at once.
pub(crate) const CHECKED_OR_ZEROED: &CStr = c"this kernel checks or zeroes what is freed";

/// Logs the failed condition in KUnit's format.
///
/// # Errors
///
/// Always.
pub(crate) fn failed(file: &'static str, line: u32, condition: &str) -> Result {
    #[cfg(RCU_PTR_RUNNER)]
    let (file, line) = crate::runner::original(file, line);
    err(fmt!("    # ASSERTION FAILED at {file}:{line}\n"));
    err(fmt!("    Expected {condition} to be true, but is false\n"));
    Err(EINVAL)
}

/// Announces in the log, for qemu/lib/splat.py, that `$body` triggers a report that matches
/// `$what`.
macro_rules! expect_splat {
    ($what:expr, $body:expr) => {{
        $crate::check::info(fmt!("rcu_ptr: expect-splat begin {}\n", $what));
        let ret = $body;
        $crate::check::info(fmt!("rcu_ptr: expect-splat end\n"));
        ret
    }};
}

/// Skips the case.
macro_rules! skip {
    ($reason:expr $(,)?) => {{
        $crate::check::mark_skipped($reason);
        return Ok(());
    }};
}

/// Skips the case if the condition is true.
macro_rules! skip_if {
    ($condition:expr, $reason:expr $(,)?) => {
        if $condition {
            skip!($reason);
        }
    };
}

/// Skips the case if the kernel is built without a config option.
#[allow(unused_macros, reason = "shared")]
macro_rules! needs {
    ($config:ident) => {
        skip_if!(
            cfg!(not($config)),
            ::kernel::c_str!(concat!("needs ", stringify!($config)))
        );
    };
}

/// Unwraps an `Option`, or skips the case.
macro_rules! or_skip {
    ($option:expr, $reason:expr $(,)?) => {
        match $option {
            Some(value) => value,
            None => skip!($reason),
        }
    };
}

/// A CPU that can be taken down, or skips the case.
#[allow(unused_macros, reason = "shared")]
macro_rules! other_cpu {
    () => {
        or_skip!($crate::sys::cpu::other(), c"needs two CPUs")
    };
}

#[cfg(RCU_PTR_RUNNER)]
pub(crate) use crate::runner::{err, info};
#[cfg(not(RCU_PTR_RUNNER))]
pub(crate) use kernel::kunit::{err, info};
