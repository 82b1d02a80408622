// SPDX-License-Identifier: GPL-2.0

//! Objects from the slab: a sheaf at a time where the caller may wait, by a worker for those who
//! can't, and ahead of need (`kmem_cache_prefill_sheaf()`).

use super::{
    cache::{Cache, CacheRef},
    exchange,
    geometry::SLOTS,
    pcs::Here,
    sheaf::{Full, Rest},
    shrink,
};
use crate::{
    fault,
    sys::{
        context::{self, Context},
        gp,
        preempt::PreemptOff,
        slab, trace,
        work::Handler,
    },
};
use core::ptr;
use kernel::{prelude::*, sync::atomic::Relaxed};

/// An object, where no sheaf has one.
///
/// # Context
///
/// As `gfp` says, never NMI.
pub(super) fn alloc(cache: &Cache, gfp: u32) -> *mut u8 {
    if slab::may_block(gfp) {
        if let Some(sheaf) = new_full(cache, gfp) {
            let (object, rest) = sheaf.pop();
            let pin = PreemptOff::new();
            let at = Here::new(cache, &pin).at(Context::look(&pin));
            match rest {
                Rest::Full(sheaf) => exchange::install(at, sheaf),
                Rest::Empty(sheaf) => exchange::keep_empty(at, sheaf),
            }
            return ptr::with_exposed_provenance_mut(object);
        }
    }
    match fault::point().ok().and_then(|()| cache.slab.alloc(gfp)) {
        Some(object) => {
            cache.obtained.add(1, Relaxed);
            object.as_ptr()
        }
        None => ptr::null_mut(),
    }
}

/// A sheaf full of objects from the slab.
///
/// # Context
///
/// May sleep.
fn new_full(cache: &Cache, gfp: u32) -> Option<Full> {
    // A single object is tried hard for, a whole sheaf isn't.
    let gfp = gfp & !slab::GFP_NOFAIL | slab::GFP_TRY;
    let stocked = {
        let pin = PreemptOff::new();
        exchange::stocked_empty(Here::new(cache, &pin).at(Context::look(&pin)))
    };
    let sheaf = match stocked {
        Some(sheaf) => sheaf,
        None => cache.new_sheaf(gfp)?,
    };
    let mut objects = [ptr::null_mut(); SLOTS];
    let objects = &mut objects[..cache.capacity];
    if fault::point().is_err() || !cache.slab.alloc_bulk(gfp, objects) {
        let pin = PreemptOff::new();
        exchange::keep_empty(Here::new(cache, &pin).at(Context::look(&pin)), sheaf);
        return None;
    }
    cache.obtained.add(objects.len() as u64, Relaxed);
    trace::sheaf_refill(&cache.name, context::some_cpu(), objects.len());
    Some(sheaf.fill(objects))
}

/// Has at least `objects` more at hand on this node from now on, for allocations that can't wait.
///
/// # Context
///
/// May sleep.
///
/// # Errors
///
/// `EINVAL` where `gfp` does not let it sleep; `ENOMEM`: what could be had stays.
pub(crate) fn prefill(cache: &Cache, objects: usize, gfp: u32) -> Result {
    gp::might_sleep();
    if !slab::may_block(gfp) {
        return Err(EINVAL);
    }
    let sheaves = objects.div_ceil(cache.capacity);
    let node = {
        let pin = PreemptOff::new();
        Here::new(cache, &pin).pcs().node
    };
    let barn = &cache.barns[node];
    for _ in 0..sheaves {
        let Some(sheaf) = new_full(cache, gfp) else {
            shrink::look_after(cache, node);
            return Err(ENOMEM);
        };
        // Kept from the first on: a reaper may come in between.
        barn.with(|stock| {
            stock.put_full(sheaf);
            stock.add_reserve(1);
        });
        gp::cond_resched();
    }
    Ok(())
}

/// Brings what allocations in NMI did not find: the reserves, and a sheaf where there is none.
pub(super) struct RefillWork(pub(super) CacheRef);

impl Handler for RefillWork {
    fn run(&self) {
        let cache = &self.0;
        cache.wants_refill.store(false, Relaxed);
        for (node, barn) in cache.barns.iter().enumerate() {
            let missing = barn.with(|stock| stock.missing().max(usize::from(stock.nr_full() == 0)));
            for _ in 0..missing {
                let Some(sheaf) = new_full(cache, slab::GFP_REFILL) else {
                    return;
                };
                barn.with(|stock| stock.put_full(sheaf));
                gp::cond_resched();
            }
            shrink::look_after(cache, node);
        }
    }
}
