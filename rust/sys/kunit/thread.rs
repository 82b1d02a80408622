// SPDX-License-Identifier: GPL-2.0

//! Threads of a test, bound to CPUs and joined before the call returns; and waiting.

use super::generated as sys;
use ::core::ptr;
use kernel::{
    bindings,
    error::from_err_ptr,
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// What a thread runs.
struct Job<'a> {
    body: &'a (dyn Fn(i32) + Sync),
    cpu: i32,
    /// A thread that is stopped before it began never begins.
    began: Atomic<i32>,
}

/// Runs `body(cpu)` in a thread bound to each of `cpus`, and `meanwhile` in this task. Returns when
/// all are done. Threads are not KUnit's: they count, and the test asserts.
///
/// # Context
///
/// May sleep.
pub(crate) fn on_cpus<R>(
    cpus: impl Iterator<Item = i32>,
    body: &(dyn Fn(i32) + Sync),
    meanwhile: impl FnOnce() -> R,
) -> Result<R> {
    let mut jobs = KVec::new();
    for cpu in cpus {
        let began = Atomic::new(0);
        jobs.push(Job { body, cpu, began }, GFP_KERNEL)?;
    }
    let mut tasks = KVec::with_capacity(jobs.len(), GFP_KERNEL)?;
    for job in jobs.iter() {
        // SAFETY: `entry` gets a job that lives until the thread is stopped below; the format takes
        // the number that follows.
        let task = from_err_ptr(unsafe {
            bindings::kthread_create_on_node(
                Some(entry),
                ptr::from_ref(job).cast_mut().cast(),
                -1,
                c"rcu_ptr_kunit/%d".as_char_ptr(),
                job.cpu,
            )
        });
        let Ok(task) = task else { break };
        // SAFETY: Just made, not started yet.
        unsafe { bindings::kthread_bind(task, job.cpu as c_uint) };
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
    (job.body)(job.cpu);
    while !should_stop() {
        sleep(1);
    }
    0
}

/// Whether the test has come to the end of its `meanwhile` and waits for this thread.
pub(crate) fn should_stop() -> bool {
    // SAFETY: Threads of `on_cpus()` call it.
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
        let task = unsafe { sys::rcu_ptr_kunit_current() };
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
        !task.is_null() && unsafe { sys::rcu_ptr_kunit_move(task, cpu) }
    }
}

/// Keeps this task, which is the test's own, on the CPU where it is.
pub(crate) fn stay_here() {
    stay_on(super::cpu::this());
}

/// Has this task, which is the test's own, run on `cpu`, which is online: its timers expire there.
pub(crate) fn stay_on(cpu: i32) {
    // SAFETY: No requirements; the CPU is online.
    unsafe { sys::rcu_ptr_kunit_move(sys::rcu_ptr_kunit_current(), cpu) };
}

/// Sleeps for at least `msecs` milliseconds.
pub(crate) fn sleep(msecs: u32) {
    // SAFETY: Tests and their threads may sleep.
    unsafe { bindings::msleep(msecs) };
}

/// No ordinary task gets the CPU from this one from here on, a kworker neither (`sched_set_fifo()`).
pub(crate) fn be_urgent() {
    // SAFETY: Threads of `on_cpus()` call it; the current task is live.
    unsafe { bindings::sched_set_fifo(bindings::get_current()) };
}

/// Waits for an expedited grace period.
pub(crate) fn synchronize_expedited() {
    // SAFETY: Tests and their threads may sleep, and hold no read-side lock here.
    unsafe { bindings::synchronize_rcu_expedited() };
}

/// Waits for a grace period.
pub(crate) fn synchronize() {
    // SAFETY: Tests and their threads may sleep, and hold no read-side lock here.
    unsafe { bindings::synchronize_rcu() };
}

/// Waits until no grace period is under way, and no callback waits for one, but what others begin
/// meanwhile: threads and processes that have ended have brought theirs.
///
/// # Context
///
/// May sleep.
pub(crate) fn rcu_idle() {
    sleep(50);
    // SAFETY: Tests and their threads may sleep, and hold no read-side lock here.
    unsafe { bindings::rcu_barrier() };
}

/// How many milliseconds a grace period takes at the moment: the longest of three.
///
/// # Context
///
/// May sleep.
pub(crate) fn gp_msecs() -> u32 {
    let once = |_| {
        let start = now();
        synchronize();
        now() - start
    };
    let longest = (0..3).map(once).max().unwrap_or(0);
    u32::try_from(longest / 1_000_000)
        .unwrap_or(u32::MAX)
        .max(1)
}

/// Calls `f` as memory reclaim does, as far as lockdep can tell.
pub(crate) fn as_reclaim<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: Paired with the end below, by the same task, which may sleep.
    unsafe { sys::rcu_ptr_kunit_reclaim_begin() };
    let ret = f();
    // SAFETY: As above.
    unsafe { sys::rcu_ptr_kunit_reclaim_end() };
    ret
}

/// Lets others run, and tells the detector of hung tasks that a task that waits for this test waits for
/// something that is alive.
pub(crate) fn cond_resched() {
    // SAFETY: No requirements.
    unsafe { sys::rcu_ptr_kunit_not_hung() };
    // SAFETY: Tests and their threads may sleep.
    unsafe { sys::rcu_ptr_kunit_cond_resched() };
}

/// Waits until `done` says so, `msecs` at most. Returns whether it did.
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

/// Nanoseconds of monotonic time.
pub(crate) fn now() -> i64 {
    // SAFETY: No requirements.
    unsafe { bindings::ktime_get() }
}

/// A grace-period sequence number: two grace periods are 4 apart or so; see
/// `get_state_synchronize_rcu_full()`.
pub(crate) fn gp_number() -> usize {
    let mut seq = bindings::rcu_gp_seq::default();
    // SAFETY: `seq` is valid for writes.
    unsafe { bindings::get_state_synchronize_rcu_full(&mut seq) };
    seq.norm
}
