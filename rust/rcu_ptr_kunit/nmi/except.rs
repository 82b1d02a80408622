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
const SELF: &str = "a callback that waits for callbacks, which warns once";
const FAST: &str = "the common path of engine lockless";
const DEBUG: &str = "runs with debugobjects or kmemleak only";

/// Part of the mangled name, and why the function is never run while there are users.
const NEVER: [(&str, &str); 27] = [
    ("6params13choose_engine", INIT),
    ("7debugfsNtB2_5Files3new", INIT),
    ("7Updates3new", INIT),
    ("12DeferredList3new", INIT),
    ("6Spares3new", INIT),
    ("8Counters3new", INIT),
    ("10AtomicLink3new", INIT),
    ("Backend4init", INIT),
    ("rcu_ptr_shim_enable_lockless", INIT),
    ("rcu_ptr_shim_raw_lock_init", INIT),
    ("rcu_ptr_shim_init_rcu_work", INIT),
    ("rcu_ptr_shim_vmalloc_", INIT),
    ("8instance7Running", EXIT),
    ("8instanceINtB4_7Running", EXIT),
    ("8instance7Service", EXIT),
    ("4krcpNtB5_6Unused", EXIT),
    ("4krcp6UnusedE", EXIT),
    ("kernel4sync3arc8ArcInner", EXIT),
    ("9WorkQueueNt", EXIT),
    ("cleanup_module", EXIT),
    ("perf_trace_rcu_ptr_", PERF),
    ("3rfc5drain4leak", BUG),
    ("rcu_ptr_shim_warn_early", BUG),
    ("5Calls4lose", BUG),
    ("rcu_ptr_shim_warn_barrier", SELF),
    ("21warn_waits_for_itself", SELF),
    (
        "rcu_ptr_shim_cpu_dying",
        "runs on a CPU that can be interrupted no more, and in NMI",
    ),
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

const LOOP: &str = "a loop that finds nothing, or whose lock another task has just then";
const RESCHED: &str = "a task has become ready, or the CPU is on its way down, just then";
const BARN: &str =
    "the place of this CPU is taken and the barn's lock too, or the barn is full: by chance";
const NMI: &str =
    "its way in contexts that interrupt others, NMI above all, where breakpoints are off";
const EMPTY: &str = "a chain of no cache, which is never handed over";
const NULL: &str =
    "an object that is NULL, which the header's macros look for, or no kernel address";
const MEMORY: &str =
    "memory that is not there: the tests' hook, which comes just before, says so in its place";
const TRACED: &str = "its exit while the tracepoint is off, when it is not called";

/// Part of the mangled name, how many instructions of the function may be left, and why they are.
const LEFT: [(&str, usize, &str); 32] = [
    ("trace_raw_output_rcu_ptr_", 8, FULL),
    ("trace_event_raw_event_rcu_ptr_", 2, FULL),
    ("rcu_ptr_shim_trace_", 1, TRACED),
    ("rcu_ptr_shim_init_irq_work", 2, INIT),
    (
        "rcu_ptr_shim_warn_",
        1,
        "behind a warning, which is given once",
    ),
    ("rcu_ptr_rs_kfree_nolock", 1, NULL),
    ("rcu_ptr_rs_kvfree_mightsleep", 6, NULL),
    ("7sheaves5alloc4slow", 16, BARN),
    ("7sheaves4free4slow", 24, BARN),
    ("8exchange3Cpu8put_full", 14, NMI),
    ("8exchange3Cpu9put_empty", 14, NMI),
    ("7reclaimNtB2_5Ready", 8, EMPTY),
    ("12rcu_callback5entry", 1, EMPTY),
    (
        "11RefillTimer",
        6,
        "a refill put off for longer than a load takes",
    ),
    ("rcu_ptr_shim_current_block", 4, INIT),
    ("rcu_ptr_rs_param_set", 2, "text that is not written here"),
    ("rcu_ptr_rs_cache_create", 5, MEMORY),
    ("6Shrink5count", 4, LOOP),
    ("6Shrink4scan", 5, LOOP),
    ("5stats4show", 3, LOOP),
    ("7debugfs4show", 3, LOOP),
    ("SnapshotE4fill", 2, LOOP),
    ("12MonitorTimer", 2, LOOP),
    ("10RefillWork", 2, LOOP),
    ("11slow_nolock", 8, BARN),
    ("8lockless6insert5close", 4, RESCHED),
    ("3api6refuse", 2, RESCHED),
    ("14insert_or_link", 5, RESCHED),
    ("rcu_ptr_shim_preempt_check", 1, RESCHED),
    ("6creates_0", 40, MEMORY),
    ("13with_capacity", 6, MEMORY),
    (
        "7sheaves5stats6counts",
        7,
        "its start for the case of no CPU at all",
    ),
];

const DISABLED: &str = "a work item that is disabled, which none here is";

/// A function of the kernel, how many of its instructions may be left, and why they are.
const KERNEL: [(&str, usize, &str); 6] = [
    ("queue_delayed_work_on", 8, DISABLED),
    ("mod_delayed_work_on", 10, DISABLED),
    (
        "queue_rcu_work",
        12,
        "a work item that is disabled, which none here is, or that waits already",
    ),
    (
        "hrtimer_start_range_ns",
        18,
        "a timer that moves to another CPU just then, that is no longer the first, or whose trace event \
         is on",
    ),
    (
        "irq_work_queue",
        11,
        "another context queues the item just then, or a task has become ready",
    ),
    (
        "call_rcu",
        92,
        "callbacks in great numbers, without RCU watching, or for threads; a misuse that it warns of",
    ),
];

/// What is known of function `name` of the kernel.
pub(crate) fn of_kernel(name: &str) -> Option<Kind> {
    KERNEL
        .iter()
        .find(|(known, ..)| *known == name)
        .map(|&(_, most, reason)| Kind::Partly(reason, most))
}

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
        "__rcu_ptr_kvfree",
        "__rcu_ptr_kfree_nolock",
        "__rcu_ptr_try_kfree_nolock",
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
