// SPDX-License-Identifier: GPL-2.0

//! Objects go back to their allocators, after their grace period: slab objects by the block, vmalloc
//! ones sorted out and freed one by one.
//!
//! With debugobjects an object that was told to it when it was queued (which NMI can't do) has
//! [`MARKED`] set in its slot. The others are told here, all of a batch before the first is freed:
//! one that was queued twice comes up twice.

use super::{block::Blocks, krcp::Krcp, Lockless, Page};
use crate::{
    rfc::list::Chain,
    sys::{
        debug::{self, Misuse},
        gp,
        mem::{self, VmallocArea},
    },
};
use core::ptr::{self, NonNull};
use kernel::sync::atomic::Relaxed;

/// In a slot: debugobjects knows the object already.
pub(super) const MARKED: u64 = 1;

const DEBUG_OBJECTS: bool = cfg!(CONFIG_DEBUG_OBJECTS_RCU_HEAD);

/// Tells debugobjects the objects of a batch that it does not know yet. Of those that are queued
/// already a slot is cleared, and a list is cut: their links are those of another list by now.
///
/// # Context
///
/// May sleep.
pub(super) fn mark(krcp: &Krcp, blocks: &mut Blocks<Page>, mut list: Chain) -> Chain {
    if !DEBUG_OBJECTS {
        return list;
    }
    blocks.for_each(|block| {
        // SAFETY: The grace period of the batch is over.
        for slot in unsafe { block.objects() } {
            if slot.addr() as u64 & MARKED != 0 {
                *slot = slot.map_addr(|a| a & !(MARKED as usize));
            } else if !NonNull::new(*slot).is_none_or(debug::queue) {
                twice(krcp, *slot, *slot);
                *slot = ptr::null_mut();
            }
        }
        gp::cond_resched();
    });
    let mut marked = Chain::new();
    while let Some((object, field)) = list.pop() {
        if !debug::queue(object) {
            twice(krcp, object.as_ptr(), field.as_ptr());
            break;
        }
        // SAFETY: The contract of `queue()`, under which the object was pushed.
        unsafe { marked.push(object, field) };
    }
    marked
}

#[cold]
fn twice(krcp: &Krcp, object: *mut u8, field: *mut u8) {
    debug::warn(Misuse::Double, object, field, 0);
    krcp.events.leaked.add(1, Relaxed);
}

/// Frees the objects of a block. Their order changes.
///
/// # Context
///
/// May sleep.
pub(super) fn free_objects(krcp: &Krcp, mut objects: &mut [*mut u8]) {
    if DEBUG_OBJECTS {
        objects = drop_cleared(objects);
        for &mut object in &mut *objects {
            debug::unqueue(object);
        }
    }
    let (slab, vmalloc) = sort(objects, Lockless::vmalloc_area());
    krcp.events.slab.add(slab.len() as u64, Relaxed);
    krcp.events.vmalloc.add(vmalloc.len() as u64, Relaxed);
    krcp.events
        .freed
        .add((slab.len() + vmalloc.len()) as u64, Relaxed);
    gp::as_callback(|| {
        if !slab.is_empty() {
            // SAFETY: Objects of a block are live and owned by it (the contract of `queue()`), none
            // of these is from vmalloc; their grace period is over, so no reader has them.
            unsafe { mem::kfree_bulk(slab) };
        }
        for &mut object in vmalloc {
            // SAFETY: As above, and from vmalloc.
            unsafe { mem::vfree(object) };
        }
    });
}

/// Frees an object of the list.
///
/// # Context
///
/// May sleep.
pub(super) fn free_linked(krcp: &Krcp, object: NonNull<u8>) {
    debug::unqueue(object.as_ptr());
    krcp.events.freed.add(1, Relaxed);
    // SAFETY: Objects of the list are live and owned by it (the contract of `queue()`); their grace
    // period is over, so no reader has them.
    gp::as_callback(|| unsafe { mem::kvfree(object.as_ptr()) });
}

/// Slab objects to the front, vmalloc ones to the back.
#[inline]
fn sort(objects: &mut [*mut u8], area: VmallocArea) -> (&mut [*mut u8], &mut [*mut u8]) {
    // The usual block has none, which the greatest address tells: three instructions an object.
    if area.is_above(objects) {
        return (objects, &mut []);
    }
    let mut end = objects.len();
    let mut i = 0;
    while i < end {
        if area.contains(objects[i]) {
            end -= 1;
            objects.swap(i, end);
        } else {
            i += 1;
        }
    }
    objects.split_at_mut(end)
}

fn drop_cleared(objects: &mut [*mut u8]) -> &mut [*mut u8] {
    let mut kept = 0;
    for i in 0..objects.len() {
        if !objects[i].is_null() {
            objects.swap(kept, i);
            kept += 1;
        }
    }
    &mut objects[..kept]
}
