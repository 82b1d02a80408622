// SPDX-License-Identifier: GPL-2.0

//! The limits of a cache, which may be changed while it is in use: objects in a sheaf, sheaves in a
//! barn, bytes that wait for a grace period.
//!
//! Frees never fail, so the wait limit applies to allocations, which get no further sheaf once it
//! is reached. Objects that are allocated then may still be freed.
//!
//! Functions may be called in any context, NMI included, unless stated otherwise.

use super::{
    cache::Cache,
    exchange,
    geometry::SLOTS,
    pcs::{Here, Pcs},
};
use crate::sys::{gp, slab};
use core::ops::RangeInclusive;
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// The default limit of a barn, in bytes of free objects.
const BARN_BYTES: usize = 4 << 20;
/// Bounds of the default limit, in sheaves.
const BARN_SHEAVES: RangeInclusive<usize> = 10..=1024;
/// A barn may keep this multiple of its limit on top, while as many objects are allocated from the
/// slab: objects that are needed again before their grace period is over.
const BARN_EXTRA: usize = 3;
/// The largest limit that a user may set.
const MAX_BARN_LIMIT: usize = 1 << 16;

/// Default capacity: fewer large objects, as in the slab's own sheaves
/// (`calculate_sheaf_capacity()`).
fn usual_capacity(size: usize) -> usize {
    match size {
        4096.. => 4,
        1024.. => 12,
        256.. => 26,
        _ => SLOTS,
    }
}

/// Limits as requested by a user. 0 selects the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Objects in a sheaf.
    pub(crate) capacity: usize,
    /// Maximum number of full sheaves per barn, and of empty ones.
    pub(crate) barn: usize,
    /// Maximum number of bytes that wait; 0 is no limit.
    pub(crate) wait: usize,
}

/// The limits in force.
pub(crate) struct ActiveLimits {
    capacity: Atomic<u32>,
    barn: Atomic<u32>,
    /// Sheaves that a barn may have on top of its limit.
    extra: Atomic<u32>,
    wait: Atomic<usize>,
    /// Number of allocations that hit the wait limit.
    pub(super) met: Atomic<u64>,
}

impl Limits {
    /// Resolves defaults for objects of `size` bytes. Returns the limits, and the sheaves that a
    /// barn may have on top of its limit.
    ///
    /// # Errors
    ///
    /// `EINVAL` if out of range.
    fn resolved(self, size: usize) -> Result<(Self, usize)> {
        if self.capacity > SLOTS || self.barn > MAX_BARN_LIMIT {
            return Err(EINVAL);
        }
        let capacity = match self.capacity {
            0 => usual_capacity(size),
            n => n,
        };
        let (barn, extra) = match self.barn {
            0 => {
                let usual = (BARN_BYTES / (capacity * size).max(1))
                    .clamp(*BARN_SHEAVES.start(), *BARN_SHEAVES.end());
                (usual, usual * BARN_EXTRA)
            }
            n => (n, 0),
        };
        let limits = Self {
            capacity,
            barn,
            wait: self.wait,
        };
        Ok((limits, extra))
    }
}

impl ActiveLimits {
    /// Resolves `limits` for objects of `size` bytes.
    ///
    /// # Errors
    ///
    /// `EINVAL` if out of range.
    pub(super) fn new(limits: Limits, size: usize) -> Result<Self> {
        let (limits, extra) = limits.resolved(size)?;
        Ok(Self {
            capacity: Atomic::new(limits.capacity as u32),
            barn: Atomic::new(limits.barn as u32),
            extra: Atomic::new(extra as u32),
            wait: Atomic::new(limits.wait),
            met: Atomic::new(0),
        })
    }

    /// The limits in force.
    pub(crate) fn get(&self) -> Limits {
        Limits {
            capacity: self.capacity.load(Relaxed) as usize,
            barn: self.barn.load(Relaxed) as usize,
            wait: self.wait.load(Relaxed),
        }
    }

    /// As [`Self::get()`], with 0 for a default barn limit: valid for [`Cache::set_limits()`].
    pub(super) fn requested(&self) -> Limits {
        let barn = if self.extra() > 0 { 0 } else { self.get().barn };
        Limits { barn, ..self.get() }
    }

