// SPDX-License-Identifier: GPL-2.0

//! Threads that are joined before the call returns, or later; the current task; waiting.
//!
//! C header: [`include/linux/kthread.h`](srctree/include/linux/kthread.h)
//!
//! # Context
//!
//! A task that may sleep, unless a function says otherwise.

use super::generated as sys;
pub(crate) use super::gp::cond_resched;
use ::core::ptr;
use kernel::{
    bindings,
    error::from_err_ptr,
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// What a thread runs, with the number of its CPU, or its own.
type Body<'a> = dyn Fn(i32) + Sync + 'a;

struct Job<'a> {
    body: &'a Body<'a>,
    number: i32,
    /// A thread that is stopped before it began never begins.
    began: Atomic<i32>,
}

/// Makes a thread with the name of this module and a number; it does not run yet.
///
/// # Safety
///
/// `entry` may be called with `data`.
unsafe fn create(
    entry: unsafe extern "C" fn(*mut c_void) -> c_int,
    data: *mut c_void,
    number: i32,
) -> Result<*mut bindings::task_struct> {
    // SAFETY: By the safety requirements of this function; the format takes what follows.
    from_err_ptr(unsafe {
        bindings::kthread_create_on_node(
            Some(entry),
            data,
            -1,
            c"%s/%d".as_char_ptr(),
            crate::__LOG_PREFIX.as_ptr(),
            number,
        )
    })
}

/// Runs `body(cpu)` in a thread bound to each of `cpus`, and `meanwhile` in this task. Returns when
/// all are done. Threads are not KUnit's: they count, and the test asserts.
///
/// # Errors
///
/// `ENOMEM`; then none has run.
pub(crate) fn on_cpus<R>(
    cpus: impl Iterator<Item = i32>,
    body: &Body<'_>,
    meanwhile: impl FnOnce() -> R,
) -> Result<R> {
    run(cpus, true, body, meanwhile)
}

/// As [`on_cpus()`], in `count` threads that run anywhere.
pub(crate) fn together<R>(
    count: usize,
    body: &Body<'_>,
    meanwhile: impl FnOnce() -> R,
) -> Result<R> {
    run(0..count as i32, false, body, meanwhile)
}

fn run<R>(
    numbers: impl Iterator<Item = i32>,
    bound: bool,
    body: &Body<'_>,
    meanwhile: impl FnOnce() -> R,
) -> Result<R> {
    let mut jobs = KVec::new();
    for number in numbers {
        let began = Atomic::new(0);
        let job = Job {
            body,
            number,
            began,
        };
        jobs.push(job, GFP_KERNEL)?;
    }
    let mut tasks = KVec::with_capacity(jobs.len(), GFP_KERNEL)?;
    for job in jobs.iter() {
        // SAFETY: `entry` gets a job that lives until the thread is stopped below.
        let task = unsafe { create(entry, ptr::from_ref(job).cast_mut().cast(), job.number) };
        let Ok(task) = task else { break };
        if bound {
            // SAFETY: Just made, not started yet.
            unsafe { bindings::kthread_bind(task, job.number as c_uint) };
        }
        tasks.push(task, GFP_KERNEL)?;
    }
    let all = tasks.len() == jobs.len();
    if all {
        for &task in tasks.iter() {
            // SAFETY: The thread lives until it is stopped.
            unsafe { bindings::wake_up_process(task) };
        }
    }
    let ret = all.then(meanwhile);
    while all && jobs.iter().any(|job| job.began.load(Relaxed) == 0) {
        sleep(1);
    }
    for &task in tasks.iter() {
        // SAFETY: The thread ends only after this; waits for it.
        unsafe { bindings::kthread_stop(task) };
    }
    ret.ok_or(ENOMEM)
}

