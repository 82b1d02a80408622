// SPDX-License-Identifier: GPL-2.0

//! Queues objects: in a block of their channel, or else on the list (`kvfree_call_rcu()`); and in
//! any context, NMI included, under a trylock (`kfree_rcu_nolock()` of the RFC series). If the lock
//! is held, or if the kernel has kmemleak or debugobjects, which take locks themselves, the object
//! is deferred: an irq_work queues it.

use super::{
    arm::Kick,
    barrier, blocks,
    bnode::Bnode,
    deferred::{self, Deferred, DeferredState, Progress},
    drain,
    krcp::{Krcp, KrcpRef},
    state::{Channel, Push, State},
    Rcu, Rfc,
};
use crate::{
    calls,
    engine::Engine,
    entry::Call,
    fault,
    list::{LinkList, Linked, Pushed},
    params,
    stats::Counter,
    sys::{
        debug::{self, Misuse},
        gp,
        irq::IrqsOff,
        mem,
        percpu::PerCpu,
        slab, trace,
        work::Handler,
    },
};
use core::ptr::NonNull;
use kernel::sync::atomic::Relaxed;

fn channel_of(object: NonNull<u8>) -> Channel {
    if mem::is_vmalloc(object) {
        Channel::Vmalloc
    } else {
        Channel::Slab
    }
}

fn trace_channel(channel: Channel) -> u32 {
    match channel {
        Channel::Slab => trace::CHANNEL_SLAB,
        Channel::Vmalloc => trace::CHANNEL_VMALLOC,
        Channel::Call => trace::CHANNEL_CALL,
    }
}

const ALWAYS_DEFER: bool = cfg!(any(CONFIG_DEBUG_KMEMLEAK, CONFIG_DEBUG_OBJECTS_RCU_HEAD));

impl Engine for Rfc {
    type Krcp = Krcp;

    fn krc() -> &'static PerCpu<Krcp> {
        &Self::get().krc
    }

    /// In a block of its channel, or else linked through its `field`.
    #[inline]
    unsafe fn queue(object: NonNull<u8>, field: NonNull<u8>, caller: usize) {
        // No pointer to the object is needed any more.
        debug::kmemleak_ignore(object);
        let channel = channel_of(object);
        let irqs = IrqsOff::save();
        let krcp = Self::get().krc.this(&irqs);
        let (pushed, kick) = {
            let mut state = krcp.state.lock(&irqs);
            // SAFETY: By the safety requirements of this function.
            let pushed = unsafe { state.push(channel, Linked::Object { object, field }) };
            (pushed, state.kick(refill_for(pushed)))
        };
        krcp.queue_irq_work(kick, &irqs);
        report(&krcp, pushed, object, field, caller);
    }

    /// Linked through its `field`; deferred if the lock is held.
    #[inline(always)]
    unsafe fn queue_nolock(object: NonNull<u8>, field: NonNull<u8>, caller: usize) {
        let irqs = IrqsOff::save();
        let krcp = Self::get().krc.this(&irqs);
        let locked = if ALWAYS_DEFER {
            None
        } else {
            krcp.state.try_lock(&irqs)
        };
        if let Some(mut state) = locked {
            // SAFETY: By the safety requirements of this function.
            let pushed = unsafe {
                state.push_list(
                    Linked::Object { object, field },
                    Some(Counter::QueuedNolock),
                )
            };
            let kick = state.kick(Kick::No);
            drop(state);
            krcp.queue_irq_work(kick, &irqs);
            return report(&krcp, pushed, object, field, caller);
        }
        // Traced before the push, after which the object may be freed.
        trace::queue(trace::ENGINE_RFC, trace::CHANNEL_DEFERRED, object, caller);
        trace::defer(krcp.common.cpu, trace::DEFER_OBJECT, 1);
        // SAFETY: By the safety requirements of this function.
        unsafe { defer(&krcp, Linked::Object { object, field }, caller, &irqs) };
    }

    /// In a block of callbacks, or else linked through the head; deferred if the lock is held.
    unsafe fn call(call: Call, caller: usize) {
        let irqs = IrqsOff::save();
        let krcp = Self::get().krc.this(&irqs);
        let linked = Linked::Call(call);
        let locked = if debug::OBJECTS && !call.is_tracked() {
            None
        } else {
            krcp.state.try_lock(&irqs)
        };
        let Some(mut state) = locked else {
            // Traced before the push, after which the callback may be invoked.
            calls::trace(trace::ENGINE_RFC, trace::CHANNEL_DEFERRED, call, caller);
            trace::defer(krcp.common.cpu, trace::DEFER_OBJECT, 1);
            // SAFETY: By the safety requirements of this function.
            return unsafe { defer(&krcp, linked, caller, &irqs) };
        };
        // SAFETY: By the safety requirements of this function.
        let pushed = unsafe { state.push(Channel::Call, linked) };
        let kick = state.kick(refill_for(pushed).min(Kick::Lazy));
        drop(state);
        // The head is still there: its grace period can't end while interrupts are off.
        let channel = if pushed == Push::List {
            trace::CHANNEL_LIST
        } else {
            trace::CHANNEL_CALL
        };
        calls::trace(trace::ENGINE_RFC, channel, call, caller);
        krcp.queue_irq_work(kick, &irqs);
        if pushed == Push::Twice {
            report_double(&krcp, call.head(), call.head(), caller);
        }
    }

    /// In a block of its channel, if the lock is free. If there is no block, the next tick starts a
    /// refill, as this call may be the last one.
    ///
    /// With kmemleak or debugobjects this always fails: they have to be called, and without a field
    /// the object can't be deferred to a context that may do so.
    unsafe fn try_queue_nolock(object: NonNull<u8>, caller: usize) -> bool {
        if ALWAYS_DEFER {
            return false;
        }
        let irqs = IrqsOff::save();
        let krcp = Self::get().krc.this(&irqs);
        let Some(mut state) = krcp.state.try_lock(&irqs) else {
            return false;
        };
        let channel = channel_of(object);
        let pushed = state.push_bulk(channel, object);
        let kick = state.kick(refill_for(pushed).min(Kick::Lazy));
        drop(state);
        krcp.queue_irq_work(kick, &irqs);
        report(&krcp, pushed, object, object, caller);
        pushed != Push::NoRoom
    }

    /// Allocates a block if there is none.
    unsafe fn queue_mightsleep(object: NonNull<u8>, caller: usize) {
        debug::kmemleak_ignore(object);
        let channel = channel_of(object);
        let (pushed, cpu) = push_in_block(channel, object);
        if pushed != Push::NoRoom {
            return report(&Self::get().krc.of(cpu), pushed, object, object, caller);
        }
        trace::queue(trace::ENGINE_RFC, trace::CHANNEL_SYNC, object, caller);
        gp::synchronize();
        debug::unqueue(object.as_ptr());
        // SAFETY: By the safety requirements of this function; no reader has the object any more,
        // as a grace period has passed since the call.
        unsafe { mem::kvfree(object.as_ptr()) };
        Self::get().krc.of(cpu).with_locked(|state| {
            state.stats[Counter::QueuedSync] += 1;
            state.stats[Counter::Freed] += 1;
        });
    }

    fn barrier() {
        barrier::barrier(Self::get());
    }

    fn trim() {
        for krcp in Self::get().krc.iter() {
            krcp.trim_cached();
        }
    }

    fn update_drain_interval() {
        for krcp in Self::get().krc.iter() {
            drain::arm(&krcp, 1);
        }
    }

    fn watch_address(cpu: i32, index: usize) -> usize {
        let krcp = Self::get().krc.of(cpu);
        match index {
            0 => krcp.state.word(),
            1 => krcp.with_locked(|state| state.queued.list.head_address()),
            2 => krcp.deferred.head_address(),
            _ => 0,
        }
    }

    fn count_leaked() {
        let irqs = IrqsOff::save();
        Self::get().krc.this(&irqs).leaked.add(1, Relaxed);
    }
}

