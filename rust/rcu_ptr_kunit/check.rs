// SPDX-License-Identifier: GPL-2.0

//! `check!`, the `assert!` of the suites, `skip!` and its kin, and `expect_splat!`.
//!
//! KUnit's own assertion ends the thread of the case, and nothing is dropped: a cache stays, and the core with it, hooks
//! and readers refer to a stack that is gone, a CPU stays offline. This one returns.

use kernel::prelude::*;

/// Ends the case, which returns a [`Result`], as failed if the condition does not hold. What it holds is dropped.
#[cfg(not(RCU_PTR_RUNNER))]
macro_rules! check {
    ($condition:expr $(,)?) => {
        if !$condition {
            return $crate::check::failed(::core::file!(), ::core::line!(), stringify!($condition));
        }
    };
}

/// The same, where runner.awk has made one file of many, each with its name and where it begins.
#[cfg(RCU_PTR_RUNNER)]
macro_rules! check {
    ($condition:expr $(,)?) => {
        if !$condition {
            return $crate::check::failed(FILE, ::core::line!() - BEGIN, stringify!($condition));
        }
    };
}

/// Why cases are skipped in which objects of a cache have to go round.
pub(crate) const CHECKED: &CStr = c"this kernel checks what is freed";

/// The same where they have to be allocated again at once.
pub(crate) const CHECKED_OR_ZEROED: &CStr = c"this kernel checks or zeroes what is freed";

/// Says in the log, as KUnit does, what does not hold.
///
/// # Errors
///
/// Always.
pub(crate) fn failed<T>(file: &str, line: u32, condition: &str) -> Result<T> {
    err(fmt!("    # ASSERTION FAILED at {file}:{line}\n"));
    err(fmt!("    Expected {condition} to be true, but is false\n"));
    Err(EINVAL)
}

/// Says that reports that match `what` come now: the log's reader knows the marks.
macro_rules! expect_splat {
    ($what:expr, $body:expr) => {{
        $crate::check::info(fmt!("rcu_ptr: expect-splat begin {}\n", $what));
        let ret = $body;
        $crate::check::info(fmt!("rcu_ptr: expect-splat end\n"));
        ret
    }};
}

/// Ends the case as skipped, for a reason.
macro_rules! skip {
    ($reason:expr $(,)?) => {{
        $crate::sys::kunit::skip($reason);
        return Ok(());
    }};
}

/// Ends the case as skipped if the condition holds.
macro_rules! skip_if {
    ($condition:expr, $reason:expr $(,)?) => {
        if $condition {
            skip!($reason);
        }
    };
}

/// Ends the case as skipped where the kernel is built without an option.
#[allow(unused_macros)]
macro_rules! needs {
    ($config:ident) => {
        skip_if!(
            cfg!(not($config)),
            ::kernel::c_str!(concat!("needs ", stringify!($config)))
        );
    };
}

/// What the `Option` has; without it the case is skipped.
macro_rules! or_skip {
    ($option:expr, $reason:expr $(,)?) => {
        match $option {
            Some(value) => value,
            None => skip!($reason),
        }
    };
}

#[cfg(RCU_PTR_RUNNER)]
pub(crate) use crate::runner::{err, info};
#[cfg(not(RCU_PTR_RUNNER))]
pub(crate) use kernel::kunit::{err, info};
