// SPDX-License-Identifier: GPL-2.0

//! Taking an object: into a block of its channel, else on the list (`kvfree_call_rcu()`).

use super::{bnode::Bnode, krcp::Krcp, monitor, refill, state::Channel, Rcu, Rfc};
use crate::{
    fault,
    sys::{debug, gp, irq::IrqsOff, mem, trace},
};
use core::ptr::NonNull;

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
    let taken_as;
    {
        let irqs = IrqsOff::save();
        let krcp = rfc.krc.this(&irqs);
        let mut state = krcp.lock(&irqs);
        if state.push_bulk(channel, object) {
            taken_as = trace_channel(channel);
        } else {
            taken_as = trace::CHANNEL_LIST;
            // SAFETY: By the safety requirements of this function.
            unsafe { state.push_list(object, field) };
            refill::start(&krcp, &mut state);
        }
        monitor::arm(&krcp, &mut state);
    }
    trace::queue(trace::ENGINE_RFC, taken_as, object, caller);
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
    if push_in_block(rfc, channel, object) {
        trace::queue(trace::ENGINE_RFC, trace_channel(channel), object, caller);
        return;
    }
    trace::queue(trace::ENGINE_RFC, trace::CHANNEL_SYNC, object, caller);
    gp::synchronize();
    debug::unqueue(object.as_ptr());
    // SAFETY: By the safety requirements of this function, and no reader can have it any more:
    // a grace period has passed since it became the caller's to free.
    unsafe { mem::kvfree(object.as_ptr()) };
    this_krcp(rfc, |_, state| {
        state.stats.queued_sync += 1;
        state.stats.freed += 1;
    });
}

/// `false`: there was no memory for a block.
fn push_in_block(rfc: &Rfc, channel: Channel, object: NonNull<u8>) -> bool {
    let pushed = this_krcp(rfc, |krcp, state| {
        let pushed = state.push_bulk(channel, object);
        if pushed {
            monitor::arm(krcp, state);
        }
        pushed
    });
    if pushed {
        return true;
    }
    let page = fault::alloc_page();
    let unused = this_krcp(rfc, |krcp, state| {
        let Some(page) = page else {
            refill::start(krcp, state);
            return Err(());
        };
        // SAFETY: A fresh page, given away here.
        let bnode = unsafe { Bnode::<Rcu>::from_page(page) };
        let unused = state.push_with(channel, bnode, object);
        refill::start(krcp, state);
        monitor::arm(krcp, state);
        Ok(unused)
    });
    match unused {
        Err(()) => false,
        Ok(unused) => {
            if let Some(bnode) = unused {
                // SAFETY: The page from above, not needed after all.
                unsafe { mem::free_page(bnode.into_page()) };
            }
            true
        }
    }
}

fn this_krcp<R>(rfc: &Rfc, f: impl FnOnce(&Krcp, &mut super::state::State<Rcu>) -> R) -> R {
    let irqs = IrqsOff::save();
    let krcp = rfc.krc.this(&irqs);
    let mut state = krcp.lock(&irqs);
    f(&krcp, &mut state)
}
