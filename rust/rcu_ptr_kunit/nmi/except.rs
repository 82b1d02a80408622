// SPDX-License-Identifier: GPL-2.0

//! What a sweep of the core module can't reach, by function, and why: every exception has a name.

/// What is known of a function.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Of the engine that is not loaded.
    OtherEngine,
    /// For this reason; whether it is tried all the same, as only part of it is out of reach.
    Named(&'static str, bool),
    /// At most so many of its instructions for this reason; the function is tried.
    Partly(&'static str, usize),
}

impl Kind {
    /// Whether breakpoints are set in it.
    pub(crate) fn is_tried(self) -> bool {
        matches!(self, Self::Named(_, true) | Self::Partly(..))
    }
}

const INIT: &str = "runs in module init only";
const EXIT: &str = "runs in module exit only, without users";
const PERF: &str = "runs for events of a perf session only, made by macros of the kernel";
const BUG: &str = "runs after a bug of the engine only";
const FAST: &str = "the common path of engine lockless";
const DEBUG: &str = "runs with debugobjects or kmemleak only";

/// Part of the mangled name, and why the function is never run while there are users.
const NEVER: [(&str, &str); 20] = [
    ("6params13choose_engine", INIT),
    ("3rfcNtB4_3Rfc5start", INIT),
    ("8locklessNtB4_8Lockless5start", INIT),
    ("5sheafNtB2_7Sheaves5start", INIT),
    ("9StatsFile3new", INIT),
    ("12DeferredList3new", INIT),
    ("10AtomicLink3new", INIT),
    ("Backend4init", INIT),
    ("rcu_ptr_shim_enable_lockless", INIT),
    ("rcu_ptr_shim_raw_lock_init", INIT),
    ("rcu_ptr_shim_init_rcu_work", INIT),
    ("rcu_ptr_shim_vmalloc_", INIT),
    ("7RunningEB", EXIT),
    ("7RunningNtNtNt", EXIT),
    ("kernel4sync3arc8ArcInner", EXIT),
    ("9WorkQueueNt", EXIT),
    ("cleanup_module", EXIT),
    ("perf_trace_rcu_ptr_", PERF),
    ("5batch4leak", BUG),
    ("rcu_ptr_shim_warn_early", BUG),
];

/// Part of the mangled name, and why parts of the function may not be run.
const IN_PART: [(&str, &str); 11] = [
    ("__traceiter_", "runs for a tracepoint with several users"),
    ("drop_in_placeNt", EXIT),
    ("4core3fmt", "text that nothing here prints in that way"),
    ("7Default7default", INIT),
    ("__probestub_", "a stub of the kernel that is never called"),
    (
        "rcu_ptr_shim_warn_held",
        "misuse of a cache, which warns each time",
    ),
    ("rcu_ptr_shim_warn_double", DEBUG),
    ("rcu_ptr_shim_debug_", DEBUG),
    ("rcu_ptr_shim_kmemleak_", DEBUG),
    ("rcu_ptr_shim_raw_assert_held", "runs with lockdep only"),
    (
        "rcu_ptr_shim_context",
        "its branch for NMI: breakpoints are off there",
    ),
];

const FULL: &str = "its exit where the trace has no room for the line";

/// Part of the mangled name, how many instructions of the function may be left, and why they are.
const LEFT: [(&str, usize, &str); 1] = [("trace_raw_output_rcu_ptr_", 8, FULL)];

/// What is known of function `name` of the core, with engine lockless loaded or not.
pub(crate) fn of(name: &str, lockless: bool) -> Option<Kind> {
    let other = if lockless { "3rfc" } else { "8lockless" };
    // These go on behind the common path, which is that of engine lockless.
    const LOCKLESS: [&str; 3] = [
        "_no_slot",
        "rcu_ptr_shim_current_block",
        "rcu_ptr_shim_alloc_page_nolock",
    ];
    if name.contains(other) || !lockless && LOCKLESS.iter().any(|part| name.contains(part)) {
        return Some(Kind::OtherEngine);
    }
    const CALLS: [&str; 3] = [
        "rcu_ptr_kvfree_call",
        "rcu_ptr_kfree_nolock_call",
        "rcu_ptr_try_kfree_nolock_call",
    ];
    if !lockless && CALLS.contains(&name) {
        return Some(Kind::Named(FAST, true));
    }
    let reason = |table: &[(&str, &'static str)]| {
        table
            .iter()
            .find(|(part, _)| name.contains(part))
            .map(|&(_, reason)| reason)
    };
    if let Some(reason) = reason(&NEVER) {
        return Some(Kind::Named(reason, false));
    }
    reason(&IN_PART)
        .map(|reason| Kind::Named(reason, true))
        .or_else(|| {
            LEFT.iter()
                .find(|(part, ..)| name.contains(part))
                .map(|&(_, most, reason)| Kind::Partly(reason, most))
        })
}
