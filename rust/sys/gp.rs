// SPDX-License-Identifier: GPL-2.0

//! RCU grace periods: polled snapshots, and callbacks.
//!
//! C header: [`include/linux/rcupdate.h`](srctree/include/linux/rcupdate.h)
//!
//! # Context
//!
//! Functions that wait or reschedule: a task that may sleep. Snapshots and [`mb()`]: any, NMI
//! included.

use super::generated as sys;
use core::{cell::UnsafeCell, mem::MaybeUninit, ptr::NonNull};
use kernel::{
    bindings,
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
    time::{Instant, Monotonic},
};

#[allow(unused_imports, reason = "each module uses some")]
pub(crate) use kernel::{
    sync::rcu::{rcu_barrier as barrier, synchronize_rcu as synchronize},
    task::might_sleep,
    time::msecs_to_jiffies,
};

/// A snapshot that names a grace period (`struct rcu_gp_seq`).
#[derive(Clone, Copy)]
pub(crate) struct Snapshot(bindings::rcu_gp_seq);

impl Snapshot {
    /// Names the grace period that covers everything done before the call; a full memory barrier
    /// (`get_state_synchronize_rcu_full()`).
    #[inline]
    pub(crate) fn take() -> Self {
        let mut seq = MaybeUninit::uninit();
        // SAFETY: `seq` is valid for writes, and the function writes all of it.
        Self(unsafe {
            bindings::get_state_synchronize_rcu_full(seq.as_mut_ptr());
            seq.assume_init()
        })
    }

    /// Whether that grace period has ended (`poll_state_synchronize_rcu_full()`).
    pub(crate) fn is_over(&self) -> bool {
        let mut seq = self.0;
        // SAFETY: `seq` is a snapshot.
        unsafe { bindings::poll_state_synchronize_rcu_full(&mut seq) }
    }

    /// Whether both end at the same time (`same_state_synchronize_rcu_full()`). The
    /// expedited grace period has to be the same as well: callbacks are called after either, and
    /// one that was queued for the earlier of two does not wait for the later.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.0.norm == other.0.norm && self.0.exp == other.0.exp
    }

    /// Waits for the end of that grace period (`cond_synchronize_rcu_full()`).
    pub(crate) fn wait(mut self) {
        // SAFETY: It is a snapshot.
        unsafe { bindings::cond_synchronize_rcu_full(&mut self.0) };
    }

    /// The number of the grace period, for tracepoints.
    pub(crate) fn number(&self) -> usize {
        self.0.norm
    }
}

/// A snapshot in atomic words, which contexts may share.
pub(crate) struct SharedSnapshot {
    norm: Atomic<usize>,
    exp: Atomic<usize>,
}

impl SharedSnapshot {
    /// None taken.
    pub(crate) const fn new() -> Self {
        Self {
            norm: Atomic::new(0),
            exp: Atomic::new(0),
        }
    }

    /// As [`Snapshot::take()`].
    pub(crate) fn take(&self) {
        let Snapshot(seq) = Snapshot::take();
        self.norm.store(seq.norm, Relaxed);
        self.exp.store(seq.exp, Relaxed);
    }

    /// As [`Snapshot::is_over()`].
    pub(crate) fn is_over(&self) -> bool {
        let norm = self.norm.load(Relaxed);
        let exp = self.exp.load(Relaxed);
        Snapshot(bindings::rcu_gp_seq { norm, exp }).is_over()
    }
}

/// A full memory barrier (`smp_mb()`).
pub(crate) fn mb() {
    kernel::sync::barrier::smp_mb(kernel::sync::barrier::Full);
}

/// Waits for an expedited grace period.
pub(crate) fn synchronize_expedited() {
    // SAFETY: The callers may sleep, and hold no read-side lock here.
    unsafe { bindings::synchronize_rcu_expedited() };
}

/// Room for a `struct rcu_head`.
pub(crate) type RcuHead = UnsafeCell<[usize; 2]>;

const _: () = assert!(size_of::<RcuHead>() == size_of::<bindings::callback_head>());

/// A callback of call_rcu() or call_srcu().
pub(crate) trait Callback {
    /// Runs in softirq, or in a thread with softirqs disabled, on any CPU.
    ///
    /// # Safety
    ///
    /// `head` was queued with this type, and a grace period has passed since.
    unsafe fn run(head: NonNull<RcuHead>);
}

/// # Safety
///
/// As for [`Callback::run()`].
pub(super) unsafe extern "C" fn entry<C: Callback>(head: *mut bindings::callback_head) {
    if let Some(head) = NonNull::new(head.cast()) {
        // SAFETY: By the safety requirements of this function.
        unsafe { C::run(head) };
    }
}

/// Queues `C` to run after a grace period (`call_rcu_hurry()`: with CONFIG_RCU_LAZY, call_rcu() may
/// delay the request for one by ten seconds).
///
/// # Context
///
/// Any but NMI; the caller has not interrupted code of RCU, so interrupts were enabled.
///
/// # Safety
///
/// `head` stays valid, and is not accessed otherwise, until then.
pub(crate) unsafe fn call<C: Callback>(head: NonNull<RcuHead>) {
    // SAFETY: By the safety requirements of this function; the size was checked above.
    unsafe { sys::rcu_ptr_shim_call_rcu(head.as_ptr().cast(), Some(entry::<C>)) };
}

/// Calls `f`, which frees objects, as an RCU callback for lockdep (`rcu_callback_map`).
pub(crate) fn as_callback<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: No requirements; paired with the exit below.
    unsafe { sys::rcu_ptr_shim_callback_enter() };
    let ret = f();
    // SAFETY: Paired with the enter above.
    unsafe { sys::rcu_ptr_shim_callback_exit() };
    ret
}

/// `cond_resched_tasks_rcu_qs()`
pub(crate) fn cond_resched() {
    // SAFETY: The callers are in process context, as the doc asks.
    unsafe { sys::rcu_ptr_shim_cond_resched_rcu_qs() };
}

/// Sleeps for about a millisecond.
pub(crate) fn sleep_a_millisecond() {
    kernel::time::delay::fsleep(kernel::time::Delta::from_millis(1));
}

/// Waits until RCU is idle: threads and processes that have exited have queued their callbacks, and
/// these have run. Others may queue new ones.
pub(crate) fn idle() {
    kernel::time::delay::fsleep(kernel::time::Delta::from_millis(50));
    barrier();
}

/// The current length of a grace period, in milliseconds: the longest of three.
pub(crate) fn msecs() -> u32 {
    let once = |_| {
        let start = Instant::<Monotonic>::now();
        synchronize();
        start.elapsed().as_millis()
    };
    let longest = (0..3).map(once).max().unwrap_or(0);
    u32::try_from(longest).unwrap_or(u32::MAX).max(1)
}

/// A grace-period sequence number; those of consecutive grace periods differ by 4.
pub(crate) fn number() -> usize {
    Snapshot::take().number()
}
