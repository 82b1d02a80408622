// SPDX-License-Identifier: GPL-2.0

//! Kernel threads that are joined; the current task; sleeping.
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

/// The function of a thread, called with the number of its CPU or its own number.
type Body<'a> = dyn Fn(i32) + Sync + 'a;

struct Job<'a> {
    body: &'a Body<'a>,
    number: i32,
    /// A thread stopped before its first run never calls its function: wait for this first.
    began: Atomic<i32>,
}

/// Runs `body(cpu)` in a thread bound to each of `cpus`, and `meanwhile` in this task. Returns when
/// all have returned. KUnit assertions don't work in these threads: they count failures, the case
/// checks the counts.
///
/// # Errors
///
/// `ENOMEM`; then no thread has run.
pub(crate) fn on_cpus<R>(
    cpus: impl Iterator<Item = i32>,
    body: &Body<'_>,
    meanwhile: impl FnOnce() -> R,
) -> Result<R> {
    run(cpus, true, body, meanwhile)
}

/// As [`on_cpus()`], in `count` threads that are not bound.
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
        // SAFETY: `entry` gets a job that lives until the thread is stopped below; the format takes
        // the name of this module and the number.
        let task = from_err_ptr(unsafe {
            bindings::kthread_create_on_node(
                Some(entry),
                ptr::from_ref(job).cast_mut().cast(),
                -1,
                c"%s/%d".as_char_ptr(),
                crate::__LOG_PREFIX.as_ptr(),
                job.number,
            )
        });
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

/// Whether `meanwhile` has returned, so this thread has to return.
pub(crate) fn should_stop() -> bool {
    // SAFETY: Threads of `on_cpus()` and `together()` call it.
    unsafe { bindings::kthread_should_stop() }
}

/// A thread of [`on_cpus()`] that can be migrated while it runs.
///
/// # Invariants
///
/// The pointer is null or a thread in [`Movable::during()`].
pub(crate) struct Movable(Atomic<*mut c_void>);

impl Movable {
    /// No thread.
    pub(crate) const fn new() -> Self {
        // INVARIANT: Null.
        Self(Atomic::new(ptr::null_mut()))
    }

    /// Calls `f`, and allows to migrate this thread meanwhile.
    pub(crate) fn during(&self, f: impl FnOnce()) {
        // SAFETY: No requirements.
        let task = unsafe { bindings::get_current() }.cast();
        // INVARIANT: This thread is inside.
        self.0.store(task, Relaxed);
        f();
        self.0.store(ptr::null_mut(), Relaxed);
    }

    /// Migrates the thread, if there is one, to `cpu`. Returns whether it did.
    ///
    /// # Context
    ///
    /// May sleep; in the `meanwhile` of [`on_cpus()`].
    pub(crate) fn move_to(&self, cpu: i32) -> bool {
        let task = self.0.load(Relaxed);
        // SAFETY: Threads live until `meanwhile` has returned, even if this one has left `during()`
        // by now.
        !task.is_null() && unsafe { sys::rcu_ptr_shim_move(task.cast(), cpu) }
    }
}

/// Binds this task to its current CPU.
pub(crate) fn stay_here() {
    move_to(super::cpu::this());
}

/// Binds this task to `cpu`, unless that is going down; -1: to any CPU.
pub(crate) fn move_to(cpu: i32) {
    // SAFETY: The current task is live.
    unsafe { sys::rcu_ptr_shim_move(bindings::get_current(), cpu) };
}

/// Sleeps for at least `msecs` milliseconds.
pub(crate) fn sleep(msecs: u32) {
    // SAFETY: Tests and their threads may sleep.
    unsafe { bindings::msleep(msecs) };
}

/// Sleeps for `usecs` microseconds, by an hrtimer.
pub(crate) fn sleep_us(usecs: u32) {
    let usecs = usecs as c_ulong;
    // SAFETY: In process context.
    unsafe { bindings::usleep_range_state(usecs, usecs, bindings::TASK_UNINTERRUPTIBLE) };
}

/// Makes this task a FIFO task, so that ordinary tasks and kworkers do not preempt it
/// (`sched_set_fifo()`).
pub(crate) fn set_fifo() {
    // SAFETY: The current task is live.
    unsafe { bindings::sched_set_fifo(bindings::get_current()) };
}

/// Gives this task the lowest priority of ordinary tasks (`set_user_nice()`).
pub(crate) fn set_nice() {
    // SAFETY: The current task is live.
    unsafe { bindings::set_user_nice(bindings::get_current(), 19) };
}

/// Calls `f` as memory reclaim, for lockdep.
pub(crate) fn as_reclaim<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: Paired with the end below, by the same task, which may sleep.
    unsafe { sys::rcu_ptr_shim_reclaim_begin() };
    let ret = f();
    // SAFETY: As above.
    unsafe { sys::rcu_ptr_shim_reclaim_end() };
    ret
}

/// [`cond_resched()`] for a task that others wait for, which resets the detector of hung tasks.
pub(crate) fn still_alive() {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_shim_not_hung() };
    cond_resched();
}

/// Waits until `done` returns `true`, for at most `msecs` milliseconds. Returns its result.
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

/// Nanoseconds of monotonic time, in any context; may differ from [`now()`] by the clock adjustment
/// of a tick.
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
