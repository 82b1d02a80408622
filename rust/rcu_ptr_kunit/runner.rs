// SPDX-License-Identifier: GPL-2.0

//! Runs the suites where the kernel has no KUnit, as distributions have it, and reports as KUnit
//! does: KTAP in the kernel's log. The suites are the same text; runner.awk makes their tables.

use crate::{suites::SUITES, sys::runner as sys};
use kernel::{
    fmt,
    prelude::*,
    str::CString,
    sync::atomic::{Atomic, Relaxed},
};

/// What a case may take before it is reported, as in KUnit.
const SECONDS: u32 = 300;

/// A suite.
pub(crate) struct Suite {
    pub(crate) name: &'static CStr,
    pub(crate) cases: &'static [Case],
}

/// A case; `run` says whether it came to its end well.
pub(crate) struct Case {
    pub(crate) name: &'static CStr,
    pub(crate) run: fn() -> bool,
}

/// What a case returns, as `#[kunit_tests]` takes it.
pub(crate) trait Returned {
    fn is_good(&self) -> bool;
}

impl Returned for () {
    fn is_good(&self) -> bool {
        true
    }
}

impl<T> Returned for Result<T> {
    fn is_good(&self) -> bool {
        self.is_ok()
    }
}

/// For the tables.
pub(crate) fn ended(returned: impl Returned) -> bool {
    returned.is_good()
}

/// What the running case has come to.
static OUTCOME: Atomic<i32> = Atomic::new(RUNNING);
const RUNNING: i32 = 0;
const PASSED: i32 = 1;
const FAILED: i32 = 2;

/// Why the running case is left out.
static REASON: Atomic<*mut c_char> = Atomic::new(core::ptr::null_mut());

/// Prints to the log without a prefix.
pub(crate) fn info(args: fmt::Arguments<'_>) {
    sys::print(c"\x016%pA", args);
}

pub(crate) fn err(args: fmt::Arguments<'_>) {
    sys::print(c"\x013%pA", args);
}

/// The running case is left out.
pub(crate) fn skip(reason: &'static CStr) {
    REASON.store(reason.as_char_ptr().cast_mut(), Relaxed);
}

/// The thread of a case.
///
/// # Safety
///
/// `case` is what `run_case()` gave the thread.
#[no_mangle]
unsafe extern "C" fn rcu_ptr_rs_case(case: *mut c_void) {
    // SAFETY: By the safety requirements of this function; a static.
    let case = unsafe { &*case.cast::<Case>() };
    if (case.run)() {
        OUTCOME.store(PASSED, Relaxed);
    } else {
        err(fmt!("    # {} returned an error\n", case.name));
        OUTCOME.store(FAILED, Relaxed);
    }
}

/// `SUITE` or `SUITE.CASE`, a glob each.
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

    /// The cases of a suite that are to run.
    fn cases<'a>(&'a self, suite: &'static Suite) -> impl Iterator<Item = &'static Case> + use<'a> {
        let fits = sys::glob(&self.suite, suite.name);
        suite
            .cases
            .iter()
            .filter(move |case| fits && sys::glob(&self.case, case.name))
    }
}

/// How many cases went which way.
#[derive(Default)]
struct Sums {
    passed: u32,
    failed: u32,
    skipped: u32,
}

fn run_case(number: usize, case: &'static Case, sums: &mut Sums) {
    let name = case.name;
    OUTCOME.store(RUNNING, Relaxed);
    REASON.store(core::ptr::null_mut(), Relaxed);
    let slow = || err(fmt!("    # {name}: test case timed out\n"));
    let data = core::ptr::from_ref(case).cast_mut().cast();
    // SAFETY: A case.
    let started = unsafe { sys::run(data, SECONDS, slow) };
    let reason = REASON.load(Relaxed);
    if started.is_err() || OUTCOME.load(Relaxed) != PASSED {
        sums.failed += 1;
        info(fmt!("    not ok {number} {name}\n"));
    } else if !reason.is_null() {
        sums.skipped += 1;
        // SAFETY: What `skip()` was given, which stays.
        let reason = unsafe { CStr::from_char_ptr(reason) };
        info(fmt!("    ok {number} {name} # SKIP {reason}\n"));
    } else {
        sums.passed += 1;
        info(fmt!("    ok {number} {name}\n"));
    }
}

fn run_suite(number: usize, suite: &'static Suite, filter: &Filter) {
    let name = suite.name;
    let mut sums = Sums::default();
    info(fmt!("    KTAP version 1\n"));
    info(fmt!("    # Subtest: {name}\n"));
    info(fmt!("    # module: rcu_ptr_kunit\n"));
    info(fmt!("    1..{}\n", filter.cases(suite).count()));
    for (i, case) in filter.cases(suite).enumerate() {
        run_case(i + 1, case, &mut sums);
    }
    let Sums {
        passed,
        failed,
        skipped,
    } = sums;
    info(fmt!(
        "# {name}: pass:{passed} fail:{failed} skip:{skipped} total:{}\n",
        passed + failed + skipped
    ));
    let status = if failed == 0 { "ok" } else { "not ok" };
    info(fmt!("{status} {number} {name}\n"));
}

/// The module is loaded.
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
