// SPDX-License-Identifier: GPL-2.0

//! Taking an object in any context, NMI included (`kfree_rcu_nolock()` of the cover letter's part
//! 3).
//!
//! ```text
//!  trylock ── taken ──> list channel, no block used, no refill started
//!     │                 monitor not armed yet: a lazy irq_work arms it
//!     └─ held ───────> deferred list ── irq_work ──> the ordinary path
//! ```
//!
//! The lock is held where this CPU was interrupted inside the engine, or where another CPU works on
//! this one's objects for a moment. Where kmemleak or debugobjects are in the kernel every object
//! takes the second way, as they take locks themselves. So it does without CONFIG_SMP, where a
//! spinlock can't tell that it is held.

use super::{
    krcp::{Krcp, KrcpRef},
    monitor, queue, refill,
    state::{Monitor, State},
    Rcu, Rfc,
};
use crate::sys::{
    debug::{self, Misuse},
    gp,
    irq::IrqsOff,
    trace,
    work::Handler,
};
use core::ptr::NonNull;

/// Objects moved from the deferred list in one go, with interrupts off.
const BUDGET: usize = 64;

const ALWAYS_DEFER: bool = cfg!(any(
    CONFIG_DEBUG_KMEMLEAK,
    CONFIG_DEBUG_OBJECTS_RCU_HEAD,
    not(CONFIG_SMP)
));

/// Queues `object` through its `field`.
///
/// # Context
///
/// Any, NMI included.
///
/// # Safety
///
/// As for [`queue::queue()`].
#[inline]
pub(super) unsafe fn queue(rfc: &Rfc, object: NonNull<u8>, field: NonNull<u8>, caller: usize) {
    let irqs = IrqsOff::save();
    let krcp = rfc.krc.this(&irqs);
    let locked = if ALWAYS_DEFER {
        None
    } else {
        krcp.try_lock(&irqs)
    };
    match locked {
        Some(mut state) => {
            // SAFETY: By the safety requirements of this function.
            unsafe { state.push_list(object, field) };
            state.stats.queued_nolock += 1;
            // Timers can't be set from NMI.
            if monitor::is_late(&state) {
                state.monitor = Monitor::Arming;
                krcp.arm_work.queue(&irqs);
            }
            drop(state);
            trace::queue(trace::ENGINE_RFC, trace::CHANNEL_LIST, object, caller);
        }
        None => {
            // Before the push: afterwards the object may be gone.
            trace::queue(trace::ENGINE_RFC, trace::CHANNEL_DEFERRED, object, caller);
            trace::defer(krcp.cpu, trace::DEFER_OBJECT, 1);
            // SAFETY: By the safety requirements of this function.
            let was_empty = unsafe { krcp.deferred.push(object, field) };
            // Otherwise who pushed first has queued it, or whoever takes the list hasn't been here.
            if was_empty {
                krcp.defer_work.queue(&irqs);
            }
        }
    }
}

/// Queues `object`, which has no field, if the lock is free and a block has room or is cached.
///
/// Where kmemleak or debugobjects are in the kernel there is never room: they have to be told, and
/// without a field the object can't wait for somebody who does.
///
/// # Context
///
/// Any, NMI included.
///
/// # Safety
///
/// `object` is live and the caller's to free.
pub(super) unsafe fn try_queue(rfc: &Rfc, object: NonNull<u8>, caller: usize) -> bool {
    if ALWAYS_DEFER {
        return false;
    }
    let irqs = IrqsOff::save();
    let krcp = rfc.krc.this(&irqs);
    let Some(mut state) = krcp.try_lock(&irqs) else {
        return false;
    };
    let channel = queue::channel_of(object);
    if !state.push_bulk(channel, object) {
        return false;
    }
    if monitor::is_late(&state) {
        state.monitor = Monitor::Arming;
        krcp.arm_work.queue(&irqs);
    }
    drop(state);
    trace::queue(
        trace::ENGINE_RFC,
        queue::trace_channel(channel),
        object,
        caller,
    );
    true
}

/// Arms the monitor for what came in NMI.
pub(super) struct ArmWork(pub(super) KrcpRef);

impl Handler for ArmWork {
    fn run(&self) {
        self.0.with(|state| monitor::arm(&self.0, state));
    }
}

/// Takes the deferred objects over, a bounded number here and the rest in a worker.
pub(super) struct DeferWork(pub(super) KrcpRef);

impl Handler for DeferWork {
    fn run(&self) {
        if drain_some(&self.0) {
            self.0.defer_rest.queue(&self.0.wq, 0);
        }
    }
}

/// The worker for the rest.
pub(super) struct DeferRest(pub(super) KrcpRef);

impl Handler for DeferRest {
    fn run(&self) {
        drain(&self.0);
    }
}

/// Moves all deferred objects of `krcp` to the ordinary path.
///
/// # Context
///
/// May sleep.
pub(super) fn drain(krcp: &Krcp) {
    while drain_some(krcp) {
        gp::cond_resched();
    }
}

/// Moves up to [`BUDGET`] deferred objects. Returns whether there are more.
///
/// # Context
///
/// Any but NMI.
fn drain_some(krcp: &Krcp) -> bool {
    krcp.with(|state| {
        for _ in 0..BUDGET {
            if state.deferred.is_empty() {
                state.deferred = krcp.deferred.take();
            }
            let Some((object, field)) = state.deferred.pop() else {
                return false;
            };
            if !debug::queue(object) {
                // Queued twice, so the links behind it are those of another list by now: they are
                // lost, as the object is.
                debug::warn(Misuse::Double, object.as_ptr(), field.as_ptr(), 0);
                state.stats.leaked += 1;
                state.deferred = super::list::Chain::new();
                continue;
            }
            take_over(krcp, state, object, field);
        }
        !state.deferred.is_empty()
    })
}

fn take_over(krcp: &Krcp, state: &mut State<Rcu>, object: NonNull<u8>, field: NonNull<u8>) {
    debug::kmemleak_ignore(object);
    state.stats.deferred += 1;
    if !state.push_bulk(queue::channel_of(object), object) {
        // SAFETY: The contract of `queue()`, under which the object was pushed.
        unsafe { state.push_list(object, field) };
        refill::start(krcp, state);
    }
    monitor::arm(krcp, state);
}