/// # Safety
///
/// `job` is a [`Job`] that lives until the thread is stopped.
unsafe extern "C" fn entry(job: *mut c_void) -> c_int {
    // SAFETY: By the safety requirements of this function.
    let job = unsafe { &*job.cast::<Job<'_>>() };
    job.began.store(1, Relaxed);
    (job.body)(job.number);
    while !should_stop() {
        sleep(1);
    }
    0
}

/// Whether `meanwhile` is over and this thread is waited for.
pub(crate) fn should_stop() -> bool {
    // SAFETY: Threads of `on_cpus()` and `together()` call it.
    unsafe { bindings::kthread_should_stop() }
}

/// A thread of [`on_cpus()`] that others may move to another CPU, whatever it is at.
///
/// # Invariants
///
/// The pointer is null or a thread that is inside of [`Movable::during()`].
pub(crate) struct Movable(Atomic<*mut c_void>);

impl Movable {
    /// No thread.
    pub(crate) const fn new() -> Self {
        // INVARIANT: Null.
        Self(Atomic::new(ptr::null_mut()))
    }

    /// Calls `f` while this thread may be moved.
    pub(crate) fn during(&self, f: impl FnOnce()) {
        // SAFETY: No requirements.
        let task = unsafe { bindings::get_current() }.cast();
        // INVARIANT: This thread is inside.
        self.0.store(task, Relaxed);
        f();
        self.0.store(ptr::null_mut(), Relaxed);
    }

    /// Moves the thread to `cpu`, if there is one. Returns whether it did.
    ///
    /// # Context
    ///
    /// May sleep; in the `meanwhile` of [`on_cpus()`].
    pub(crate) fn move_to(&self, cpu: i32) -> bool {
        let task = self.0.load(Relaxed);
        // SAFETY: Threads live until `meanwhile` has returned, though it may have left by now.
        !task.is_null() && unsafe { sys::rcu_ptr_shim_move(task.cast(), cpu) }
    }
}

/// Keeps this task on the CPU where it is.
pub(crate) fn stay_here() {
    move_to(super::cpu::this());
}

/// Has this task run on `cpu`, unless that is going down, and its timers expire there; -1:
/// anywhere.
pub(crate) fn move_to(cpu: i32) {
    // SAFETY: The current task is live.
    unsafe { sys::rcu_ptr_shim_move(bindings::get_current(), cpu) };
}

/// Sleeps for at least `msecs` milliseconds.
pub(crate) fn sleep(msecs: u32) {
    // SAFETY: Tests and their threads may sleep.
    unsafe { bindings::msleep(msecs) };
}

/// Sleeps for `usecs` microseconds, on a timer of its own.
pub(crate) fn sleep_us(usecs: u32) {
    // SAFETY: In process context.
    unsafe {
        bindings::usleep_range_state(
            usecs as c_ulong,
            usecs as c_ulong,
            bindings::TASK_UNINTERRUPTIBLE,
        )
    };
}

/// Whether a signal came for this task.
pub(crate) fn is_interrupted() -> bool {
    // SAFETY: The current task is live.
    unsafe { bindings::signal_pending(bindings::get_current()) != 0 }
}

/// No ordinary task gets the CPU from this one from here on, a kworker neither
/// (`sched_set_fifo()`).
pub(crate) fn set_fifo() {
    // SAFETY: The current task is live.
    unsafe { bindings::sched_set_fifo(bindings::get_current()) };
}

/// Ordinary tasks go first from here on (`set_user_nice()`).
pub(crate) fn set_nice() {
    // SAFETY: The current task is live.
    unsafe { bindings::set_user_nice(bindings::get_current(), 19) };
}

/// Calls `f` as memory reclaim does, as far as lockdep can tell.
pub(crate) fn as_reclaim<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: Paired with the end below, by the same task, which may sleep.
    unsafe { sys::rcu_ptr_shim_reclaim_begin() };
    let ret = f();
    // SAFETY: As above.
    unsafe { sys::rcu_ptr_shim_reclaim_end() };
    ret
}

/// The same, and tells the detector of hung tasks that a task that waits for this one waits for
/// something that is alive.
pub(crate) fn still_alive() {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_shim_not_hung() };
    cond_resched();
}

/// Waits until `done` returns `true`, `msecs` at most. Returns whether it did.
pub(crate) fn wait_for(msecs: u32, mut done: impl FnMut() -> bool) -> bool {
    let start = now();
    while now() - start < i64::from(msecs) * 1_000_000 {
        if done() {
            return true;
        }
        sleep(2);
    }
    done()
}

/// Nanoseconds of monotonic time, in NMI too; against [`now()`] it may be off by a tick's
/// correction.
pub(crate) fn now_in_nmi() -> u64 {
    // SAFETY: No requirements.
    unsafe { bindings::ktime_get_mono_fast_ns() }
}

/// Nanoseconds of monotonic time.
///
/// # Context
///
/// Any but NMI.
pub(crate) fn now() -> i64 {
    // SAFETY: No requirements.
    unsafe { bindings::ktime_get() }
}
