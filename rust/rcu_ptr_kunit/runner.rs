// SPDX-License-Identifier: GPL-2.0

//! Runs the suites on kernels without KUnit, such as those of distributions, and reports in KTAP as
//! KUnit does. The suites are the same source; runner.awk generates their tables.

use crate::{
    suites::{SOURCES, SUITES},
    sys::runner as sys,
};
use kernel::{
    fmt,
    prelude::*,
    str::CString,
    sync::atomic::{Atomic, Relaxed},
};

/// The time limit of a case, as in KUnit.
const SECONDS: u32 = 300;

pub(crate) struct Suite {
    pub(crate) name: &'static CStr,
    pub(crate) cases: &'static [Case],
}

pub(crate) struct Case {
    pub(crate) name: &'static CStr,
    pub(crate) run: fn() -> Result,
}

/// The file and line of a suite that runner.awk took a line of its output from. Lines of other
/// files stay.
///
/// An entry of `SOURCES` has the number of lines before its file.
pub(crate) fn original(file: &'static str, line: u32) -> (&'static str, u32) {
    if !file.ends_with("/suites_generated.rs") {
        return (file, line);
    }
    let source = SOURCES.iter().rfind(|(before, _)| *before < line);
    source.map_or((file, line), |(before, name)| (*name, line - *before))
}

/// The state of the running case.
static OUTCOME: Atomic<i32> = Atomic::new(RUNNING);
const RUNNING: i32 = 0;
const PASSED: i32 = 1;
const FAILED: i32 = 2;

/// Why the running case is skipped; null: it is not.
static REASON: Atomic<*mut c_char> = Atomic::new(core::ptr::null_mut());

/// Prints to the log, without a prefix.
pub(crate) fn info(args: fmt::Arguments<'_>) {
    sys::print(c"\x016%pA", args);
}

pub(crate) fn err(args: fmt::Arguments<'_>) {
    sys::print(c"\x013%pA", args);
}

/// Marks the running case as skipped.
pub(crate) fn skip(reason: &'static CStr) {
    REASON.store(reason.as_char_ptr().cast_mut(), Relaxed);
}

/// The thread of a case.
///
/// # Safety
///
/// `case` is the argument that `run_case()` passed to the thread.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_rs_case(case: *mut c_void) {
    // SAFETY: By the safety requirements of this function; a static.
    let case = unsafe { &*case.cast::<Case>() };
    if (case.run)().is_ok() {
        OUTCOME.store(PASSED, Relaxed);
    } else {
        err(fmt!("    # {} returned an error\n", case.name));
        OUTCOME.store(FAILED, Relaxed);
    }
}

/// A filter `SUITE` or `SUITE.CASE` of globs.
struct Filter {
    suite: CString,
    case: CString,
}

impl Filter {
    fn parse(text: &str) -> Result<Self> {
        let (suite, case) = text.split_once('.').unwrap_or((text, "*"));
        Ok(Self {
            suite: CString::try_from_fmt(fmt!("{suite}"))?,
            case: CString::try_from_fmt(fmt!("{case}"))?,
        })
    }

    /// The cases of `suite` that match.
    fn cases<'a>(&'a self, suite: &'static Suite) -> impl Iterator<Item = &'static Case> + use<'a> {
        let fits = sys::glob(&self.suite, suite.name);
        suite
            .cases
            .iter()
            .filter(move |case| fits && sys::glob(&self.case, case.name))
    }
}

/// Numbers of cases by result.
#[derive(Default)]
struct CaseCounts {
    passed: u32,
    failed: u32,
    skipped: u32,
}

fn run_case(number: usize, case: &'static Case, counts: &mut CaseCounts) {
    let name = case.name;
    OUTCOME.store(RUNNING, Relaxed);
    REASON.store(core::ptr::null_mut(), Relaxed);
    let slow = || err(fmt!("    # {name}: test case timed out\n"));
    let data = core::ptr::from_ref(case).cast_mut().cast();
    // SAFETY: `data` is a `Case`.
    let started = unsafe { sys::run(data, SECONDS, slow) };
    let reason = REASON.load(Relaxed);
    if started.is_err() || OUTCOME.load(Relaxed) != PASSED {
        counts.failed += 1;
        info(fmt!("    not ok {number} {name}\n"));
    } else if !reason.is_null() {
        counts.skipped += 1;
        // SAFETY: The static string that was passed to `skip()`.
        let reason = unsafe { CStr::from_char_ptr(reason) };
        info(fmt!("    ok {number} {name} # SKIP {reason}\n"));
    } else {
        counts.passed += 1;
        info(fmt!("    ok {number} {name}\n"));
    }
}

fn run_suite(number: usize, suite: &'static Suite, filter: &Filter) {
    let name = suite.name;
    let mut counts = CaseCounts::default();
    info(fmt!("    KTAP version 1\n"));
    info(fmt!("    # Subtest: {name}\n"));
    info(fmt!("    # module: rcu_ptr_kunit\n"));
    info(fmt!("    1..{}\n", filter.cases(suite).count()));
    for (i, case) in filter.cases(suite).enumerate() {
        run_case(i + 1, case, &mut counts);
    }
    let CaseCounts {
        passed,
        failed,
        skipped,
    } = counts;
    info(fmt!(
        "# {name}: pass:{passed} fail:{failed} skip:{skipped} total:{}\n",
        passed + failed + skipped
    ));
    let status = if failed == 0 { "ok" } else { "not ok" };
    info(fmt!("{status} {number} {name}\n"));
}

/// Runs all suites. Called when the module is live.
#[no_mangle]
extern "C" fn rcu_ptr_rs_live() {
    let Ok(filter) = Filter::parse(sys::filter_glob()) else {
        return err(fmt!("rcu_ptr_kunit: no memory for the filter\n"));
    };
    let chosen = || {
        SUITES
            .iter()
            .filter(|suite| filter.cases(suite).next().is_some())
    };
    info(fmt!("KTAP version 1\n"));
    info(fmt!("1..{}\n", chosen().count()));
    for (i, suite) in chosen().enumerate() {
        run_suite(i + 1, suite, &filter);
    }
}
