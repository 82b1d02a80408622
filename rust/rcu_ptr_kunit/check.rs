// SPDX-License-Identifier: GPL-2.0

//! `check!`, the `assert!` of the suites.
//!
//! KUnit's own ends the thread of the case, and nothing is dropped: a cache stays, and the core with it, hooks
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

#[cfg(RCU_PTR_RUNNER)]
use crate::runner::err;
#[cfg(not(RCU_PTR_RUNNER))]
use kernel::kunit::err;