    /// Sheaves that a barn may have on top of its limit.
    pub(super) fn extra(&self) -> usize {
        self.extra.load(Relaxed) as usize
    }
}

impl Cache {
    /// Capacity of new sheaves: those in use may have another.
    #[inline]
    pub(super) fn capacity(&self) -> usize {
        self.limits.capacity.load(Relaxed) as usize
    }

    /// Changes the limits. A worker frees what exceeds them, as any surplus.
    ///
    /// # Context
    ///
    /// Any but NMI and hardirq.
    ///
    /// # Errors
    ///
    /// `EINVAL` if out of range; nothing is changed.
    pub(crate) fn set_limits(&self, limits: Limits) -> Result {
        let (limits, extra) = limits.resolved(self.footprint)?;
        self.limits.capacity.store(limits.capacity as u32, Relaxed);
        self.limits.barn.store(limits.barn as u32, Relaxed);
        self.limits.extra.store(extra as u32, Relaxed);
        self.limits.wait.store(limits.wait, Relaxed);
        for (node, barn) in self.barns.iter().enumerate() {
            barn.with_locked(|stock| stock.set_limit(limits.barn));
            super::shrink::check_limits(self, node);
        }
        Ok(())
    }

    /// Bytes that wait for a grace period, or for a worker after it. Closed sheaves count as full.
    #[inline(never)]
    pub(super) fn waiting_bytes(&self) -> usize {
        self.bytes(|pcs| self.objects_in(pcs.contents().rcu))
    }

    /// Bytes in closed sheaves, of strays, and of the objects that `held` returns for each CPU.
    fn bytes(&self, held: impl Fn(&Pcs) -> usize) -> usize {
        let (mut sheaves, mut objects) = (0, self.strays_pending.total());
        for pcs in self.pcs.iter() {
            sheaves += pcs.pending.total();
            objects += held(&pcs);
        }
        (sheaves * self.capacity() + objects) * self.footprint
    }

    /// Objects in an rcu sheaf, from its next slot.
    pub(super) fn objects_in(&self, rcu: Option<usize>) -> usize {
        // The first object of a sheaf is in its first usable slot.
        rcu.map_or(0, |next| (next + self.capacity()).saturating_sub(SLOTS))
    }

    /// Whether the wait limit is reached.
    #[inline]
    pub(super) fn is_at_wait_limit(&self) -> bool {
        let limit = self.limits.wait.load(Relaxed);
        limit != 0 && self.waiting_bytes() >= limit
    }

    /// Whether closed sheaves alone reach the wait limit. Closing more does not help then, as
    /// closed sheaves count as full.
    pub(super) fn closed_reach_limit(&self) -> bool {
        self.bytes(|_| 0) >= self.limits.wait.load(Relaxed)
    }
}

/// Allocates at the wait limit, where no further sheaf is used: an object of a reuse slot or, for
/// callers that can't wait, of the reserve. A used-up sheaf is removed.
#[cold]
pub(super) fn alloc_at_limit(here: Here<'_>, may_wait: bool) -> Option<usize> {
    let cache = here.cache;
    let at = here.with_ctx();
    if let Some(object) = exchange::any_reused(at) {
        return Some(object);
    }
    cache.limits.met.add(1, Relaxed);
    exchange::remove_used_up(at);
    let object = if may_wait {
        None
    } else {
        cache.barn_of(&here.pcs()).take_reserved()
    };
    // The worker closes the rcu sheaves of CPUs, and refills the reserve.
    here.request_refill();
    object
}

/// Maximum number of grace periods that an allocation waits for. A callback may wait for one grace
/// period more than synchronize_rcu() does, and run some time after its end; a worker may follow
/// it.
const GRACE_PERIODS: usize = 4;

/// Waits for grace periods, if `gfp` allows that, until the cache is below its wait limit. Returns
/// whether the allocation may use another sheaf now.
///
/// # Context
///
/// As `gfp` says, never NMI.
pub(super) fn wait_below_limit(cache: &Cache, gfp: u32) -> bool {
    if slab::may_block(gfp) {
        for _ in 0..GRACE_PERIODS {
            gp::synchronize();
            if !cache.is_at_wait_limit() {
                return true;
            }
            gp::sleep_a_millisecond();
        }
    }
    slab::may_not_fail(gfp) || !cache.is_at_wait_limit()
}
