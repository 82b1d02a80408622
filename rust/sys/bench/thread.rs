// SPDX-License-Identifier: GPL-2.0

//! Kernel threads that are bound to a CPU and waited for.
//!
//! C header: [`include/linux/kthread.h`](srctree/include/linux/kthread.h)

use super::generated as sys;
use kernel::{
    bindings,
    error::from_err_ptr,
    prelude::*,
    sync::{Arc, Completion},
};

/// A running thread; [`Thread::join()`] waits for it.
pub(crate) struct Thread {
    task: *mut bindings::task_struct,
    done: Arc<Completion>,
}

/// # Safety
///
/// `argument` comes from `KBox::into_raw()` of a `KBox<F>` that is not shared.
unsafe extern "C" fn entry<F: FnOnce() -> Result + Send>(argument: *mut c_void) -> c_int {
    // SAFETY: By the safety requirements of this function.
    let f = unsafe { KBox::<F>::from_raw(argument.cast()) };
    let ret = KBox::into_inner(f)();
    ret.map_or_else(|e| e.to_errno(), |()| 0)
}

impl Thread {
    /// Starts `f` on `cpu`, with the nice value `nice`.
    ///
    /// # Context
    ///
    /// May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EINTR`.
    pub(crate) fn spawn<F>(cpu: i32, nice: i32, f: F) -> Result<Self>
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        let done = Arc::pin_init(Completion::new(), GFP_KERNEL)?;
        let signal = done.clone();
        let whole = move || {
            let ret = f();
            signal.complete_all();
            ret
        };
        Self::start(cpu, nice, whole).map(|task| Self { task, done })
    }

    fn start<F>(cpu: i32, nice: i32, f: F) -> Result<*mut bindings::task_struct>
    where
        F: FnOnce() -> Result + Send + 'static,
    {
        let argument = KBox::into_raw(KBox::new(f, GFP_KERNEL)?);
        // SAFETY: `entry` fits the argument; the format has one number, which follows.
        let task = from_err_ptr(unsafe {
            sys::kthread_create_on_node(
                Some(entry::<F>),
                argument.cast(),
                -1,
                c"rcu_ptr_bench/%d".as_char_ptr(),
                cpu,
            )
        })
        .inspect_err(|_| {
            // SAFETY: The thread that would own it does not exist.
            drop(unsafe { KBox::from_raw(argument) });
        })?;
        // SAFETY: `task` is a new thread that has not run yet; the reference is for `join()`.
        unsafe {
            bindings::get_task_struct(task);
            sys::kthread_bind(task, cpu as c_uint);
            sys::set_user_nice(task, nice as c_long);
            bindings::wake_up_process(task);
        }
        Ok(task)
    }

    /// Waits until the thread has ended. Returns what it returned.
    ///
    /// # Context
    ///
    /// May sleep.
    pub(crate) fn join(self) -> Result {
        // A thread that is stopped before it began would never run.
        self.done.wait_for_completion();
        // SAFETY: `spawn()` took a reference, which is given back here.
        let ret = unsafe {
            let ret = sys::kthread_stop(self.task);
            bindings::put_task_struct(self.task);
            ret
        };
        kernel::error::to_result(ret)
    }
}

/// Runs `f` on `cpu` and waits for it.
///
/// # Context
///
/// May sleep.
pub(crate) fn on_cpu<F>(cpu: i32, f: F) -> Result
where
    F: FnOnce() -> Result + Send + 'static,
{
    Thread::spawn(cpu, 0, f)?.join()
}
