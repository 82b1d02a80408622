// SPDX-License-Identifier: GPL-2.0

//! What a case does on one CPU: something in a thread there, a wait that keeps it, and taking it down for a while.
//! What has no other context may sleep.

use crate::sys::{
    cpu::{self, Moment},
    thread,
};
use ::core::{iter, mem};
use kernel::{new_mutex, prelude::*};

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

/// The first CPU that is online.
pub(crate) fn first() -> i32 {
    cpu::online().next().unwrap_or(0)
}

/// Keeps the CPU until `done`, `nsecs` at most. Returns whether it came to that.
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

/// A CPU that is down, and comes up at the latest when this is dropped.
pub(crate) struct Down(i32);

impl Down {
    /// Takes `cpu` down.
    pub(crate) fn take(cpu: i32) -> Result<Self> {
        cpu::take_down(cpu).map(|()| Self(cpu))
    }

    /// The same, and calls `body` at that `moment`.
    ///
    /// # Context
    ///
    /// May sleep. One caller at a time.
    pub(crate) fn take_with(cpu: i32, moment: Moment, body: &(dyn Fn() + Sync)) -> Result<Self> {
        let body = || {
            body();
            Ok(())
        };
        cpu::on_the_way_down(moment, &body, || Self::take(cpu))?
    }

    /// Brings it up.
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
