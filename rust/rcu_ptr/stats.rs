// SPDX-License-Identifier: GPL-2.0

//! Statistics of both engines, per CPU. A counter is one line here: debugfs.rs shows all of them
//! with these names and in this order.

use core::ops::{AddAssign, Index, IndexMut};

macro_rules! counters {
    ($($(#[$attr:meta])* $counter:ident = $name:literal,)*) => {
        /// Counted since the module was loaded.
        #[derive(Clone, Copy)]
        pub(crate) enum Counter {
            $($(#[$attr])* $counter,)*
        }

        /// The counters' names in debugfs.
        pub(crate) const NAMES: [&str; [$($name),*].len()] = [$($name),*];
    };
}

counters! {
    /// A slab object was stored in a block.
    QueuedSlab = "queued_slab",
    /// A vmalloc object was stored in a block.
    QueuedVmalloc = "queued_vmalloc",
    /// A gauge: objects and callbacks in blocks of engine `lockless`, which are told apart, and
    /// counted as such, only when their grace period has ended.
    QueuedMixed = "queued_mixed",
    /// An object was linked through its field.
    QueuedList = "queued_list",
    /// A callback was stored in a block. Engine `lockless` counts it when its grace period has
    /// ended.
    QueuedCall = "queued_call",
    /// A callback was linked through its head, as there was no block.
    QueuedCallList = "queued_call_list",
    /// The caller waited for a grace period itself.
    QueuedSync = "queued_sync",
    /// Subset of `queued_list`: objects of rcu_ptr_kfree_nolock() whose trylock succeeded (engine
    /// `rfc`).
    QueuedNolock = "queued_nolock",
    /// An object or callback was deferred and has been queued since; also counted above (engine
    /// `rfc`).
    Deferred = "deferred",
    /// An object was returned to its allocator.
    Freed = "freed",
    /// Subset of `freed`: a poll found the grace period ended before the RCU callback of the batch
    /// ran (engine `rfc`: before the object was in a batch).
    FreedPolled = "freed_polled",
    /// A callback has returned.
    Invoked = "invoked",
    /// A call was misuse: its object is leaked, or freed once if it was queued before. Or an object
    /// or callback is lost: in a list that misuse has broken, or by an internal error.
    Leaked = "leaked",
    /// A batch began to wait for a grace period.
    Batches = "batches",
    /// All batches were in use when another was needed.
    BatchesBusy = "batches_busy",
    /// A refill has allocated a block.
    Refilled = "refilled",
    /// A refill was delayed because of memory pressure.
    Backoffs = "backoffs",
    /// An unused block was freed: by the shrinker, for a lower limit, or as its CPU has died.
    Shrunk = "shrunk",
}

/// The counters of one CPU, or of several.
#[derive(Clone, Copy, Default)]
pub(crate) struct Stats(pub(crate) [u64; NAMES.len()]);

impl Stats {
    pub(crate) const fn new() -> Self {
        Self([0; NAMES.len()])
    }

    /// Each name with its value.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        NAMES.into_iter().zip(self.0)
    }
}

impl Index<Counter> for Stats {
    type Output = u64;

    #[inline]
    fn index(&self, counter: Counter) -> &u64 {
        &self.0[counter as usize]
    }
}

impl IndexMut<Counter> for Stats {
    #[inline]
    fn index_mut(&mut self, counter: Counter) -> &mut u64 {
        &mut self.0[counter as usize]
    }
}

impl AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        self.0
            .iter_mut()
            .zip(other.0)
            .for_each(|(sum, n)| *sum += n);
    }
}
