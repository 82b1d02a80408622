// SPDX-License-Identifier: GPL-2.0

//! What an NMI does in a test: it frees objects of a pool and counts. The test asserts.

use crate::{
    pool::Pool,
    route::Route,
    sys::{
        alloc::{self, Source},
        cpu::{self, Context},
    },
};
use kernel::sync::atomic::{Atomic, Relaxed};

/// The actor.
pub(crate) struct Actor<'a> {
    pool: &'a Pool,
    route: Route,
    burst: usize,
    /// NMIs that still do something; the others only count.
    left: Atomic<i64>,
    inside: Atomic<u64>,
    elsewhere: Atomic<u64>,
    allocated: Atomic<u64>,
}

impl<'a> Actor<'a> {
    /// Each of the next `acts` NMIs frees `burst` objects of `pool`.
    pub(crate) fn new(pool: &'a Pool, route: Route, burst: usize, acts: i64) -> Self {
        Self {
            pool,
            route,
            burst,
            left: Atomic::new(acts),
            inside: Atomic::new(0),
            elsewhere: Atomic::new(0),
            allocated: Atomic::new(0),
        }
    }

    /// The handler. Returns whether it was one of those that act.
    ///
    /// # Context
    ///
    /// Any, NMI included.
    pub(crate) fn fire(&self) -> bool {
        let counter = if cpu::context() == Context::Nmi {
            &self.inside
        } else {
            &self.elsewhere
        };
        counter.add(1, Relaxed);
        if self.left.load(Relaxed) <= 0 || self.left.fetch_sub(1, Relaxed) <= 0 {
            return false;
        }
        for object in (0..self.burst).map_while(|_| self.pool.take()) {
            // SAFETY: Handed out once, with a field there.
            unsafe { self.route.free(object.start, object.at) };
        }
        // What NMIs need most: an object made and freed in here.
        if let Some(object) = alloc::alloc(Source::KmallocNolock, 64) {
            self.allocated.add(1, Relaxed);
            // SAFETY: Just allocated.
            unsafe { self.route.free(object, 0) };
        }
        true
    }

    /// Whether all the NMIs that act have come.
    pub(crate) fn is_spent(&self) -> bool {
        self.left.load(Relaxed) <= 0
    }

    /// Interrupts that came `in_nmi()`.
    pub(crate) fn inside(&self) -> u64 {
        self.inside.load(Relaxed)
    }

    /// Interrupts that came in any other context.
    pub(crate) fn elsewhere(&self) -> u64 {
        self.elsewhere.load(Relaxed)
    }

    /// Objects that were made in the handler.
    pub(crate) fn allocated(&self) -> u64 {
        self.allocated.load(Relaxed)
    }
}
