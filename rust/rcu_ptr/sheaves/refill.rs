// SPDX-License-Identifier: GPL-2.0

//! Objects from the slab: a sheaf at a time if the caller may sleep, by a worker for callers that
//! can't, and ahead of need (`kmem_cache_prefill_sheaf()`).

use super::{
    cache::{Barn, Cache, CacheRef},
    exchange,
    geometry::SLOTS,
    pcs::Here,
    reclaim,
    sheaf::{FullSheaf, Rest},
    shrink, Sheaves,
};
use crate::{
    fault, params,
    sys::{context, gp, node, preempt::PreemptOff, slab, trace, work::Handler},
};
use core::{
    iter,
    ptr::{self, NonNull},
};
use kernel::{
    prelude::*,
    sync::atomic::{Full, Relaxed, Release},
};

/// Allocates an object after no sheaf had one.
///
/// # Context
///
/// As `gfp` says, never NMI.
pub(super) fn alloc(cache: &Cache, gfp: u32) -> *mut u8 {
    let may_wait = slab::may_block(gfp);
    if may_wait {
        if let Some(sheaf) = new_full(cache, None, gfp) {
            let (object, rest) = sheaf.pop();
            keep_rest(cache, object, rest);
            return ptr::with_exposed_provenance_mut(object);
        }
    }
    let gfp = slab::for_object(gfp);
    match fault::point().ok().and_then(|()| cache.slab.alloc(gfp)) {
        Some(object) => {
            cache.slab_allocs.add(1, Relaxed);
            object.as_ptr()
        }
        None => {
            let pin = PreemptOff::new();
            let at = Here::new(cache, &pin).with_ctx().allow_remote();
            let object = if may_wait {
                exchange::next_object(at)
            } else {
                exchange::any_object(at)
            };
            object.map_or(ptr::null_mut(), ptr::with_exposed_provenance_mut)
        }
    }
}

/// Keeps the rest of a sheaf that was allocated with `object`: on this CPU, or in the barn of its
/// own node if the task or its memory policy led to another.
fn keep_rest(cache: &Cache, object: usize, rest: Rest) {
    let pin = PreemptOff::new();
    let here = Here::new(cache, &pin);
    let at = here.with_ctx();
    match rest {
        Rest::Full(sheaf) => {
            let node = match cache.nr_nodes() {
                1 => None,
                n => reclaim::node_of(object).filter(|&node| node < n && node != here.pcs().node()),
            };
            match node {
                Some(node) => {
                    cache.put_rest(node, Rest::Full(sheaf));
                    // No CPU of that node runs a monitor for it.
                    shrink::check_limits(cache, node);
                }
                None => exchange::install(at, sheaf),
            }
        }
        Rest::Empty(sheaf) => exchange::keep_empty(at, sheaf),
    }
}

/// Allocates a sheaf full of objects from the slab, of `node` or of the node of this CPU.
///
/// # Context
///
/// May sleep.
fn new_full(cache: &Cache, node: Option<usize>, gfp: u32) -> Option<FullSheaf> {
    // Retries are justified for one object, not for a whole sheaf.
    let gfp = slab::for_sheaf(gfp);
    let stocked = {
        let pin = PreemptOff::new();
        exchange::find_empty(Here::new(cache, &pin).with_ctx())
    };
    let sheaf = match stocked {
        Some(sheaf) => sheaf,
        None => cache.new_sheaf(gfp)?,
    };
    let mut objects = [ptr::null_mut(); SLOTS];
    let objects = &mut objects[..cache.capacity()];
    if !alloc_objects(cache, node, gfp, objects) {
        let pin = PreemptOff::new();
        exchange::keep_empty(Here::new(cache, &pin).with_ctx(), sheaf);
        return None;
    }
    trace::sheaf_refill(&cache.name, context::some_cpu(), objects.len());
    Some(sheaf.fill(objects))
}

/// Fills `objects` from the slab. Returns `false`, with nothing allocated, on failure.
///
/// # Context
///
/// May sleep.
fn alloc_objects(cache: &Cache, node: Option<usize>, gfp: u32, objects: &mut [*mut u8]) -> bool {
    if fault::point().is_err() {
        return false;
    }
    let elsewhere =
        node.filter(|&node| cache.nr_nodes() > 1 && node != node::of_cpu(context::some_cpu()));
    let got = match elsewhere {
        None if cache.slab.alloc_bulk(gfp, objects) => objects.len(),
        None => 0,
        Some(node) => {
            let near = || cache.slab.alloc_near(gfp, node).map(NonNull::as_ptr);
            let entries = objects.iter_mut().zip(iter::from_fn(near));
            entries.map(|(entry, object)| *entry = object).count()
        }
    };
    cache.slab_allocs.add(got as u64, Relaxed);
    if got < objects.len() {
        cache.free_to_slab(&mut objects[..got]);
        return false;
    }
    true
}