/// How soon a refill has to be started after a push.
#[inline]
fn refill_for(pushed: Push) -> Kick {
    blocks::refill_for(pushed, || params::min_cached_objs() > 0)
}

/// Traces the result of a push, and warns if the object was queued twice.
#[inline]
fn report(krcp: &Krcp, pushed: Push, object: NonNull<u8>, field: NonNull<u8>, caller: usize) {
    if trace::queue_is_on() || pushed == Push::Twice {
        report_push(krcp, pushed, object, field, caller);
    }
}

#[cold]
fn report_push(krcp: &Krcp, pushed: Push, object: NonNull<u8>, field: NonNull<u8>, caller: usize) {
    let taken_as = match pushed {
        Push::List => trace::CHANNEL_LIST,
        Push::NoRoom => return,
        // `Twice` is traced as well, to show both callers.
        Push::Block | Push::Twice => trace_channel(channel_of(object)),
    };
    trace::queue(trace::ENGINE_RFC, taken_as, object, caller);
    if pushed == Push::Twice {
        report_double(krcp, object, field, caller);
    }
}

/// Counts and reports an object that is queued twice; it stays queued once.
#[cold]
fn report_double(krcp: &Krcp, object: NonNull<u8>, field: NonNull<u8>, caller: usize) {
    krcp.leaked.add(1, Relaxed);
    debug::warn(Misuse::Double, object.as_ptr(), field.as_ptr(), caller);
}

/// Stores `object` in a block, which may be allocated for it. Also returns the CPU whose lock was
/// held. May sleep.
fn push_in_block(channel: Channel, object: NonNull<u8>) -> (Push, i32) {
    let first = this_krcp(|state| {
        let pushed = state.push_bulk(channel, object);
        (pushed, state.kick(Kick::No))
    });
    if first.0 != Push::NoRoom {
        return first;
    }
    let Some(page) = fault::alloc_page(slab::GFP_TASK) else {
        return this_krcp(|state| (Push::NoRoom, state.kick(refill_for(Push::NoRoom))));
    };
    // SAFETY: A fresh page, given away here.
    let bnode = unsafe { Bnode::<Rcu>::from_page(page) };
    let mut unused = None;
    let second = this_krcp(|state| {
        let pushed;
        (pushed, unused) = state.push_with(channel, bnode, object);
        (pushed, state.kick(refill_for(Push::NoRoom)))
    });
    if let Some(bnode) = unused {
        // SAFETY: The page from above, not needed after all.
        unsafe { mem::free_page(bnode.into_page()) };
    }
    second
}

