// SPDX-License-Identifier: GPL-2.0

//! Taking an object: into a block of its channel, else on the list (`kvfree_call_rcu()`).

use super::{
    arm::Call,
    bnode::Bnode,
    krcp::Krcp,
    state::{Channel, Push},
    Rcu, Rfc,
};
use crate::{
    fault, params,
    sys::{
        debug::{self, Misuse},
        gp,
        irq::IrqsOff,
        mem, trace,
    },
};
use core::ptr::NonNull;
use kernel::sync::atomic::Relaxed;

pub(super) fn channel_of(object: NonNull<u8>) -> Channel {
    if mem::is_vmalloc(object) {
        Channel::Vmalloc
    } else {
        Channel::Slab
    }
}

pub(super) fn trace_channel(channel: Channel) -> u32 {
    match channel {
        Channel::Slab => trace::CHANNEL_SLAB,
        Channel::Vmalloc => trace::CHANNEL_VMALLOC,
    }
}

/// Queues `object`, linked through its `field` where no block is at hand.
///
/// # Context
///
/// Any but NMI: interrupts may be off, raw spinlocks held.
///
/// # Safety
///
/// `object` is live and the caller's to free; `field` is a valid 8-byte field of it, checked by
/// `api::check()`.
#[inline]
pub(super) unsafe fn queue(rfc: &Rfc, object: NonNull<u8>, field: NonNull<u8>, caller: usize) {
    // From here on nobody needs to point to the object, as far as kmemleak is concerned.
    debug::kmemleak_ignore(object);
    let channel = channel_of(object);
    let irqs = IrqsOff::save();
    let krcp = rfc.krc.this(&irqs);
    let (pushed, call) = {
        let mut state = krcp.lock(&irqs);
        // SAFETY: By the safety requirements of this function.
        let pushed = unsafe { state.push(channel, object, field) };
        (pushed, state.call(refill_for(pushed)))
    };
    krcp.call(call, &irqs);
    told(&krcp, pushed, channel, object, field, caller);
}

/// How soon a refill has to be started when an object has become that.
pub(super) fn refill_for(pushed: Push) -> Call {
    match pushed {
        Push::List | Push::Full if params::min_cached_objs() > 0 => Call::Now,
        _ => Call::No,
    }
}

/// Tells the tracepoint what has become of an object, and who has queued it twice.
///
/// # Context
///
/// Any, NMI included.
pub(super) fn told(
    krcp: &Krcp,
    pushed: Push,
    channel: Channel,
    object: NonNull<u8>,
    field: NonNull<u8>,
    caller: usize,
) {
    let taken_as = match pushed {
        Push::Block => trace_channel(channel),
        Push::List => trace::CHANNEL_LIST,
        Push::Full => return,
        // Both callers are to be found in the trace.
        Push::Twice => trace_channel(channel),
    };
    trace::queue(trace::ENGINE_RFC, taken_as, object, caller);
    if pushed == Push::Twice {
        twice(krcp, object, field, caller);
    }
}

/// An object is queued again, and the first time counts.
#[cold]
pub(super) fn twice(krcp: &Krcp, object: NonNull<u8>, field: NonNull<u8>, caller: usize) {
    krcp.refused.add(1, Relaxed);
    debug::warn(Misuse::Double, object.as_ptr(), field.as_ptr(), caller);
}

/// Queues `object`, which has no field: allocates a block if none is at hand, and where that fails
/// waits for a grace period and frees the object itself.
///
/// # Context
///
/// May sleep.
///
/// # Safety
///
/// `object` is live and the caller's to free.
pub(super) unsafe fn queue_mightsleep(rfc: &Rfc, object: NonNull<u8>, caller: usize) {
    debug::kmemleak_ignore(object);
    let channel = channel_of(object);
    let (pushed, cpu) = push_in_block(rfc, channel, object);
    if pushed != Push::Full {
        return told(&rfc.krc.of(cpu), pushed, channel, object, object, caller);
    }
    trace::queue(trace::ENGINE_RFC, trace::CHANNEL_SYNC, object, caller);
    gp::synchronize();
    debug::unqueue(object.as_ptr());
    // SAFETY: By the safety requirements of this function, and no reader can have it any more:
    // a grace period has passed since it became the caller's to free.
    unsafe { mem::kvfree(object.as_ptr()) };
    rfc.krc.of(cpu).with(|state| {
        state.stats.queued_sync += 1;
        state.stats.freed += 1;
    });
}

/// Says on which CPU, too. `Full`: there was no memory for a block.
fn push_in_block(rfc: &Rfc, channel: Channel, object: NonNull<u8>) -> (Push, i32) {
    let first = this_krcp(rfc, |state| {
        let pushed = state.push_bulk(channel, object);
        (pushed, state.call(Call::No))
    });
    if first.0 != Push::Full {
        return first;
    }
    let Some(page) = fault::alloc_page() else {
        return this_krcp(rfc, |state| {
            (Push::Full, state.call(refill_for(Push::Full)))
        });
    };
    // SAFETY: A fresh page, given away here.
    let bnode = unsafe { Bnode::<Rcu>::from_page(page) };
    let mut unused = None;
    let second = this_krcp(rfc, |state| {
        let pushed;
        (pushed, unused) = state.push_with(channel, bnode, object);
        (pushed, state.call(refill_for(Push::Full)))
    });
    if let Some(bnode) = unused {
        // SAFETY: The page from above, not needed after all.
        unsafe { mem::free_page(bnode.into_page()) };
    }
    second
}

/// Calls `f` with the lock of this CPU held, and the irq_work that it wants afterwards.
fn this_krcp(
    rfc: &Rfc,
    f: impl FnOnce(&mut super::state::State<Rcu>) -> (Push, Call),
) -> (Push, i32) {
    let irqs = IrqsOff::save();
    let krcp = rfc.krc.this(&irqs);
    let (pushed, call) = {
        let mut state = krcp.lock(&irqs);
        f(&mut state)
    };
    krcp.call(call, &irqs);
    (pushed, krcp.cpu)
}