/// Raises the reserve of this node by `objects`, for allocations that can't wait.
///
/// # Context
///
/// May sleep.
///
/// # Errors
///
/// `EINVAL` if `gfp` does not allow sleeping; `ENOMEM`, with the reserve unchanged.
pub(crate) fn prefill(cache: &Cache, objects: usize, gfp: u32) -> Result {
    gp::might_sleep();
    if !slab::may_block(gfp) {
        return Err(EINVAL);
    }
    let gfp = slab::for_sheaf(gfp);
    let node = {
        let pin = PreemptOff::new();
        Here::new(cache, &pin).pcs().node()
    };
    cache.grow_reserve(node, objects, |ring, n| {
        let mut fresh = [ptr::null_mut::<u8>(); SLOTS];
        let fresh = &mut fresh[..n.min(SLOTS)];
        gp::cond_resched();
        alloc_objects(cache, Some(node), gfp, fresh)
            && fresh
                .iter()
                .all(|object| ring.put(object.expose_provenance()))
    })
}

impl Here<'_> {
    /// Requests a run of the refill worker.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    pub(super) fn request_refill(self) {
        // ORDERING: The worker that clears the flag sees what was counted and taken before.
        self.cache.wants_refill.store(true, Release);
        self.queue_irq_work();
    }
}

/// The refill worker: fills the reserves, and allocates as many sheaves as failed allocations would
/// have needed.
pub(super) struct CacheRefillWork(pub(super) CacheRef);

impl Handler for CacheRefillWork {
    fn run(&self) {
        let cache = &self.0;
        // ORDERING: A miss counted before the request that this clears is visible below.
        cache.wants_refill.xchg(false, Full);
        let may_grow = !cache.is_at_wait_limit();
        if !may_grow && !cache.closed_reach_limit() {
            shrink::request_close(cache);
        }
        for (node, barn) in cache.barns.iter().enumerate() {
            let missed = barn.missed.xchg(0, Full);
            // The part of the reserve that is not promised is filled on demand: most caches are
            // only used by callers that may sleep.
            if missed > 0 || barn.with_reserve(|ring| ring.is_short()) {
                fill_reserve(cache, node, may_grow);
            }
            let wanted = if may_grow {
                barn.with_locked(|stock| stock.wanted(missed, cache.capacity()))
            } else {
                0
            };
            for _ in 0..wanted {
                let Some(sheaf) = new_full(cache, Some(node), slab::GFP_REFILL) else {
                    break;
                };
                barn.with_locked(|stock| stock.put_full(sheaf));
                gp::cond_resched();
            }
            shrink::check_limits(cache, node);
        }
        let is_short = |barn: &Pin<KBox<Barn>>| barn.with_reserve(|ring| ring.is_short());
        if cache.barns.iter().any(is_short) {
            // Out of memory, or at the wait limit.
            cache
                .refill
                .queue(&Sheaves::get().refill_wq, params::drain_jiffies());
        }
    }
}

/// Fills the reserve of `node`, from the barn or, if the cache may grow, from the slab.
fn fill_reserve(cache: &Cache, node: usize, may_grow: bool) {
    let of_slab = || {
        if may_grow {
            new_full(cache, Some(node), slab::GFP_REFILL)
        } else {
            None
        }
    };
    let barn = &cache.barns[node];
    while barn.with_reserve(|ring| ring.missing()) > 0 {
        let full = barn.with_locked(|stock| stock.take_full());
        let Some(sheaf) = full.or_else(of_slab) else {
            return;
        };
        let mut rest = Rest::Full(sheaf);
        loop {
            match rest {
                Rest::Full(sheaf) if barn.with_reserve(|ring| ring.missing()) > 0 => {
                    let (object, left) = sheaf.pop();
                    rest = left;
                    if !barn.put_reserved(object) {
                        cache.free_to_slab(&mut [ptr::with_exposed_provenance_mut(object)]);
                    }
                }
                rest => break cache.put_rest(node, rest),
            }
        }
        gp::cond_resched();
    }
}
