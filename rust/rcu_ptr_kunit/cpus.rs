// SPDX-License-Identifier: GPL-2.0

//! Running something on a given CPU, or beside the test on all; hogging a CPU; taking one down.
//! Functions may sleep unless they say otherwise.

use crate::sys::{
    cpu::{self, DownStep},
    thread,
};
use ::core::{iter, mem};
use kernel::{
    new_mutex,
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// Calls `f` in a thread on `cpu`, and returns what it returned.
pub(crate) fn on<R: Send + Unpin>(cpu: i32, f: impl FnOnce() -> R + Send + Unpin) -> Result<R> {
    let job = KBox::pin_init(new_mutex!((Some(f), None)), GFP_KERNEL)?;
    let body = |_: i32| {
        let f = job.lock().0.take();
        let ret = f.map(|f| f());
        job.lock().1 = ret;
    };
    thread::on_cpus(iter::once(cpu), &body, || ())?;
    let ret = job.lock().1.take();
    ret.ok_or(EINVAL)
}

/// The first online CPU.
pub(crate) fn first() -> i32 {
    cpu::online().next().unwrap_or(0)
}

/// Busy-waits for `done`, at most `nsecs` nanoseconds. Returns whether it became true.
///
/// # Context
///
/// Any but NMI.
pub(crate) fn spin(nsecs: i64, done: impl Fn() -> bool) -> bool {
    let end = thread::now() + nsecs;
    while !done() {
        if thread::now() >= end {
            return false;
        }
        ::core::hint::spin_loop();
    }
    true
}

/// Calls `f` with each of `turns`, and reschedules now and then.
pub(crate) fn repeat(turns: impl Iterator<Item = usize>, mut f: impl FnMut(usize)) {
    for i in turns {
        f(i);
        if i % 64 == 63 {
            thread::still_alive();
        }
    }
}

/// Calls `turn` again and again, in a thread on each of `cpus`, until `f` has returned. `turn` gets
/// its CPU and the number of calls before.
pub(crate) fn meanwhile<R>(
    cpus: impl Iterator<Item = i32>,
    turn: &(dyn Fn(i32, usize) + Sync),
    f: impl FnOnce() -> R,
) -> Result<R> {
    let stop = Atomic::<i32>::new(0);
    let body = |cpu: i32| {
        let turns = (0..).take_while(|_| stop.load(Relaxed) == 0);
        repeat(turns, |i| turn(cpu, i));
    };
    thread::on_cpus(cpus, &body, || {
        let ret = f();
        stop.store(1, Relaxed);
        ret
    })
}

/// Runs `task` as a FIFO task on `cpu`, and `f` on another one. `task` gets a function that spins
/// until `f` has returned: no other task of `cpu` runs meanwhile.
pub(crate) fn hogged<R>(
    cpu: i32,
    task: &(dyn Fn(&dyn Fn()) + Sync),
    f: impl FnOnce() -> R,
) -> Result<R> {
    // On PREEMPT_RT timers expire in a thread of the CPU that armed them.
    thread::move_to(0);
    let body = |_: i32| {
        thread::set_fifo();
        task(&|| {
            spin(i64::MAX / 2, thread::should_stop);
        });
    };
    thread::on_cpus(iter::once(cpu), &body, f)
}

/// An offline CPU, which is brought up when this is dropped.
pub(crate) struct Down(i32);

impl Down {
    /// Takes `cpu` down.
    pub(crate) fn take(cpu: i32) -> Result<Self> {
        cpu::take_down(cpu).map(|()| Self(cpu))
    }

    /// Takes `cpu` down, and calls `body` on it at that `moment`.
    ///
    /// # Context
    ///
    /// May sleep. One caller at a time.
    pub(crate) fn take_with(cpu: i32, moment: DownStep, body: &(dyn Fn() + Sync)) -> Result<Self> {
        let body = || {
            body();
            Ok(())
        };
        cpu::at_down_step(moment, &body, || Self::take(cpu))?
    }

    /// Brings the CPU up.
    pub(crate) fn up(self) -> Result {
        let cpu = self.0;
        mem::forget(self);
        cpu::bring_up(cpu)
    }
}

impl Drop for Down {
    fn drop(&mut self) {
        if cpu::bring_up(self.0).is_err() {
            pr_err!("CPU {} stays down\n", self.0);
        }
    }
}
