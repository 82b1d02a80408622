// SPDX-License-Identifier: GPL-2.0

//! Threads that are joined before the call returns, and waiting.

use super::generated as sys;
use ::core::ptr;
use kernel::{
    bindings,
    error::from_err_ptr,
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// What the threads run, with the number of each.
type Body<'a> = dyn Fn(usize) + Sync + 'a;

struct Job<'a> {
    body: &'a Body<'a>,
    number: usize,
    /// A thread that is stopped before it began never begins.
    began: Atomic<i32>,
}

/// Runs `body(number)` in `count` threads, and `meanwhile` in this task. Returns when all are done.
///
/// # Context
///
/// May sleep.
///
/// # Errors
///
/// `ENOMEM`; then none has run.
pub(crate) fn together<R>(
    count: usize,
    body: &Body<'_>,
    meanwhile: impl FnOnce() -> R,
) -> Result<R> {
    let mut jobs = KVec::with_capacity(count, GFP_KERNEL)?;
    for number in 0..count {
        let began = Atomic::new(0);
        jobs.push(
            Job {
                body,
                number,
                began,
            },
            GFP_KERNEL,
        )?;
    }
    let mut tasks = KVec::with_capacity(count, GFP_KERNEL)?;
    for job in jobs.iter() {
        // SAFETY: `entry` gets a job that lives until the thread is stopped below; the format takes
        // the number that follows.
        let task = from_err_ptr(unsafe {
            bindings::kthread_create_on_node(
                Some(entry),
                ptr::from_ref(job).cast_mut().cast(),
                -1,
                c"rcu_ptr_torture/%d".as_char_ptr(),
                job.number as c_int,
            )
        });
        let Ok(task) = task else { break };
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
    // SAFETY: Threads of `together()` call it.
    unsafe { bindings::kthread_should_stop() }
}

/// No ordinary task gets the CPU from this thread from here on (`sched_set_fifo()`).
pub(crate) fn be_urgent() {
    // SAFETY: The current task is live.
    unsafe { bindings::sched_set_fifo(bindings::get_current()) };
}

/// Moves this thread to `cpu`, unless that is going down; -1: anywhere.
///
/// # Context
///
/// May sleep.
pub(crate) fn move_to(cpu: i32) {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_torture_move(cpu) };
}

/// Sleeps for at least `msecs` milliseconds.
///
/// # Context
///
/// May sleep.
pub(crate) fn sleep(msecs: u32) {
    // SAFETY: In process context.
    unsafe { bindings::msleep(msecs) };
}

/// Sleeps for `usecs` microseconds, on a timer of its own.
///
/// # Context
///
/// May sleep.
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

/// Lets others run.
///
/// # Context
///
/// May sleep.
pub(crate) fn cond_resched() {
    // SAFETY: In process context.
    unsafe { sys::rcu_ptr_torture_cond_resched() };
}

/// Whether a signal came for this task.
pub(crate) fn is_interrupted() -> bool {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_torture_interrupted() }
}

/// Nanoseconds of monotonic time.
///
/// # Context
///
/// Any, NMI included.
pub(crate) fn now() -> u64 {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_torture_now() }
}
