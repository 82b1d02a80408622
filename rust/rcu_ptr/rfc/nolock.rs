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
    arm::Call,
    krcp::{Krcp, KrcpRef},
    list::{DeferredList, Pushed},
    monitor,
    queue::{self, refill_for, told, twice},
    refill,
    state::Push,
    takeover::{self, Deferred, Progress, Takeover},
    Rfc,
};
use crate::sys::{debug, gp, irq::IrqsOff, trace, work::Handler};
use core::ptr::NonNull;
use kernel::sync::atomic::Relaxed;

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
    if let Some(mut state) = locked {
        // SAFETY: By the safety requirements of this function.
        let pushed = unsafe { state.push_list(object, field) };
        state.stats.queued_nolock += u64::from(pushed == Push::List);
        let call = state.call(Call::No);
        drop(state);
        krcp.call(call, &irqs);
        return told(
            &krcp,
            pushed,
            queue::channel_of(object),
            object,
            field,
            caller,
        );
    }
    // Before the push: afterwards the object may be gone.
    trace::queue(trace::ENGINE_RFC, trace::CHANNEL_DEFERRED, object, caller);
    trace::defer(krcp.cpu, trace::DEFER_OBJECT, 1);
    // SAFETY: By the safety requirements of this function.
    match unsafe { krcp.deferred.push(object, field) } {
        Pushed::First => krcp.defer_work.queue(&irqs),
        // Who pushed first has queued it, or whoever takes the list hasn't been here.
        Pushed::Another => {}
        Pushed::Twice => twice(&krcp, object, field, caller),
    }
}

/// Queues `object`, which has no field, if the lock is free and a block has room or is cached. Where
/// none has, the next tick starts a refill: no other call need come.
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
    let pushed = state.push_bulk(channel, object);
    let call = state.call(refill_for(pushed).min(Call::Lazy));
    drop(state);
    krcp.call(call, &irqs);
    told(&krcp, pushed, channel, object, object, caller);
    pushed != Push::Full
}

impl Krcp {
    /// Queues the irq_work that [`State::call()`](super::state::State::call) wants: others on this CPU
    /// count on it.
    ///
    /// # Context
    ///
    /// Any, NMI included, on the CPU of this krcp; the lock is not held.
    #[inline]
    pub(super) fn call(&self, call: Call, irqs: &IrqsOff) {
        match call {
            Call::No => {}
            Call::Lazy => self.arm_work.queue(irqs),
            Call::Now => self.defer_work.queue(irqs),
        }
    }

    /// Does what [`Self::call()`] called for.
    ///
    /// # Context
    ///
    /// The handler of an irq_work.
    fn answer(&self) {
        self.with(|state| state.arming.called());
        refill::start(self);
        monitor::arm(self, 0);
    }
}

/// Arms the monitor and starts refills, with the next tick.
pub(super) struct ArmWork(pub(super) KrcpRef);

impl Handler for ArmWork {
    fn run(&self) {
        self.0.answer();
    }
}

/// The same at once; and takes the deferred objects over, a bounded number here and the rest in a
/// worker.
pub(super) struct DeferWork(pub(super) KrcpRef);

impl Handler for DeferWork {
    fn run(&self) {
        let krcp = &*self.0;
        if takeover::piece(krcp, true) == Progress::More {
            krcp.defer_rest.queue(&krcp.wq, 0);
        }
        krcp.answer();
    }
}

/// The worker for the rest.
pub(super) struct DeferRest(pub(super) KrcpRef);

impl Handler for DeferRest {
    fn run(&self) {
        drain(&self.0);
    }
}

/// Moves all objects of `krcp` that were deferred before the call to the ordinary path.
///
/// # Context
///
/// May sleep.
pub(super) fn drain(krcp: &Krcp) {
    if takeover::all(krcp) {
        // They came meanwhile, and whoever came with them may have found this at work.
        krcp.defer_rest.queue(&krcp.wq, 0);
    }
    refill::start(krcp);
    monitor::arm(krcp, 1);
}

impl Deferred for Krcp {
    fn with<R>(&self, f: impl FnOnce(&mut Takeover) -> R) -> R {
        self.with(|state| f(&mut state.takeover))
    }

    fn list(&self) -> &DeferredList {
        &self.deferred
    }

    fn queue(&self, object: NonNull<u8>, field: NonNull<u8>) -> bool {
        if !debug::queue(object) {
            twice(self, object, field, 0);
            return false;
        }
        debug::kmemleak_ignore(object);
        let pushed = self.with(|state| {
            state.stats.deferred += 1;
            // SAFETY: The contract of `queue()`, under which the object was pushed.
            let pushed = unsafe { state.push(queue::channel_of(object), object, field) };
            state.want_refill(refill_for(pushed));
            pushed
        });
        if pushed == Push::Twice {
            twice(self, object, field, 0);
        }
        true
    }

    fn endless(&self, steps: usize) {
        self.refused.add(steps as u64, Relaxed);
        debug::warn_endless(steps);
    }

    fn pause(&self) {
        gp::cond_resched();
    }

    fn wait(&self) {
        gp::sleep_a_jiffy();
    }
}