/// Calls `f` with the lock of this CPU held, then queues the irq_work that `f` returns.
fn this_krcp(f: impl FnOnce(&mut State<Rcu>) -> (Push, Kick)) -> (Push, i32) {
    let irqs = IrqsOff::save();
    let krcp = Rfc::get().krc.this(&irqs);
    let (pushed, kick) = {
        let mut state = krcp.state.lock(&irqs);
        f(&mut state)
    };
    krcp.queue_irq_work(kick, &irqs);
    (pushed, krcp.common.cpu)
}

/// Defers `linked` to the irq_work.
///
/// # Safety
///
/// As for [`LinkList::push()`].
unsafe fn defer(krcp: &Krcp, linked: Linked, caller: usize, irqs: &IrqsOff) {
    // SAFETY: By the safety requirements of this function.
    match unsafe { krcp.deferred.push(linked) } {
        Pushed::First => krcp.defer_work.queue(irqs),
        // The irq_work is queued, or another context will remove the list.
        Pushed::Another => {}
        Pushed::Twice => report_double(krcp, linked.start(), linked.link(), caller),
    }
}

impl Krcp {
    /// Queues the irq_work that [`State::kick()`] has returned, and that other contexts of this CPU
    /// rely on. The lock is not held.
    #[inline]
    fn queue_irq_work(&self, kick: Kick, irqs: &IrqsOff) {
        if kick != Kick::No {
            self.queue_irq_work_now(kick, irqs);
        }
    }

    #[cold]
    fn queue_irq_work_now(&self, kick: Kick, irqs: &IrqsOff) {
        if kick == Kick::Now {
            self.defer_work.queue(irqs);
        } else {
            self.arm_work.queue(irqs);
        }
    }

    /// The handler of both irq_works: arms the monitor, and starts a refill.
    fn irq_work(&self) {
        self.with_locked(|state| state.arming.irq_work_runs());
        blocks::start(self);
        drain::arm(self, 0);
    }
}

/// Runs with the next tick; see [`Krcp::arm_work`].
pub(super) struct ArmWork(pub(super) KrcpRef);

impl Handler for ArmWork {
    fn run(&self) {
        self.0.irq_work();
    }
}

/// Runs at once: as [`ArmWork`], and queues the deferred objects, unless the list is too long for
/// an interrupt and is left to a worker.
pub(super) struct DeferWork(pub(super) KrcpRef);

impl Handler for DeferWork {
    fn run(&self) {
        let krcp = &*self.0;
        if deferred::requeue_some(krcp, true) == Progress::More {
            krcp.defer_rest.queue(&krcp.common.queues.reclaim, 0);
        }
        krcp.irq_work();
    }
}

/// The worker for the rest.
pub(super) struct DeferRest(pub(super) KrcpRef);

impl Handler for DeferRest {
    fn run(&self) {
        requeue_deferred(&self.0);
    }
}

/// Queues all objects of `krcp` that were deferred before the call. May sleep.
pub(super) fn requeue_deferred(krcp: &Krcp) {
    if deferred::requeue_all(krcp) {
        // Newer ones, whose irq_work may have found this context busy.
        krcp.defer_rest.queue(&krcp.common.queues.reclaim, 0);
    }
    blocks::start(krcp);
    drain::arm(krcp, 1);
}

impl Deferred for Krcp {
    fn with_locked<R>(&self, f: impl FnOnce(&mut DeferredState) -> R) -> R {
        self.with_locked(|state| f(&mut state.deferred))
    }

    fn list(&self) -> &LinkList {
        &self.deferred
    }

    fn queue(&self, linked: Linked) -> bool {
        let is_tracked = matches!(linked, Linked::Call(call) if call.is_tracked());
        if !is_tracked && !debug::queue(linked.start()) {
            report_double(self, linked.start(), linked.link(), 0);
            return false;
        }
        let channel = match linked {
            Linked::Object { object, .. } => {
                debug::kmemleak_ignore(object);
                channel_of(object)
            }
            Linked::Call(_) => Channel::Call,
        };
        let pushed = self.with_locked(|state| {
            state.stats[Counter::Deferred] += 1;
            // SAFETY: The contract under which it was pushed.
            let pushed = unsafe { state.push(channel, linked) };
            state.want_refill(refill_for(pushed));
            pushed
        });
        if pushed == Push::Twice {
            report_double(self, linked.start(), linked.link(), 0);
        }
        true
    }

    fn report_cyclic(&self, steps: usize) {
        self.leaked.add(steps as u64, Relaxed);
        debug::warn_endless(steps);
    }

    fn pause(&self) {
        gp::cond_resched();
    }

    fn wait(&self) {
        gp::sleep_a_millisecond();
    }
}
